"""Data-parallel variants on real processes: controls stay green, faults turn their checks red with their cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from rectest.faults.parallel import ParallelRow, parallel_markdown, parallel_spec, parallel_table
from rectest.faults.variants import VARIANTS, variants_of
from rectest.record import RunSpec
from rectest.systems.registry import SYSTEMS
from rectest.training.launch import Launch

HOW = Launch(sys_path=[str(Path.cwd())], deadline=300)
TOY = RunSpec(system="fixtures.toy:ToySystem", world="tiny")


def expected(system: str) -> dict[str, tuple[str, str]]:
    """The verdict and the cause that each variant must have."""
    return {v.name: ("green" if v.is_control else "caught", v.cause) for v in variants_of(system)}


def obtained(rows: list[ParallelRow]) -> dict[str, tuple[str, str]]:
    return {row.variant.name: (row.verdict, row.cause.name) for row in rows}


@pytest.fixture(scope="module")
def toy() -> list[ParallelRow]:
    return parallel_table(TOY, (2,), how=HOW)


@pytest.fixture(scope="module")
def by_name(toy) -> dict[str, ParallelRow]:
    return {row.variant.name: row for row in toy}


def test_controls_are_green_and_faults_are_caught_with_their_cause(toy):
    assert expected("toy") == obtained(toy)


def test_the_six_rows_of_the_table(by_name):
    """Forward, loss / W, manual SUM: the scale of the gradient, and whether replicas agree."""
    found = {name: (round(row.scale, 4), row.replicas_agree) for name, row in by_name.items()}

    assert found["ddp"] == (1, True)
    assert found["ddp_divided_sum"] == (1, True)
    assert found["report_003"] == (1, True)
    assert found["loss_over_world"] == (0.5, True)
    assert found["ddp_sum"] == found["module_sum"] == (2, True)
    assert not found["never_reduced"][1]
    assert by_name["never_reduced"].error > 0.3


def test_a_row_prints(by_name):
    assert by_name["ddp_sum"].cells()[-6:] == ["2", "1.0000", "1", "yes", "summed_not_averaged", "caught"]
    assert by_name["never_reduced"].cells()[-3:] == ["NO", "never_reduced", "caught"]


def test_the_table_for_documents_has_a_row_for_each_variant(toy):
    lines = parallel_markdown(toy).splitlines()

    assert len(lines) == 2 + len(variants_of("toy"))
    assert lines[0] == "| variant | scale, cosine on 2 | cause that is named | seen in |"
    assert "| `loss_over_world` | 0.5, 1.000 | `divided_by_world` | 1 of 1 systems |" in lines


def test_every_fault_can_be_planted_in_two_systems_at_least():
    for variant in VARIANTS:
        assert sum(variant in variants_of(system) for system in SYSTEMS) >= 2


@pytest.mark.parametrize("system", [pytest.param("adaptive_sasrec", marks=pytest.mark.slow), "comirec"])
def test_what_only_some_systems_can_show(system):
    """Losses and layers that couple rows, tables that are treated apart."""
    chosen = [variant for variant in variants_of(system) if variant.systems]
    rows = parallel_table(system, (2,), variants=chosen, how=HOW)

    assert {name: pair for name, pair in expected(system).items() if name in obtained(rows)} == obtained(rows)
    assert len(rows) == len(chosen) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_every_variant_of_every_system_on_two_and_four_ranks(system):
    rows = parallel_table(system, (2, 4), how=HOW)

    for world_size in (2, 4):
        assert expected(system) == obtained([row for row in rows if row.world_size == world_size])


@pytest.mark.gpu
@pytest.mark.parametrize("system", ["comirec", "gram_c"])
def test_every_variant_on_the_gpu(system):
    """Two ranks share a GPU, or have one each."""
    rows = parallel_table(parallel_spec(system, device="cuda"), (2,), how=HOW)

    assert expected(system) == obtained(rows)
