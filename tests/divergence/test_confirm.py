"""Confirmation against planted worlds: which pins take which divergences away is known, and luck is planted, too."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.divergence.confirm import GENERAL, Confirmed, confirm, has_moved
from rectest.divergence.finding import DIVERGED, IDENTICAL, UNKNOWN, Cause, Finding
from rectest.errors import WatchError

SAME = Finding(verdict=IDENTICAL, num_steps=(9, 9))


def cause(pin: str, **changes: object) -> Cause:
    return Cause(kind="generator", what=f"source {pin}", site=f"train.py:{len(pin)}:f", pin=pin, **changes)


def parted(*pins: str, step: int = 1, stage: str = "negatives", name: str = "batch.neg") -> Finding:
    return Finding(
        verdict=DIVERGED, stage=stage, step=step, name=name, nature="other numbers", causes=tuple(map(cause, pins))
    )


class Planted:
    """A script with sources of difference: (needed pins, what is found while one of them is missing), in order."""

    def __init__(self, *sources: tuple[set[str], Finding], broken: str = "") -> None:
        self.sources, self.broken = sources, broken
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, pins: tuple[str, ...]) -> Finding:
        self.asked.append(pins)
        if self.broken in pins:
            msg = f"the script failed with {self.broken}"
            raise WatchError(msg)
        return next((found for needed, found in self.sources if not needed <= {*pins}), SAME)


def pins_of(confirmed: Confirmed) -> list[str]:
    return [each.pin for each in confirmed.causes]


def test_a_pin_that_helps_is_confirmed_once_it_was_seen_to_part_again_without():
    found = parted("site:a")
    rerun = Planted(({"site:a"}, found))
    confirmed = confirm(found, rerun)

    assert rerun.asked == [("site:a",), ()]
    assert [trial.outcome for trial in confirmed.trials] == ["gone", "shown again"]
    assert pins_of(confirmed) == ["site:a"]
    assert confirmed.identical
    assert confirmed.shown == (2, 2)
    assert confirmed.applied_to(found).causes == (cause("site:a", confirmed=True),)


def test_what_does_not_help_is_not_the_cause():
    found = parted("site:a", "site:b")
    confirmed = confirm(found, Planted(({"site:b"}, found)))

    assert pins_of(confirmed) == ["site:b"]
    assert [each.pin for each in confirmed.refuted] == ["site:a"]
    assert [(each.pin, each.confirmed) for each in confirmed.applied_to(found).causes] == [
        ("site:b", True),
        ("site:a", False),
    ]


def test_nothing_is_confirmed_when_no_pin_helps():
    found = parted("site:a")
    confirmed = confirm(found, Planted(({"no such pin"}, found)))

    assert confirmed.causes == ()
    assert not confirmed.identical
    assert {trial.outcome for trial in confirmed.trials} == {"unchanged"}
    assert [each.pin for each in confirmed.refuted] == ["site:a", *GENERAL]
    assert confirmed.final == found


def test_two_causes_one_after_the_other():
    first, second = parted("site:a"), parted("seed:torch", step=4, stage="forward", name="SASRec")
    rerun = Planted(({"site:a"}, first), ({"seed:torch"}, second))
    confirmed = confirm(first, rerun)

    assert rerun.asked == [("site:a",), (), ("site:a", "seed:torch"), ("site:a",)]
    assert pins_of(confirmed) == ["site:a", "seed:torch"]
    assert confirmed.identical


def test_three_causes():
    first, second = parted("a"), parted("b", stage="forward", name="SASRec")
    third = parted("c", step=7)
    confirmed = confirm(first, Planted(({"a"}, first), ({"b"}, second), ({"c"}, third)))

    assert pins_of(confirmed) == ["a", "b", "c"]
    assert confirmed.identical
    assert len(confirmed.trials) == 6


def test_the_one_that_remains_is_told():
    first, second = parted("a"), parted(step=5, stage="backward", name="SASRec.item_emb.weight")
    confirmed = confirm(first, Planted(({"a"}, first), ({"nothing"}, second)), limit=20)

    assert pins_of(confirmed) == ["a"]
    assert not confirmed.identical
    assert confirmed.final == second
    assert not confirmed.limited


def test_two_that_do_it_together_are_found_as_a_group():
    found = parted("a", "b")
    confirmed = confirm(found, Planted(({"a", "b"}, found)))

    assert pins_of(confirmed) == ["a", "b"]
    assert [trial.pins for trial in confirmed.trials] == [("a",), ("b",), ("a", "b"), ()]
    assert confirmed.refuted == ()


def test_a_member_of_a_group_that_is_not_needed_is_left_out():
    found = parted("a", "b", "c")
    confirmed = confirm(found, Planted(({"a", "c"}, found)), limit=20)

    assert pins_of(confirmed) == ["a", "c"]
    assert [each.pin for each in confirmed.refuted] == ["b"]
    assert confirmed.identical


@pytest.mark.parametrize("pin", GENERAL)
def test_without_a_suspect_cheap_general_pins_are_tried_in_their_order(pin):
    found = parted(stage="loss", name="loss")
    rerun = Planted(({pin}, found))
    confirmed = confirm(found, rerun)

    assert pins_of(confirmed) == [pin]
    assert [pins[0] for pins in rerun.asked[:-1]] == list(GENERAL)[: list(GENERAL).index(pin) + 1]
    assert confirmed.causes[0].advice
    assert confirmed.applied_to(found).causes == confirmed.causes


def test_a_pin_that_breaks_the_script_could_not_be_tried():
    found = parted("a", "b")
    confirmed = confirm(found, Planted(({"b"}, found), broken="a"))

    assert confirmed.trials[0].outcome == "could not be tried"
    assert confirmed.trials[0].problem == "the script failed with a"
    assert pins_of(confirmed) == ["b"]
    assert confirmed.refuted == ()


def test_runs_that_cannot_be_compared_prove_nothing():
    found = parted("a")
    unknown = Finding(verdict=UNKNOWN, reason="no step was recorded")
    confirmed = confirm(found, lambda _: unknown, limit=3)

    assert confirmed.causes == ()
    assert [trial.problem for trial in confirmed.trials] == ["no step was recorded"] * 3
    assert confirmed.limited


def test_a_difference_that_stays_away_by_luck_is_not_confirmed():
    found = parted("a")
    confirmed = confirm(found, lambda _: SAME)

    assert confirmed.causes == ()
    assert confirmed.intermittent
    assert confirmed.shown == (1, 2)
    assert not confirmed.identical
    assert confirmed.applied_to(found) == found


def test_a_difference_that_moves_by_luck_is_not_confirmed():
    found, later = parted("a", step=1), parted("a", step=3)
    confirmed = confirm(found, lambda _: later)

    assert confirmed.causes == ()
    assert confirmed.intermittent


def test_the_run_that_shows_it_again_need_not_go_beyond_the_step():
    found, asked = parted("a", step=5), []

    def show_again(pins: tuple[str, ...], step: int) -> Finding:
        asked.append((pins, step))
        return found

    confirmed = confirm(found, lambda _: SAME, show_again=show_again)

    assert asked == [((), 5)]
    assert confirmed.identical


def test_the_limit_is_kept_and_nothing_unseen_is_confirmed():
    found = parted("a")
    confirmed = confirm(found, Planted(({"a"}, found)), limit=1)

    assert confirmed.causes == ()
    assert confirmed.limited
    assert not confirmed.identical


def test_a_cause_without_a_pin_and_a_pin_given_twice_cost_nothing():
    found = replace(parted("a", "a"), causes=(replace(cause("a"), pin=""), cause("a"), replace(cause("a"), site="x")))
    rerun = Planted(({"hash"}, found))

    assert pins_of(confirm(found, rerun)) == ["hash"]
    assert rerun.asked == [("a",), ("hash",), ()]


@pytest.mark.parametrize(
    ("after", "moved"),
    [
        (SAME, True),
        (parted(step=3), True),
        (parted(stage="forward", step=2), True),
        (parted(stage="batch_order", step=2), True),
        (parted(name="batch.hard", step=2), True),
        (parted(step=2), False),
        (parted(step=1), False),
        (parted(stage="init", step=2), False),
        (parted(stage="forward", step=1), False),
    ],
)
def test_moved_is_later_and_never_earlier(after, moved):
    assert has_moved(parted(step=2), after) is moved


@pytest.mark.parametrize("finding", [SAME, Finding(verdict=UNKNOWN)])
def test_only_a_divergence_can_be_confirmed(finding):
    with pytest.raises(ValueError, match="a divergence"):
        confirm(finding, lambda _: SAME)


@given(data=st.data(), num=st.integers(1, 4), limit=st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_never_more_than_is_shown(data, num, limit):
    """Whatever is needed: confirmed causes were held still in a rerun that helped, and the limit holds."""
    pins = [f"p{k}" for k in range(num)]
    stages = [data.draw(st.sets(st.sampled_from([*pins, "hidden"]), min_size=1, max_size=2)) for _ in range(num)]
    sources = [(needed, parted(*sorted(needed - {"hidden"}), step=k + 1)) for k, needed in enumerate(stages)]
    rerun = Planted(*sources)
    found = rerun(())
    rerun.asked.clear()
    confirmed = confirm(found, rerun, limit=limit)
    held = tuple(pins_of(confirmed))

    assert len(rerun.asked) <= limit
    assert len(set(held)) == len(held)
    assert confirmed.identical == (bool(held) and rerun(held).verdict == IDENTICAL)
    assert not held or rerun(held) == confirmed.final
    assert all(has_moved(rerun(held[:k]), rerun(held)) for k in range(len(held)))


def test_trials_can_be_stored():
    found = parted("a")
    rows = [trial.to_dict() for trial in confirm(found, Planted(({"a"}, found))).trials]

    assert list(itertools.chain.from_iterable(row["pins"] for row in rows)) == ["a"]
    assert rows[0]["tried"] == [{"what": "source a", "site": "train.py:1:f", "pin": "a"}]
    assert rows[1]["finding"] == {"verdict": DIVERGED, "stage": "negatives", "step": 1, "name": "batch.neg"}


@pytest.mark.parametrize(("pin", "expected"), [("site:a", 3), ("pristine", 0)])
def test_runs_that_show_a_leftover_again_go_to_their_end(pin, expected):
    """A checkpoint is written at the end: runs that stop at the first step that differs would leave none."""
    found, steps = parted(pin, step=3), []

    def show_again(pins: tuple[str, ...], step: int) -> Finding:
        steps.append(step)
        return found

    confirmed = confirm(found, Planted(({pin}, found)), show_again=show_again)

    assert steps == [expected]
    assert confirmed.identical


@pytest.mark.parametrize(("stage", "step"), [("id_map", 0), ("data", 1), ("cache", 1)])
def test_the_same_tensor_under_the_name_of_another_stage_has_not_moved(stage, step):
    """A set of objects, ordered by their addresses: without the hash seed as a suspect it is a batch, and no proof."""
    before = parted("hash", stage=stage, step=step, name="M.user")

    assert not has_moved(before, parted(stage="batch", step=1, name="M.user"))
    assert has_moved(before, parted(stage="batch", step=1, name="M.item"))
    assert has_moved(before, parted(stage="batch", step=2, name="M.user"))
