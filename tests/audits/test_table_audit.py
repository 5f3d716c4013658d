"""Whole audits of tables: report 003's artefact, its sound and moved sisters, planted faults, and a theory for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fixtures.catalogue import Catalogue, make_catalogue, rows_of
from fixtures.factorised import sequences_of, sound_tables
from rectest.audits.table_audit import NO_INTERACTIONS, audit_rows, audit_table_files
from rectest.audits.theory import theory_of
from rectest.checks.embeddings import TableFacts
from rectest.checks.result import Verdict
from rectest.checks.rowsource import ArrayRows
from rectest.errors import DataError

FORM = {"finite", "padding_row", "norm", "zero_rows", "duplicates", "collapse", "near_duplicates", "hubness"}
FORM |= {"effective_rank", "one_direction", "dead_dimensions", "rows_match", "coverage", "popular_items"}


@pytest.fixture(scope="module")
def shop() -> Catalogue:
    return make_catalogue()


@pytest.fixture(scope="module")
def folder(shop: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report003")
    shop.write_map(path / "item_id_to_gcn_index.json")
    shop.write_sequences(path / "user_sequence.txt")
    return path


@pytest.fixture(scope="module")
def small() -> Catalogue:
    return make_catalogue(1500, num_users=2500)


@pytest.fixture(scope="module")
def small_folder(small: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small")
    small.write_map(path / "item_id_to_gcn_index.json")
    small.write_sequences(path / "user_sequence.txt")
    return path


def _audit(folder: Path, table: np.ndarray, **settings: object):
    np.save(folder / "gcn_item_embeddings.npy", table)
    asked = {"mapping": folder / "item_id_to_gcn_index.json", "interactions": folder / "user_sequence.txt", "norm": 1.0}
    return audit_table_files([folder / "gcn_item_embeddings.npy"], padding=0, **{**asked, **settings})


def _by_name(results) -> dict[str, Verdict]:
    return {result.check.removeprefix("embeddings/"): result.verdict for result in results}


def test_the_table_of_report_003_is_healthy_in_form_and_noise(shop: Catalogue, folder: Path) -> None:
    audit = _audit(folder, rows_of(shop.group))

    verdicts = _by_name(audit.results)
    assert FORM == {name for name, verdict in verdicts.items() if verdict is Verdict.PASS}
    assert verdicts["signal"] is Verdict.FAIL
    assert verdicts["isotropy"] is Verdict.SUSPICIOUS
    assert "give --interactions" not in next(r for r in audit.results if r.check == "embeddings/isotropy").advice
    assert audit.exit_code == 1
    assert audit.facts["sd"] == pytest.approx(0.125, abs=1e-4)
    assert audit.facts["rows"] == 12_102
    assert audit.facts["median norm by popularity decile"] == [1.0] * 10
    signal = next(result for result in audit.results if result.check == "embeddings/signal")
    assert "no collaborative signal" in signal.detail


def test_the_same_table_with_signal_is_green(shop: Catalogue, folder: Path) -> None:
    audit = _audit(folder, rows_of(shop.group, signal=2.0))

    assert [result.check for result in audit.findings] == []
    assert audit.exit_code == 0
    popular = next(result for result in audit.results if result.check == "embeddings/popular_items")
    assert popular.figure.startswith("B00")
    assert "events, row" in popular.figure


@pytest.mark.parametrize(("shift", "words"), [(1, "row i holds item i-1"), (-1, "row i holds item i+1")])
def test_the_same_table_rolled_is_called_shifted(shop: Catalogue, folder: Path, shift: int, words: str) -> None:
    table = rows_of(shop.group, signal=2.0)
    table[1:] = np.roll(table[1:], shift, axis=0)

    audit = _audit(folder, table)

    assert ["embeddings/signal"] == [result.check for result in audit.findings]
    assert words in audit.findings[0].figure


def test_a_table_in_the_order_of_the_sorted_ids_is_named(small: Catalogue, small_folder: Path) -> None:
    table = rows_of(small.group, signal=2.0)
    table[1:] = table[1 + np.argsort(small.raws)]

    audit = _audit(small_folder, table)

    assert "in the order of the sorted ids of the map" in audit.findings[0].figure


def test_a_table_by_popularity_is_named(small: Catalogue, small_folder: Path) -> None:
    table, moved = rows_of(small.group, signal=2.0), rows_of(small.group)
    counts = np.bincount(np.concatenate(small.sequences), minlength=len(table))
    known = np.flatnonzero(counts)
    first = {item: place for place, item in reversed(list(enumerate(np.concatenate(small.sequences).tolist())))}
    ranked = sorted(known.tolist(), key=lambda item: (-counts[item], first[item]))
    moved[1 : len(ranked) + 1] = table[ranked]

    audit = _audit(small_folder, moved)

    assert "popularity" in audit.findings[0].figure


def test_without_interactions_the_limits_of_the_answer_are_told(small: Catalogue, small_folder: Path) -> None:
    noise = _audit(small_folder, rows_of(small.group), interactions=None, mapping=None)
    good = _audit(small_folder, rows_of(small.group, signal=2.0), interactions=None, mapping=None)

    assert ["embeddings/isotropy"] == [result.check for result in noise.findings]
    assert good.exit_code == 0
    assert NO_INTERACTIONS in noise.notes
    assert NO_INTERACTIONS in good.notes


def test_a_map_of_another_first_index_is_off_by_one(small: Catalogue, small_folder: Path, tmp_path: Path) -> None:
    table = rows_of(small.group, signal=2.0)

    high = _audit(small_folder, table, mapping=small.write_map(tmp_path / "high.json", shift=1))
    low = _audit(small_folder, table, mapping=small.write_map(tmp_path / "low.json", shift=-1))

    found = {result.check: result for result in high.findings}
    assert "off by one" in found["embeddings/rows_match"].detail
    assert "row i holds item i+1" in found["embeddings/signal"].figure
    found = {result.check: result for result in low.findings}
    assert "off by one" in found["embeddings/rows_match"].detail
    assert "row i holds item i-1" in found["embeddings/signal"].figure


def _nan(table: np.ndarray) -> None:
    table[5, 3] = np.nan


def _zero(table: np.ndarray) -> None:
    table[9] = 0


def _padding(table: np.ndarray) -> None:
    table[0] = 0.1


def _copied(table: np.ndarray) -> None:
    table[7] = table[8]


def _rounded_copy(table: np.ndarray) -> None:
    table[7] = table[8].astype(np.float16) * np.float32(0.9)


def _long(table: np.ndarray) -> None:
    table[12] *= 1e4


def _collapsed(table: np.ndarray) -> None:
    table[1:] = table[1] + 1e-3 * table[1:]


def _dead_column(table: np.ndarray) -> None:
    table[:, 4] = 0


def _tiled(table: np.ndarray) -> None:
    table[:] = np.tile(table[:, :2], (1, table.shape[1] // 2))


def _hub(table: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    table[1:] = rng.normal(size=table[1:].shape) + rng.normal(size=table.shape[1])
    table[17] = table[1:].mean(axis=0)


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (_nan, "finite"),
        (_zero, "zero_rows"),
        (_padding, "padding_row"),
        (_copied, "duplicates"),
        (_rounded_copy, "near_duplicates"),
        (_long, "exploding"),
        (_collapsed, "collapse"),
        (_dead_column, "dead_dimensions"),
        (_tiled, "effective_rank"),
        (_hub, "hubness"),
    ],
)
def test_each_planted_fault_is_red(plant, check: str) -> None:
    rng = np.random.default_rng(0)
    table = (rng.normal(size=(12, 128))[rng.integers(0, 12, 800)] + rng.normal(size=(800, 128))).astype(np.float32)
    table[0] = 0
    facts = TableFacts(padding_row=0)
    before = [result.check for result in audit_rows(ArrayRows(table), "t", facts=facts).results if result.red]
    plant(table)

    red = {result.check for result in audit_rows(ArrayRows(table), "t", facts=facts).results if result.red}

    assert before == []
    assert f"embeddings/{check}" in red


def test_what_a_factorisation_does_is_a_warning() -> None:
    """Items with exactly the same users get equal rows there; which no training from random rows does."""
    table = np.random.default_rng(0).normal(size=(600, 32)).astype(np.float32)
    table[501] = table[500]

    found = {result.check: result for result in audit_rows(ArrayRows(table), "t").results}

    assert found["embeddings/duplicates"].verdict is Verdict.SUSPICIOUS
    assert found["embeddings/duplicates"].rows == "500-501"
    assert "factorisation" in found["embeddings/duplicates"].detail


@pytest.mark.parametrize("trained", [1, pytest.param(None, marks=pytest.mark.slow)])
def test_sound_tables_are_green(trained: int | None, tmp_path: Path) -> None:
    for words, world, table in sound_tables("words-small", trained=1) if trained else sound_tables():
        sequences, _ = sequences_of(world)
        lines = [" ".join([f"u{user}", *map(str, sequences[user].tolist())]) for user in range(len(sequences))]
        (tmp_path / "log.txt").write_text("\n".join(lines))
        np.save(tmp_path / "table.npy", table)

        audit = audit_table_files([tmp_path / "table.npy"], padding=0, interactions=tmp_path / "log.txt")

        assert [result.check for result in audit.findings] == [], words
        assert "no --mapping" in audit.notes[0]


def test_every_code_of_an_audit_has_a_theory(small: Catalogue, small_folder: Path) -> None:
    promised = _audit(small_folder, rows_of(small.group))
    other = _audit(small_folder, rows_of(small.group), norm=None)

    for result in (*promised.results, *other.results):
        assert theory_of(result.check).claim


def test_the_tiniest_tables_end(tmp_path: Path) -> None:
    for table in (np.zeros((1, 1)), np.ones((2, 1)), np.full((3, 2), np.nan), np.eye(2), np.full((4, 3), 1e300)):
        np.save(tmp_path / "t.npy", table)

        assert audit_table_files([tmp_path / "t.npy"]).exit_code in (0, 1)


def test_wrong_questions_are_refused(small: Catalogue, small_folder: Path) -> None:
    table = rows_of(small.group)

    np.save(small_folder / "gcn_item_embeddings.npy", table)
    with pytest.raises(ValueError, match="padding row 99999 is outside"):
        audit_table_files([small_folder / "gcn_item_embeddings.npy"], padding=99_999)
    with pytest.raises(ValueError, match="positive and finite"):
        audit_table_files([small_folder / "gcn_item_embeddings.npy"], norm=float("nan"))
    with pytest.raises(ValueError, match="no interactions"):
        audit_table_files([small_folder / "gcn_item_embeddings.npy"], item="x")
    with pytest.raises(DataError, match="is no row number"):
        _audit(small_folder, table, mapping=None)
