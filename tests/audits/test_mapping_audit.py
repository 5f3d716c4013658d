"""The map of report 003, 12,101 ASINs and ISBNs for the rows 1 to 12101 of a table: sound, and each way to spoil it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.records import find, red_checks
from rectest.audits.mapping_audit import MapQuestions, audit_mapping_file
from rectest.audits.report import Audit
from rectest.audits.theory import theory_of
from rectest.audits.theory.mappings import THEORY
from rectest.errors import DataError

NUM_ITEMS = 12_101
Pairs = list[tuple[str, Any]]


def _asin(number: int) -> str:
    return f"{number * 7919 % 10**9:09d}X" if number % 10 == 0 else f"B{number * 104729 % 10**9:09d}"


PAIRS: Pairs = [(_asin(number), number) for number in range(1, NUM_ITEMS + 1)]


def _dump(pairs: Pairs) -> str:
    return "{" + ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in pairs) + "}"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report003")
    rng = np.random.default_rng(0)
    table = rng.standard_normal((NUM_ITEMS + 1, 64)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    table[0] = 0
    np.save(folder / "gcn_item_embeddings.npy", table)
    items = np.minimum(rng.zipf(1.3, (2000, 9)), NUM_ITEMS) - 1
    lines = [f"A{user:013d} {' '.join(PAIRS[i][0] for i in row)}" for user, row in enumerate(items.tolist())]
    (folder / "user_sequence.txt").write_text("\n".join(lines) + "\n")
    rows = [
        f"{user}\t{PAIRS[row[0]][0]}\t{' '.join(PAIRS[i][0] for i in row[1:])}"
        for user, row in enumerate(items.tolist())
    ]
    header = "user_id:token\titem_id:token\titem_id_list:token_seq\n"
    (folder / "data.inter").write_text(header + "\n".join(rows) + "\n")
    (folder / "sound.json").write_text(_dump(PAIRS))
    return folder


def _audit(files: Path, pairs: Pairs, **asked: Any) -> Audit:
    path = files / "item_id_to_gcn_index.json"
    path.write_text(_dump(pairs))
    wanted = {"table": files / "gcn_item_embeddings.npy", "key_pattern": "asin", "same_as": files / "sound.json"}
    interactions = (files / "user_sequence.txt", files / "data.inter")
    return audit_mapping_file(path, questions=MapQuestions(interactions=interactions, **(wanted | asked)))


def _edited(edit: Callable[[list[list[Any]]], object]) -> Pairs:
    pairs: list[list[Any]] = [list(pair) for pair in PAIRS]
    edit(pairs)
    return [(key, value) for key, value in pairs]


def _set(place: int, column: int, value: Any) -> Pairs:
    return _edited(lambda pairs: pairs[place].__setitem__(column, value))


def test_the_map_of_the_report_is_sound(files) -> None:
    audit = _audit(files, PAIRS, padding=0)

    assert set() == red_checks(audit.results)
    assert 0 == audit.exit_code
    assert {"form": "JSON object of indices", "entries": NUM_ITEMS, "indices": "1 to 12101"} == audit.facts
    assert "not at user_id" in audit.notes[-1]


def test_popular_items_are_named_with_count_index_and_norm(files) -> None:
    result = find(_audit(files, PAIRS).results, "mapping/popular_items", "item_id in user_sequence.txt")

    assert result.figure.startswith(f"'{PAIRS[0][0]}' ")
    assert "events, index 1, norm 1;" in result.figure
    assert 10 == result.rows.count("events")


def test_every_field_of_the_events_is_covered(files) -> None:
    subjects = {r.subject for r in _audit(files, PAIRS).results if r.check == "mapping/coverage"}

    assert {"item_id in user_sequence.txt", "item_id in data.inter", "item_id_list in data.inter"} == subjects


LOST = {"mapping/coverage", "mapping/popular_items"}
SAME = "mapping/one_vocabulary"


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (_set(6000, 0, _asin(6001).lower()), {"mapping/key_format"}),
        (_set(6000, 1, 6001.0), {"mapping/index_type"}),
        (_set(6000, 1, "6001"), {"mapping/index_type"}),
        (_set(6000, 1, None), {"mapping/index_type", "mapping/gaps", "mapping/one_vocabulary"}),
        ([*PAIRS[:6000], *PAIRS[6001:]], {"mapping/gaps"}),
        (_set(6000, 1, 7), {"mapping/shared_index", "mapping/gaps", "mapping/one_vocabulary"}),
        ([*PAIRS, PAIRS[6000]], {"mapping/bijection"}),
        ([*PAIRS, (PAIRS[6000][0], 12_102)], {"mapping/bijection", "mapping/table_rows", "mapping/table_index", SAME}),
        (_set(6000, 0, f" {_asin(6001)}"), {"mapping/key_format"}),
        (_set(0, 1, 0), {"mapping/padding", "mapping/gaps", "mapping/one_vocabulary", "mapping/popular_items"}),
        (_set(6000, 1, -1), {"mapping/first_index", "mapping/gaps", "mapping/table_index", "mapping/one_vocabulary"}),
    ],
    ids=["lower case", "float", "text", "null", "gap", "shared", "twice", "two rows", "space", "padding", "negative"],
)
def test_each_fault_is_named(files, pairs, expected) -> None:
    obtained = red_checks(_audit(files, pairs).results)

    assert expected == obtained


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_map_shifted_against_the_table_is_red(files, shift) -> None:
    results = _audit(files, [(raw, index + shift) for raw, index in PAIRS]).results

    found = red_checks(results)
    assert "mapping/table_rows" in found
    assert "mapping/one_vocabulary" in found
    assert ("mapping/padding" if shift < 0 else "mapping/table_index") in found
    assert f"each index of the second is {-shift:+d}" in find(results, "mapping/one_vocabulary").figure


def test_a_field_of_another_vocabulary_is_named_and_the_others_are_not(files) -> None:
    lines = (files / "data.inter").read_text().splitlines()
    rows = [line.rpartition("\t") for line in lines[1:]]
    other = [f"{head}\t{' '.join(str(len(word)) for word in words.split())}" for head, _, words in rows]
    (files / "mixed.inter").write_text("\n".join([lines[0], *other]) + "\n")

    audit = audit_mapping_file(files / "sound.json", questions=MapQuestions(interactions=(files / "mixed.inter",)))

    red = {(result.check, result.subject) for result in audit.results if result.red}
    assert {(check, "item_id_list in mixed.inter") for check in LOST} == red
    assert "another vocabulary" in find(audit.results, "mapping/coverage", "item_id_list in mixed.inter").detail


def test_a_popular_item_that_is_lost_is_named_with_its_events(files) -> None:
    results = _audit(files, PAIRS[1:]).results

    found = find(results, "mapping/coverage", "item_id in user_sequence.txt")
    assert found.worst.startswith(f"'{PAIRS[0][0]}', ")
    assert LOST <= red_checks(results)


def test_a_map_of_users_is_held_against_users(files) -> None:
    users = {f"A{user:013d}": user for user in range(2000)}
    path = files / "users.json"
    path.write_text(json.dumps(users))

    audit = audit_mapping_file(path, questions=MapQuestions(interactions=(files / "user_sequence.txt",)))

    assert set() == red_checks(audit.results)
    assert "user_id in user_sequence.txt" == find(audit.results, "mapping/coverage").subject


def test_maps_with_named_padding_and_maps_from_zero_are_green(files) -> None:
    path = files / "tokens.json"
    path.write_text(_dump([("[PAD]", 0), *PAIRS]))
    asked = MapQuestions(table=files / "gcn_item_embeddings.npy")

    assert set() == red_checks(audit_mapping_file(path, questions=asked).results)

    path.write_text(_dump([(raw, index - 1) for raw, index in PAIRS]))
    np.save(files / "from_zero.npy", np.load(files / "gcn_item_embeddings.npy")[1:])
    assert set() == red_checks(audit_mapping_file(path, questions=MapQuestions(table=files / "from_zero.npy")).results)


def test_columns_are_as_named_or_known(files) -> None:
    log = (files / "user_sequence.txt",)
    with pytest.raises(DataError, match="no column 'asin'; known: 'user_id', 'item_id'"):
        audit_mapping_file(files / "sound.json", questions=MapQuestions(interactions=log, columns=("asin",)))
    (files / "odd.csv").write_text("x,y\n1,2\n3,4\n")
    with pytest.raises(DataError, match="no column seems to hold ids"):
        audit_mapping_file(files / "sound.json", questions=MapQuestions(interactions=(files / "odd.csv",)))


def test_every_code_has_a_theory(files) -> None:
    codes = {result.check for result in _audit(files, PAIRS, padding=0).results} | {"mapping", "mapping/complete"}

    assert codes == set(THEORY)
    assert all(theory_of(code).claim for code in codes)


def test_ratings_are_no_ids_though_the_map_knows_their_numbers(tmp_path) -> None:
    """MovieLens has items 1 to 5 as well as ratings; a map that lacks item 5 is not asked for the rating 5."""
    (tmp_path / "map.json").write_text(_dump([(str(n), place) for place, n in enumerate([1, 2, 3, 4, 6, 7])]))
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    rows = [f"9{user}\t{item}\t{item % 5 + 1}\t{user}\n" for user in range(9) for item in (1, 2, 3, 4, 6, 7)]
    (tmp_path / "log.inter").write_text(header + "".join(rows))

    audit = audit_mapping_file(tmp_path / "map.json", questions=MapQuestions(interactions=(tmp_path / "log.inter",)))

    assert [result.subject for result in audit.results if result.check == "mapping/coverage"] == [
        "item_id in log.inter"
    ]
    assert not red_checks(audit.results)
