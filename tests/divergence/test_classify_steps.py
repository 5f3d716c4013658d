"""Stages that show only from one step to the next, in made-up tapes."""

from __future__ import annotations

from dataclasses import replace

from fixtures.tapes import (
    NAMES,
    SITES,
    Script,
    after,
    evaluating,
    event,
    found,
    inserted,
    of,
    other_draws,
    table,
    written,
)
from rectest.divergence.tapes import Event

NEGATIVES = SITES["negatives"]


def test_a_parameter_that_moved_between_two_steps_was_not_moved_by_the_optimizer() -> None:
    second = written()
    place = next(k for k, e in enumerate(second) if e.kind == "weights" and e.step == 3)
    contents = {**dict.fromkeys(NAMES, ("weights", 3)), NAMES[0]: "clamped"}
    second[place] = table(3, "train", "weights", "SASRec", contents)

    finding = found(written(), after(second, "forward", step=3))

    assert ("optimizer", 3, NAMES[0]) == (finding.stage, finding.step, finding.name)
    assert finding.nature == "other arithmetic"
    assert any("1 of 4 parameters, changed outside of the optimizer's step" in text for text in finding.evidence)


def test_ids_drawn_in_every_step_are_negatives_from_the_first_step_on() -> None:
    script = Script(seeded=("random", "torch"), loader=False)
    second = other_draws(written(script, run=1), NEGATIVES)

    finding = found(written(script), after(second, "loss"))

    assert ("negatives", 1) == (finding.stage, finding.step)
    assert finding.nature == "other numbers"


def drawn_with_gradients(site: str, *, draws: bool) -> list[Event]:
    """The evaluation draws before it switches gradients off."""
    events = evaluating(draws=draws)
    return [replace(e, phase="train", site=site) if e.site == SITES["eval"] and e.kind == "draw" else e for e in events]


def test_what_is_drawn_to_prepare_an_evaluation_belongs_to_it() -> None:
    finding = found(*(drawn_with_gradients("train.py:88:show", draws=draws) for draws in (True, False)))

    assert ("rng_evaluation", "train.py:88:show") == (finding.stage, finding.causes[0].site)


def test_extra_draws_between_two_steps_of_training_are_none_of_evaluation() -> None:
    """The control: the model is called for training next."""
    first, second = (drawn_with_gradients("train.py:88:show", draws=draws) for draws in (True, False))
    first = [e for e in first if not (e.phase == "eval" and e.kind in ("input", "forward"))]

    assert found(first, second).stage != "rng_evaluation"


def test_batches_in_another_order_are_laid_to_the_workers_and_not_to_a_program_that_a_package_asks() -> None:
    orders = ((1, 2, 3, 4, 5, 6), (1, 3, 2, 5, 4, 6))
    original = written(Script(steps=6))
    runs = []
    for order in orders:
        events = [
            replace(item, digest=original[of(original, item.kind, item.name, step=order[item.step - 1])].digest)
            if item.kind in ("batch", "input")
            else item
            for item in original
        ]
        package = event(1, "setup", "process", "main.1", "", "site-packages/cuda/load.py:29:find", how="Popen")
        workers = [event(1, "setup", "process", f"main.{k}", "", "train.py:64:main", how="Process") for k in (2, 3)]
        runs.append(inserted(events, of(events, "batch"), package, *workers))

    finding = found(*runs)

    assert ("batch_order", "train.py:64:main") == (finding.stage, finding.causes[0].site)
    assert finding.causes[0].what.startswith("2 processes")
