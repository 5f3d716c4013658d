"""The first difference of two tapes: never later than what was planted, and never where nothing was."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.tapes import NAMES, Script, changed, event, inserted, of, rewritten, run_of, table, written
from rectest.divergence.align import Symptom, find_symptom
from rectest.divergence.pairs import COMPUTATION, Pair, differs
from rectest.divergence.tapes import Event

scripts = st.builds(
    Script,
    steps=st.integers(1, 5),
    evaluate_every=st.integers(0, 2),
    dropout=st.booleans(),
    ranks=st.sampled_from([0, 2]),
    loader=st.booleans(),
)


def pair(first: list[Event], second: list[Event]) -> Pair:
    return Pair(process="main", first=run_of(first).tapes["main"], second=run_of(second).tapes["main"])


def symptom(first: list[Event], second: list[Event]) -> Symptom | None:
    return find_symptom(pair(first, second))


@settings(max_examples=30, deadline=None)
@given(scripts)
def test_equal_tapes_have_no_symptom(script: Script) -> None:
    assert symptom(written(script), written(script)) is None


@settings(max_examples=30, deadline=None)
@given(scripts)
def test_generators_that_nobody_seeded_and_nobody_uses_are_no_symptom(script: Script) -> None:
    script = replace(script, seeded=())

    assert symptom(written(script, run=0), written(script, run=1)) is None


@settings(max_examples=50, deadline=None)
@given(scripts, st.data())
def test_a_planted_difference_is_found_at_its_place_or_before(script: Script, data: st.DataObject) -> None:
    events = written(script)
    places = [place for place, item in enumerate(events) if item.kind in COMPUTATION]
    planted = data.draw(st.sampled_from(places))
    others = data.draw(st.lists(st.sampled_from(places), max_size=3))
    second = events
    for place in {planted, *others}:
        second = changed(
            second, place, tensor=data.draw(st.sampled_from(NAMES)) if events[place].info.get("names") else ""
        )

    found = symptom(events, second)

    assert found is not None
    assert found.evaluation or found.order <= _order(events[planted]) or events[planted].phase == "eval"


def _order(item: Event) -> tuple[int, int]:
    return (0 if item.kind == "init" else item.step), COMPUTATION.index(item.kind)


@settings(max_examples=30, deadline=None)
@given(scripts, st.data())
def test_one_planted_difference_is_found_exactly(script: Script, data: st.DataObject) -> None:
    events = written(script)
    planted = data.draw(st.sampled_from([p for p, item in enumerate(events) if item.kind in COMPUTATION]))

    found = symptom(events, changed(events, planted))

    assert found is not None
    assert (planted, planted) == found.places
    assert (events[planted].kind, events[planted].phase == "eval") == (found.kind, found.evaluation)


@settings(max_examples=20, deadline=None)
@given(scripts, st.data())
def test_sources_alone_are_no_symptom(script: Script, data: st.DataObject) -> None:
    events = written(script)
    sources = [place for place, item in enumerate(events) if item.kind in ("draw", "seed", "file", "environment")]

    assert symptom(events, changed(events, data.draw(st.sampled_from(sources)), value=7)) is None


def test_all_tensors_of_a_table_are_counted() -> None:
    events = written()
    place = of(events, "gradient", step=2)
    second = changed(changed(events, place, tensor=NAMES[3]), place, tensor=NAMES[1])

    found = symptom(events, second)

    assert found is not None
    assert ((NAMES[1], NAMES[3]), 4, NAMES[1]) == (found.names, found.num_names, found.name)


def test_fields_that_stay_equal_count_only_if_they_change_from_step_to_step() -> None:
    events = [replace(item, digest="0" * 32) if item.name == "loader0.user" else item for item in written()]

    found = symptom(events, changed(events, of(events, "batch", "neg", step=2)))

    assert found is not None
    assert ("loader0.seq", "loader0.pos") == found.equal_fields


def test_evaluation_in_one_run_only_is_passed_over() -> None:
    assert symptom(written(Script(evaluate_every=2)), written()) is None
    assert symptom(written(Script(evaluate_every=1)), written(Script(evaluate_every=2))) is None


def test_batches_of_an_evaluation_that_are_fetched_in_training_mode_belong_to_it() -> None:
    """A loop that iterates its loader outside of ``no_grad``: only the model's call shows that it evaluates."""
    first = [
        replace(item, phase="train") if item.kind == "batch" else item for item in written(Script(evaluate_every=2))
    ]

    assert symptom(first, written()) is None


def test_a_training_batch_that_was_fetched_before_an_evaluation_stays_one() -> None:
    def fetched_early(script: Script) -> list[Event]:
        events = written(script)
        batches = [item for item in events if item.kind == "batch" and item.step == 3 and "loader0" in item.name]
        rest = [item for item in events if item not in batches]
        return inserted(rest, next(p for p, item in enumerate(rest) if item.step == 3), *batches)

    assert symptom(fetched_early(Script(evaluate_every=2)), fetched_early(Script())) is None


