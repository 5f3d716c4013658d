"""Stand-alone scripts in five styles: a planted fault gets the right stage and line, a control gets none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.why.catalogue import CONTROLS, FAULTS, FIXED_DRAWS
from fixtures.why.planted import Control, Planted, Replace, line_of, write_project
from fixtures.why.watching import is_identical, missing, python, record_tape, unlike, watch, watch_tapes
from rectest.divergence.finding import DIVERGED

NEGATIVES = next(fault for fault in FAULTS if fault.id == "plain_loop-negatives_unseeded")

PENALTY: Replace = (
    (
        "train.py",
        "        optimizer.zero_grad()\n",
        """        logits = model.encode(inputs) @ model.item_emb.weight.T
        loss = loss + 1e-4 * (logits.flatten() @ logits.flatten())
        optimizer.zero_grad()
""",
    ),
)
"""A sum that is long enough to be shared out among threads."""


def needs(style: str) -> None:
    if package := missing(style):
        pytest.skip(f"{package} is not installed in {python()}")


def check(planted: Planted, folder: Path) -> None:
    needs(planted.style)
    project = folder / "project"
    write_project(project, planted.style, planted.replace)

    watched = watch(project, *planted.arguments)

    assert [] == unlike(planted, watched, project), watched.text


@pytest.mark.slow
def test_clean_loop_is_identical(tmp_path):
    project = tmp_path / "project"
    write_project(project, "plain_loop")

    watched = watch(project, "--steps", "4")

    assert is_identical(watched), watched.text


def test_unseeded_negatives_are_named(tmp_path):
    check(replace(NEGATIVES, arguments=("--steps", "2")), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_fault_is_located(fault: Planted, tmp_path):
    check(fault, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.id)
def test_control_is_identical(control: Control, tmp_path):
    needs(control.style)
    project = tmp_path / "project"
    write_project(project, control.style, control.replace)

    watched = watch(project, *control.arguments)

    assert is_identical(watched), watched.text


@pytest.mark.slow
def test_evaluating_more_often_is_named_where_evaluation_draws(tmp_path):
    project = tmp_path / "project"
    write_project(project, "plain_loop", FIXED_DRAWS)
    tapes = [record_tape(project, tmp_path / f"{every}.tape", "--eval-every", every) for every in ("4", "3")]

    watched = watch_tapes(*tapes)

    assert (DIVERGED, "rng_evaluation") == (watched.finding.verdict, watched.finding.stage), watched.text
    assert "shown = torch.randint" in line_of(project, watched.finding.causes[0].site), watched.text


@pytest.mark.slow
def test_another_number_of_evaluations_that_draw_nothing_is_no_divergence(tmp_path):
    project = tmp_path / "project"
    write_project(project, "plain_loop")
    tapes = [record_tape(project, tmp_path / f"{every}.tape", "--eval-every", every) for every in ("4", "3")]

    watched = watch_tapes(*tapes)

    assert watched.finding.verdict != DIVERGED, watched.text


@pytest.mark.slow
def test_other_threads_are_an_environment_that_differs(tmp_path):
    project = tmp_path / "project"
    write_project(project, "plain_loop", PENALTY)
    tapes = [
        record_tape(project, tmp_path / f"{threads}.tape", "--batch-size", "128", threads=threads)
        for threads in ("1", "2")
    ]

    watched = watch_tapes(*tapes)

    assert (DIVERGED, "environment") == (watched.finding.verdict, watched.finding.stage), watched.text
    assert "threads" == watched.finding.causes[0].kind, watched.text
