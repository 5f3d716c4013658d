"""Data-parallel variants on real processes: controls stay green, faults turn their checks red, report 003's table."""

from __future__ import annotations

from pathlib import Path

import pytest

from rectest.faults.parallel import VARIANTS, ParallelRow, parallel_table
from rectest.record import RunSpec
from rectest.training.launch import Launch

HOW = Launch(sys_path=[str(Path.cwd())], deadline=240)
TOY = RunSpec(system="fixtures.toy:ToySystem", world="tiny")


@pytest.fixture(scope="module")
def rows() -> dict[str, ParallelRow]:
    return {row.variant.name: row for row in parallel_table(TOY, (2,), how=HOW)}


def test_controls_are_green_and_faults_are_caught(rows):
    verdicts = {name: row.verdict for name, row in rows.items()}
    expected = {v.name: "green" if v.is_control else "caught" for v in VARIANTS}

    assert expected == verdicts


def test_the_six_rows_of_the_table(rows):
    """Forward, loss / W, manual SUM: the scale of the gradient, and whether replicas agree."""
    found = {name: (round(row.scale, 4), row.replicas_agree) for name, row in rows.items()}

    assert found["ddp"] == (1, True)
    assert found["ddp_divided_sum"] == (1, True)
    assert found["report_003"] == (1, True)
    assert found["loss_over_world"] == (0.5, True)
    assert found["ddp_sum"] == found["module_sum"] == (2, True)
    assert not found["never_reduced"][1]
    assert rows["never_reduced"].error > 0.3


def test_causes_are_named(rows):
    assert "divided by the number of ranks" in rows["loss_over_world"].cause
    assert "summed over ranks" in rows["ddp_sum"].cause
    assert "never reduced" in rows["never_reduced"].cause
    assert "inside the accumulation" in rows["reduced_inside_accumulation"].cause
    assert "start with different weights" in rows["replicas_start_apart"].cause
    assert rows["report_003"].cause == ""


def test_a_row_prints(rows):
    assert rows["ddp_sum"].cells() == ["ddp_sum", "2", "2", "1.0000", "1", "yes", "caught"]
    assert rows["never_reduced"].cells()[-2:] == ["NO", "caught"]


@pytest.mark.slow
@pytest.mark.parametrize("system", ["adaptive_sasrec", "gram_c"])
def test_reference_systems_on_four_ranks(system):
    """Losses that are means over real targets, ragged histories, dropout, a tied table: the same verdicts."""
    verdicts = {row.variant.name: row.verdict for row in parallel_table(system, (4,), how=HOW)}

    assert {v.name: "green" if v.is_control else "caught" for v in VARIANTS} == verdicts
