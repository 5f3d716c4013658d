"""Every stage, planted once in a made-up tape, and named with its step, its tensor and its nature."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.tapes import (
    NAMES,
    SITES,
    Script,
    after,
    changed,
    draw,
    evaluating,
    event,
    found,
    hashed,
    inserted,
    of,
    other_draws,
    other_fields,
    rewritten,
    run_of,
    table,
    written,
)
from rectest.divergence.compare import compare_runs
from rectest.divergence.finding import Finding
from rectest.divergence.tapes import Event

NEGATIVES, SHUFFLE = SITES["negatives"], SITES["shuffle"]


def test_negatives_from_a_global_generator_that_nobody_seeded() -> None:
    script = Script(seeded=("random", "torch"))
    second = other_fields(other_draws(written(script, run=1), NEGATIVES), "neg")

    finding = found(written(script), after(second, "forward"))

    cause = finding.causes[0]
    assert ("negatives", 1, "loader0.neg") == (finding.stage, finding.step, finding.name)
    assert ("generator", NEGATIVES, "seed:numpy") == (cause.kind, cause.site, cause.pin)
    assert cause.num_draws == 4 * 64
    assert "never seeded" in cause.what
    assert finding.nature == "other numbers"
    assert any("loader0.user" in sentence and "equal" in sentence for sentence in finding.evidence)


def test_other_examples_are_a_batch() -> None:
    script = Script(seeded=("random", "numpy"))
    second = other_fields(other_draws(written(script, run=1), SHUFFLE), "user", "seq", "pos", "neg")

    finding = found(written(script), after(second, "forward"))

    assert ("batch", 1, "loader0.user") == (finding.stage, finding.step, finding.name)
    assert (SHUFFLE, "seed:torch") == (finding.causes[0].site, finding.causes[0].pin)


def test_initial_parameters_come_before_batches_and_name_their_draw() -> None:
    script = Script(seeded=("random", "numpy"))
    second = other_draws(other_draws(written(script, run=1), SITES["init"]), SHUFFLE)
    second = other_fields(second, "user", "seq", "pos")
    second = changed(second, of(second, "init"), tensor=NAMES[2])

    finding = found(written(script), after(second, "forward"))

    assert ("init", 0, NAMES[2]) == (finding.stage, finding.step, finding.name)
    assert ("generator", SITES["init"], "seed:torch") == (
        finding.causes[0].kind, finding.causes[0].site, finding.causes[0].pin)  # fmt: skip
    assert any("1 of 4 initial tensors" in sentence for sentence in finding.evidence)


def test_the_same_batches_in_another_order_are_batch_order_and_point_to_the_queue() -> None:
    runs = []
    for order in ((1, 2, 3, 4, 5, 6), (1, 3, 2, 5, 4, 6)):
        events = written(Script(steps=6))
        for step, source in enumerate(order, start=1):
            taken = event(step, "setup" if step == 1 else "train", "queue", "queue@data.py:60", source % 2,
                          "data.py:77:next_batch", count=1, producers=2)  # fmt: skip
            events = inserted(events, of(events, "batch", step=step), taken)
        original = written(Script(steps=6))
        for place, item in enumerate(events):
            if item.kind in ("batch", "input"):
                source = original[of(original, item.kind, item.name, step=order[item.step - 1])]
                events[place] = replace(item, digest=source.digest)
        runs.append(events)

    finding = found(*runs)

    cause = finding.causes[0]
    assert ("batch_order", 2, "other input") == (finding.stage, finding.step, finding.nature)
    assert ("queue", "data.py:77:next_batch", "queue") == (cause.kind, cause.site, cause.pin)
    assert any("100%" in sentence for sentence in finding.evidence)


def test_ids_from_a_set_are_an_id_map_without_a_line() -> None:
    finding = found(hashed(0), hashed(1))

    cause = finding.causes[0]
    assert ("id_map", 0, "other input") == (finding.stage, finding.step, finding.nature)
    assert ("hash_order", "", "hash") == (cause.kind, cause.site, cause.pin)
    assert "sorted" in cause.advice


def test_an_unsorted_listing_is_other_data() -> None:
    runs = []
    for run in (0, 1):
        names = [event(1, "setup", "listing", "shards", run, "data.py:9:load")]
        order = ("a", "b") if run == 0 else ("b", "a")
        names += [event(1, "setup", "file", f"shards/{n}.csv", n, "data.py:10:load", mode="r") for n in order]
        runs.append(inserted(hashed(run), 5, *names))

    finding = found(*runs)

    assert ("data", "listing", "listing") == (finding.stage, finding.causes[0].kind, finding.causes[0].pin)
    assert finding.causes[0].site == "data.py:9:load"


def test_another_file_is_other_data() -> None:
    second = other_fields(written(), "user", "seq", "pos", "neg")
    second = changed(second, of(second, "file"))

    finding = found(written(), second)

    assert ("data", "file", "data.py:8:load") == (finding.stage, finding.causes[0].kind, finding.causes[0].site)


def leftover(name: str, *, kind: str) -> Finding:
    site = "train.py:30:main"
    first = [*written(), event(4, "train", "file", name, "", "train.py:99:main", mode="w")]
    second = written()
    second = changed(second, of(second, kind))
    second = inserted(second, 6, event(1, "setup", "file", name, "content", site, mode="r", size=10))
    if kind == "batch":
        second = other_fields(second, "user", "seq", "pos", "neg")
    return found(first, second)


def test_a_checkpoint_that_the_first_run_left_is_a_resume() -> None:
    finding = leftover("out/checkpoint_last.pt", kind="init")

    cause = finding.causes[0]
    assert ("resume", 0) == (finding.stage, finding.step)
    assert ("file", "train.py:30:main", "pristine") == (cause.kind, cause.site, cause.pin)
    assert "out/checkpoint_last.pt" in cause.what


def test_another_leftover_is_a_cache() -> None:
    finding = leftover("cache/tokens.npz", kind="batch")

    assert ("cache", "file", "pristine") == (finding.stage, finding.causes[0].kind, finding.causes[0].pin)


def test_a_checkpoint_that_both_runs_read_but_the_first_had_changed() -> None:
    name = "model.ckpt"
    first = inserted(written(), 6, event(1, "setup", "file", name, "old", "train.py:30:main", mode="r"))
    first.append(event(4, "train", "file", name, "", "train.py:99:main", mode="w"))
    second = inserted(written(), 6, event(1, "setup", "file", name, "new", "train.py:30:main", mode="r"))
    second = changed(second, of(second, "init"))

    assert found(first, second).stage == "resume"


def test_dropout_from_another_stream_is_a_forward_with_other_numbers() -> None:
    name = "torch@model.py:9#1"
    runs = []
    for run in (0, 1):
        events = []
        for item in written(Script(dropout=True)):
            if item.site == SITES["dropout"]:
                item = replace(item, info={**item.info, "generator": name})
                if item.step == 1:
                    events.append(
                        event(1, "train", "seed", name, run, "model.py:9:__init__", value=None, how="created")
                    )
            events.append(item)
        runs.append(other_draws(events, SITES["dropout"]) if run else events)

    finding = found(runs[0], after(runs[1], "forward", "SASRec.layers"))

    assert ("forward", "other numbers") == (finding.stage, finding.nature)
    assert ("model.py:9:__init__", SITES["dropout"]) == (finding.causes[0].site, finding.causes[0].drawn_at)


def test_negatives_drawn_inside_the_loss_are_negatives() -> None:
    site, name = "loss.py:7:sampled", "torch@loss.py:5#1"
    runs = []
    for run in (0, 1):
        events = written()
        for step in range(1, 5):
            new = [draw(step, "train", "torch.randint", (run, step), site, name, state=(run, step), count=32)]
            if step == 1:
                new.insert(0, event(1, "train", "seed", name, run, "loss.py:5:sampled", value=None, how="entropy"))
            events = inserted(events, of(events, "loss", step=step), *new)
        runs.append(events)
    second = rewritten(runs[1], lambda e: e.kind in ("loss", "gradient", "optimizer", "parameter"))

    finding = found(runs[0], second)

    assert ("negatives", 1, "loss") == (finding.stage, finding.step, finding.name)
    assert ("seed", "loss.py:5:sampled", site) == (
        finding.causes[0].kind, finding.causes[0].site, finding.causes[0].drawn_at)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "stage", "name"),
    [
        ("forward", "forward", "SASRec.layers.0"),
        ("loss", "loss", "loss"),
        ("gradient", "backward", NAMES[1]),
        ("optimizer", "optimizer", f"optimizer0: {NAMES[1]}"),
        ("parameter", "optimizer", NAMES[1]),
    ],
)
def test_other_arithmetic_has_its_stage_and_its_tensor(kind: str, stage: str, name: str) -> None:
    tables = ("gradient", "optimizer", "parameter")
    place = of(written(), kind, name if kind not in tables else "", step=3)

    finding = found(written(), changed(written(), place, tensor=NAMES[1] if kind in tables else ""))

    assert (stage, 3, name) == (finding.stage, finding.step, finding.name)
    assert finding.nature == "other arithmetic"
    assert any("steps 1 to 2" in sentence for sentence in finding.evidence)


def test_threads_that_differ_are_an_environment() -> None:
    second = written(Script(threads=2))

    finding = found(written(), after(second, "forward", "SASRec.layers"))

    cause = finding.causes[0]
    assert ("environment", "other settings", 1) == (finding.stage, finding.nature, finding.step)
    assert ("threads", "threads") == (cause.kind, cause.pin)
    assert "1 in the first run and 2 in the second" in cause.what


def test_tf32_in_one_run_is_an_environment() -> None:
    place = of(written(), "environment", "torch")
    runs = [changed(written(), place, tf32=value) for value in (False, True)]

    finding = found(runs[0], after(runs[1], "forward"))

    assert ("environment", "environment") == (finding.stage, finding.causes[0].kind)
    assert finding.causes[0].what.startswith("tf32")


@pytest.mark.parametrize("first", [True, False])
def test_an_evaluation_that_draws_from_the_training_generator(first: bool) -> None:
    finding = found(evaluating(draws=first), evaluating(draws=not first))

    cause = finding.causes[0]
    assert ("rng_evaluation", 3, "other numbers") == (finding.stage, finding.step, finding.nature)
    assert ("extra_draws", SITES["eval"], 3) == (cause.kind, cause.site, cause.num_draws)
    assert "3 draws from torch's global generator in evaluate" in cause.what
    assert ("first" if first else "second") in cause.what


def test_only_the_state_of_a_generator_that_was_seeded_differs() -> None:
    second = rewritten(written(), lambda e: e.kind == "rng" and e.name == "numpy" and e.step >= 2)
    second = inserted(second, of(second, "rng", step=2), draw(
        2, "train", "numpy.random.rand", "log", "train.py:70:log", "numpy", state="log", count=2))  # fmt: skip

    finding = found(written(), second)

    assert ("rng_evaluation", 2, "numpy") == (finding.stage, finding.step, finding.name)
    assert ("extra_draws", "train.py:70:log") == (finding.causes[0].kind, finding.causes[0].site)


def ranks(steps: int = 3) -> dict[str, list[Event]]:
    return {f"rank{n}": written(Script(steps=steps, ranks=2)) for n in (0, 1)}


def test_a_reduction_that_differs_with_equal_local_gradients() -> None:
    first, second = ranks(), ranks()
    second = {name: rewritten(events, lambda e: e.kind in ("gradient", "parameter") and e.step >= 2)
              for name, events in second.items()}  # fmt: skip

    finding = compare_runs(run_of(first), run_of(second))

    assert ("reduction", 2, "rank0") == (finding.stage, finding.step, finding.process)


def test_a_collective_that_differs_with_equal_parts() -> None:
    runs = []
    for run in (0, 1):
        events = written()
        new = event(2, "train", "reduce", "all_reduce", run, "ddp.py:5:sync", input="same", world=2, rank=0)
        runs.append(inserted(events, of(events, "gradient", step=2), new))

    assert found(*runs).stage == "reduction"


def test_the_rank_whose_batch_differs_is_named() -> None:
    first, second = ranks(), ranks()
    second["rank1"] = other_fields(second["rank1"], "user", "seq", "pos", "neg", step=2)
    second = {name: rewritten(events, lambda e: e.kind in ("gradient", "parameter") and e.step >= 2)
              for name, events in second.items()}  # fmt: skip

    finding = compare_runs(run_of(first), run_of(second))

    assert ("batch", 2, "rank1") == (finding.stage, finding.step, finding.process)


def test_one_run_that_goes_on_longer() -> None:
    finding = found(written(Script(steps=5)), written(Script(steps=3)))

    assert ("length", 4, (5, 3)) == (finding.stage, finding.step, finding.num_steps)


def test_evaluation_that_differs_while_training_agrees() -> None:
    script = Script(evaluate_every=2)
    place = of(written(script), "input", step=3, phase="eval")

    finding = found(written(script), changed(written(script), place))

    assert ("batch", 3) == (finding.stage, finding.step)
    assert any("training is identical" in sentence for sentence in finding.evidence)


def test_a_table_of_another_model_has_a_name() -> None:
    other = table(1, "train", "init", "SASRec", dict.fromkeys((*NAMES, "SASRec.head"), "init"))
    events = written()
    events[of(events, "init")] = other

    finding = found(written(), events)

    assert ("init", "SASRec.head") == (finding.stage, finding.name)
