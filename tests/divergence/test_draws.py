"""What is read from two tapes beside the comparison: draws by line, environments, orders of sets."""

from __future__ import annotations

import pytest

from fixtures.findings import digest, write_tape
from rectest.divergence.draws import draw_table, environment_of, order_causes
from rectest.divergence.tapes import Run, load_run


def order(*names: str, site: str = "vocabulary.py:3:build", source: str = "set(items)") -> list[object]:
    return [1, "setup", "order", source, digest(names), site, None]


def runs(tmp_path, first: list[object], second: list[object]) -> tuple[Run, Run]:
    return tuple(
        load_run(write_tape(tmp_path / f"{place}.tape", begun=events)) for place, events in enumerate((first, second))
    )


def test_draws_are_one_row_a_line_and_generator(tmp_path):
    pair = [load_run(write_tape(tmp_path / f"{value}.tape", steps=3, negatives=value)) for value in (1, 2)]
    (row,) = draw_table(*pair)

    assert row.site == "sampler.py:5:sample"
    assert row.function == "numpy.random.Generator.integers"
    assert row.generator == "numpy@sampler.py:2#1"
    assert row.count == (12, 12)
    assert row.first_step == 0
    assert not row.equal
    assert all(each.equal for each in draw_table(pair[0], pair[0]))


def test_a_draw_that_one_run_alone_made_differs_and_comes_first(tmp_path):
    extra = [2, "eval", "draw", "random.random", digest("x"), "evaluate.py:9:f", {"generator": "random", "count": 2}]
    pair = runs(tmp_path, [], [extra])
    rows = draw_table(*pair)

    assert [(row.function, row.count, row.equal) for row in rows] == [
        ("random.random", (0, 2), False),
        ("numpy.random.Generator.integers", (12, 12), True),
    ]
    assert rows[0].first_step == 2


def test_environments_are_flat_and_the_last_value_holds(tmp_path):
    changed = [1, "train", "environment", "torch", "", "", {"threads": 2, "tf32": ["a", "b"]}]
    run = load_run(write_tape(tmp_path / "a.tape", begun=[changed]))

    assert environment_of(run) == {"python": "3.11", "env.OMP_NUM_THREADS": "1", "threads": "2", "tf32": "a b"}


@pytest.mark.parametrize("times", [1, 2])
def test_the_first_set_in_another_order_is_the_cause(tmp_path, times):
    same = order("a", "b", site="log.py:1:f", source="seen")
    pair = runs(tmp_path, [same, *[order("a", "b")] * times], [same, *[order("b", "a")] * times])
    (cause,) = order_causes(*pair)

    assert cause.site == "vocabulary.py:3:build"
    assert cause.advice == "iterate over sorted(set(items))"
    assert cause.pin == "hash"
    assert cause.step == 0


def test_an_order_that_is_only_in_one_run_differs(tmp_path):
    assert len(order_causes(*runs(tmp_path, [order("a")], []))) == 1


def test_equal_orders_are_no_cause(tmp_path):
    events = [order("a", "b"), order("b", "a")]

    assert order_causes(*runs(tmp_path, events, events)) == ()


def test_a_few_orders_are_enough(tmp_path):
    first, second = ([order(*names, site=f"m.py:{k}:f") for k in range(9)] for names in ("ab", "ba"))

    assert [cause.site for cause in order_causes(*runs(tmp_path, first, second))] == [f"m.py:{k}:f" for k in range(3)]