def test_a_model_left_in_evaluation_mode_still_trains() -> None:
    events = [replace(e, phase="eval") if e.kind in ("input", "forward") and e.step > 2 else e for e in written()]

    found = symptom(events, changed(events, of(events, "forward", step=3)))

    assert found is not None
    assert ("forward", 3, False) == (found.kind, found.step, found.evaluation)


def test_a_call_that_only_one_run_makes_and_that_changes_nothing_is_no_symptom() -> None:
    events = written()
    more = inserted(events, of(events, "loss", step=2), event(2, "train", "forward", "SASRec", "look", type="SASRec"))

    assert symptom(events, more) is None


def test_a_call_that_only_one_run_makes_and_that_matters() -> None:
    events = written()
    more = inserted(events, of(events, "loss", step=2), event(2, "train", "forward", "SASRec.x", 1, type="Linear"))
    more = rewritten(more, lambda e: e.kind == "parameter" and e.step >= 2)

    found = symptom(events, more)

    assert found is not None
    assert ("forward", 2, "SASRec.x", True) == (found.kind, found.step, found.name, found.one_sided)


def test_a_state_counts_once_it_was_equal() -> None:
    """A generator that was seeded alike and has moved is a symptom; one that never was alike is none."""
    events = written(Script(seeded=("random", "torch")))
    unseeded = rewritten(events, lambda e: e.kind == "rng" and e.name == "numpy")
    later = rewritten(events, lambda e: e.kind == "rng" and e.name == "numpy" and e.step >= 3)

    assert symptom(events, unseeded) is None
    found = symptom(events, later)
    assert found is not None
    assert ("rng", "numpy", 3) == (found.kind, found.name, found.step)


def test_what_is_left_of_a_step_that_was_cut_is_no_difference() -> None:
    events = written(Script(steps=3))

    assert symptom(events, events[: of(events, "loss", step=3)]) is None
    assert symptom(events, changed(events, of(events, "input", step=3))[: of(events, "loss", step=3)]) is not None


def test_tables_differ_by_their_tensors() -> None:
    one = table(1, "train", "gradient", "optimizer0", {"a": 1, "b": 2})
    two = replace(one, info={**one.info, "each": "f" * 32})

    assert not differs(one, one)
    assert differs(one, two)
    assert differs(one, table(1, "train", "gradient", "optimizer0", {"a": 1, "b": 3}))


def test_arguments_that_are_computed_from_the_field_are_not_counted() -> None:
    """A module that is called by itself on what the model gave: its argument differs because the field does."""
    runs = []
    for content in ("one", "two"):
        events = written()
        after = event(2, "train", "input", "Head.hidden", content, dtype="torch.float32")
        runs.append(inserted(events, of(events, "loss", step=2), after))
    second = changed(runs[1], of(runs[1], "input", "neg", step=2))

    found = symptom(runs[0], second)

    assert found is not None
    assert (("SASRec.neg",), 4) == (found.names, found.num_names)


def test_an_argument_that_differs_in_the_second_call_of_a_step_only() -> None:
    """A pairwise loss scores the negatives and the positives with one model."""
    events = written()
    calls = [event(2, "train", "input", "SASRec.neg", "other call"), event(2, "train", "forward", "SASRec", "again")]
    events = inserted(events, of(events, "loss", step=2), *calls)
    second = changed(events, of(events, "loss", step=2) - 2)

    found = symptom(events, second)

    assert found is not None
    assert ("input", "SASRec.neg", ("SASRec.neg",)) == (found.kind, found.name, found.names)
    assert "SASRec.neg" not in found.equal_fields


def test_an_argument_that_differs_in_a_later_call_does_not_stay_equal() -> None:
    """Other users and other positives; the negatives, scored first, are the same numbers."""
    events = written()
    calls = [
        event(2, "train", "input", "SASRec.user", "positives", dtype="torch.int64"),
        event(2, "train", "input", "SASRec.neg", "positives", dtype="torch.int64"),
        event(2, "train", "forward", "SASRec", "again"),
    ]
    place = of(events, "loss", step=2)
    events = inserted(events, place, *calls)
    second = changed(changed(events, of(events, "input", "user", step=2)), place + 1)

    found = symptom(events, second)

    assert found is not None
    assert ("input", "SASRec.user") == (found.kind, found.name)
    assert "SASRec.neg" not in found.equal_fields


def test_a_computed_argument_is_a_forward() -> None:
    """A script that calls the parts of its model one by one hands the output of one to the next."""
    events = written()
    computed = event(2, "train", "input", "SASRec.states", "states", dtype="torch.float32", grad=True)
    events = inserted(events, of(events, "forward", step=2), computed)
    second = changed(events, of(events, "input", "states", step=2))

    found = symptom(events, second)

    assert found is not None
    assert ("forward", "SASRec.states") == (found.kind, found.name)
