"""The reference systems with planted faults: the right stage, and the right line of the right file."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from fixtures.why.planted import line_of
from fixtures.why.system_plants import EVALUATION_FAULTS, FAULTS, SYSTEMS, PlantedSystem
from fixtures.why.watching import ROOT, Watched, is_identical, record_tape, watch, watch_tapes
from rectest.divergence.finding import DIVERGED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training needs of this repository, as a project that is copied for every run."""
    folder = tmp_path_factory.mktemp("systems") / "project"
    for name in ("rectest", "fixtures"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def command(system: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "fixtures.why.system_script", system, *arguments]


def unlike(fault: PlantedSystem, watched: Watched, project: Path) -> list[str]:
    """What is wrong with an answer."""
    finding = watched.finding
    if finding.verdict != DIVERGED:
        return [f"the verdict is {finding.verdict!r} ({finding.reason})"]
    wrong = [] if finding.stage in fault.stages else [f"the stage is {finding.stage!r}, not {fault.stages}"]
    site = finding.causes[0].site if finding.causes else ""
    line = line_of(project, site).strip()
    if site.partition(":")[0] != fault.file or fault.site not in line:
        wrong.append(f"the line is {site!r} ({line}), not {fault.site!r} in {fault.file}")
    return wrong


@pytest.mark.parametrize("system", SYSTEMS)
def test_clean_system_is_identical(system: str, project: Path):
    watched = watch(project, command=command(system))

    assert is_identical(watched), watched.text


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_fault_is_located(fault: PlantedSystem, project: Path):
    watched = watch(project, command=command(fault.system, "--plant", fault.plant))

    assert [] == unlike(fault, watched, project), watched.text


@pytest.mark.parametrize("fault", EVALUATION_FAULTS, ids=lambda fault: fault.id)
def test_evaluation_that_draws_is_located_by_another_schedule(fault: PlantedSystem, project: Path, tmp_path: Path):
    tapes = [
        record_tape(
            project,
            tmp_path / f"{every}.tape",
            command=command(fault.system, "--plant", fault.plant, "--eval-every", every),
        )
        for every in ("3", "2")
    ]

    watched = watch_tapes(*tapes)

    assert [] == unlike(fault, watched, project), watched.text


@pytest.mark.parametrize("system", ["adaptive_sasrec", "comirec"])
def test_another_schedule_of_a_clean_system_is_no_divergence(system: str, project: Path, tmp_path: Path):
    tapes = [
        record_tape(project, tmp_path / f"{every}.tape", command=command(system, "--eval-every", every))
        for every in ("3", "2")
    ]

    assert DIVERGED != watch_tapes(*tapes).finding.verdict


def test_training_in_a_child_of_the_command_is_watched(project: Path):
    watched = watch(project, command=[sys.executable, "-m", "rectest", "train", "comirec", "--steps", "4"])

    assert is_identical(watched), watched.text
    assert (4, 4) == watched.finding.num_steps
