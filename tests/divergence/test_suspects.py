"""Every kind of cause, planted once in a made-up tape, and named with its line; and what must not be named first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.tapes import (
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
    written,
)
from rectest.divergence.compare import compare_runs
from rectest.divergence.tapes import Event

NEGATIVES, SHUFFLE = SITES["negatives"], SITES["shuffle"]


def unseeded(run: int, **seed: object) -> list[Event]:
    """A run whose negatives come from a generator of its own; with `run` 1 from other numbers."""
    name, site = "numpy@data.py:5#1", "data.py:5:__init__"
    value = seed.get("value")
    made = event(1, "setup", "seed", name, value if value is not None else ("entropy", run), site, **{"value": None, "how": "created", **seed})  # fmt: skip  # noqa: E501
    events = []
    for item in written():
        if item.kind == "draw" and item.site == NEGATIVES:
            item = replace(item, info={**item.info, "generator": name})
            if item.step == 1:
                events.append(made)
        events.append(item)
    if run:
        events = other_fields(other_draws(events, NEGATIVES), "neg")
        events = after(events, "forward")
    return events


def test_a_generator_made_without_a_seed_is_named_by_its_line_and_by_the_line_that_draws() -> None:
    finding = found(unseeded(0), unseeded(1))

    cause = finding.causes[0]
    assert (finding.stage, finding.step) == ("negatives", 1)
    assert ("generator", "data.py:5:__init__", NEGATIVES) == (cause.kind, cause.site, cause.drawn_at)
    assert cause.pin == "site:data.py:5:__init__"
    assert "default_rng(seed)" in cause.advice


def test_a_seed_from_the_clock_is_a_seed_and_the_clock_is_named() -> None:
    runs = []
    for run in (0, 1):
        events = unseeded(run, value=1000 + run, how="created")
        read = event(1, "setup", "entropy", "time.time", run, "data.py:5:__init__", count=1)
        runs.append(inserted(events, of(events, "seed", "numpy@"), read))

    cause = found(*runs).causes[0]

    assert ("seed", "data.py:5:__init__") == (cause.kind, cause.site)
    assert cause.what.endswith("is seeded with 1000 and 1001, read from time.time")


def test_a_reseed_from_entropy_is_a_seed() -> None:
    finding = found(unseeded(0, how="entropy"), unseeded(1, how="entropy"))

    assert ("seed", "data.py:5:__init__") == (finding.causes[0].kind, finding.causes[0].site)
    assert "reseeded" in finding.causes[0].what


def test_seeding_too_late_names_the_line_that_seeds() -> None:
    script = Script(seeded=("random", "torch"))
    runs = []
    for run in (0, 1):
        events = written(script, run=run)
        late = event(1, "setup", "seed", "numpy", 42, "train.py:50:main", value=42, how="seeded")
        runs.append(inserted(events, of(events, "batch"), late))
    second = other_fields(other_draws(runs[1], NEGATIVES)[:], "neg")

    cause = found(runs[0], second).causes[0]

    assert (NEGATIVES, "seed:numpy") == (cause.site, cause.pin)
    assert "train.py:50:main" in cause.what


@pytest.mark.parametrize("kind", ["order", "hash"])
def test_a_located_order_or_a_hash_gives_the_line(kind: str) -> None:
    runs = [hashed(run) for run in (0, 1)]
    for run, events in enumerate(runs):
        runs[run] = inserted(events, 5, event(1, "setup", kind, "set(items)", run, "data.py:11:build", count=3))

    finding = found(*runs)

    assert ("id_map", "data.py:11:build") == (finding.stage, finding.causes[0].site)
    assert ("hash_order", "hash") == (finding.causes[0].kind, finding.causes[0].pin)


def test_an_equal_generator_with_another_result_draws_from_a_set() -> None:
    second = other_draws(hashed(1), NEGATIVES, state=False)

    finding = found(hashed(0), second)

    assert finding.causes[0].kind == "hash_order"
    assert finding.causes[0].drawn_at == NEGATIVES
    assert any("equal state" in sentence and NEGATIVES in sentence for sentence in finding.evidence)


def test_a_listing_whose_files_are_read_in_equal_order_is_not_the_first_suspect() -> None:
    runs = []
    for run in (0, 1):
        names = [event(1, "setup", "listing", "shards", run, "data.py:9:load")]
        names += [event(1, "setup", "file", f"shards/{n}.csv", n, "data.py:10:load", mode="r") for n in "ab"]
        runs.append(inserted(hashed(run), 5, *names))

    assert found(*runs).causes[0].kind == "hash_order"


def test_a_kernel_from_the_list_of_torch_is_named_on_a_gpu() -> None:
    runs = []
    for _ in range(2):
        events = written(Script(device="NVIDIA H100"))
        place = of(events, "forward", "SASRec.item_emb", step=2)
        runs.append(changed(events, place, type="EmbeddingBag"))
    second = changed(runs[1], of(runs[1], "gradient", step=2))

    finding = found(runs[0], second)

    cause = finding.causes[0]
    assert ("backward", "other arithmetic") == (finding.stage, finding.nature)
    assert ("kernel", "deterministic") == (cause.kind, cause.pin)
    assert "embedding_bag_backward" in cause.what


def test_several_threads_are_suspected_where_nothing_else_differs() -> None:
    script = Script(threads=8)

    finding = found(written(script), after(written(script), "forward"))

    assert ("forward", "other arithmetic") == (finding.stage, finding.nature)
    assert ("threads", "threads") == (finding.causes[0].kind, finding.causes[0].pin)


def test_an_order_drawn_from_urandom_is_entropy() -> None:
    runs = []
    for run in (0, 1):
        events = written()
        for step in (1, 2, 3, 4):
            read = event(step, "train", "entropy", "os.urandom", (run, step), "model.py:40:backward", count=8)
            events = inserted(events, of(events, "gradient", step=step), read)
        runs.append(events)
    second = rewritten(runs[1], lambda e: e.kind in ("gradient", "optimizer", "parameter"))

    finding = found(runs[0], second)

    assert ("backward", "entropy", "model.py:40:backward") == (
        finding.stage, finding.causes[0].kind, finding.causes[0].site)  # fmt: skip


def worker(run: int, *, kind: str = "import") -> list[Event]:
    site = "worker.py:8:produce"
    events = [event(1, "setup", "seed", "numpy", ("entropy", run), value=None, how=kind)] if kind else []
    return [
        *events,
        *(draw(1, "setup", "numpy.random.randint", (run, k), site, "numpy", state=(run, k)) for k in range(3)),
    ]


@pytest.mark.parametrize("kind", ["import", ""])
def test_a_worker_process_that_nobody_seeded(kind: str) -> None:
    script = Script(seeded=("random", "torch") if not kind else ("random", "numpy", "torch"))
    runs = []
    for run in (0, 1):
        events = [e for e in written(script, run=run) if e.kind != "draw" or e.site != NEGATIVES]
        runs.append({"main": events, "main.1": worker(run, kind=kind)})
    runs[1]["main"] = after(other_fields(runs[1]["main"], "user", "seq", "pos", "neg"), "forward")

    finding = compare_runs(*(run_of(run, parents={"main.1": "main"}) for run in runs))

    cause = finding.causes[0]
    assert ("batch", "main") == (finding.stage, finding.process)
    assert ("generator", "worker.py:8:produce", "main.1") == (cause.kind, cause.site, cause.process)


def test_a_name_drawn_before_training_is_not_preferred_to_what_the_batch_draws() -> None:
    script = Script(seeded=("torch",))
    runs = []
    for run in (0, 1):
        name = draw(1, "setup", "random.random", run, "train.py:5:<module>", "random", state=run, count=1)
        runs.append(inserted(written(script, run=run), 3, name))
    second = other_fields(other_draws(runs[1], NEGATIVES), "neg")

    finding = found(runs[0], after(second, "forward"))

    assert [NEGATIVES] == [cause.site for cause in finding.causes]


def test_a_generator_that_logs_every_step_did_not_do_it_at_step_three() -> None:
    runs = []
    for run in (0, 1):
        events = evaluating(draws=run == 0)
        for step in (1, 2, 3, 4):
            noise = draw(
                step, "train", "random.random", (run, step), "log.py:3:progress", "random@log.py:1#1", state=(run, step)
            )
            events = inserted(events, of(events, "forward", step=step, phase="train"), noise)
        runs.append(events)

    finding = found(*runs)

    assert ("rng_evaluation", SITES["eval"]) == (finding.stage, finding.causes[0].site)


def test_an_evaluation_that_puts_the_state_back_is_no_cause() -> None:
    """It draws in one run only, and the next draw starts from the same state in both."""
    first = written(Script(dropout=True, evaluate_every=2))
    look = draw(3, "eval", "torch.randint", "look", SITES["eval"], "torch", state=("drop", 3), count=3)
    first = inserted(first, of(first, "input", step=3, phase="eval"), look)
    second = written(Script(dropout=True))

    finding = found(first, changed(second, of(second, "gradient", step=4)))

    assert ("backward", 4, ()) == (finding.stage, finding.step, finding.causes)
    assert any("no generator differs" in sentence for sentence in finding.evidence)


def test_a_generator_that_only_one_run_restores() -> None:
    """A checkpoint that holds the state of torch's generator: the file is named before the seed."""
    script = Script(dropout=True)
    name = "out/checkpoint.pt"
    first = [*written(script), event(4, "train", "file", name, "", "train.py:99:main", mode="w")]
    second = other_draws(written(script), SITES["dropout"])
    place = of(second, "batch")
    new = [
        event(1, "setup", "file", name, "content", "train.py:30:main", mode="r"),
        event(1, "setup", "seed", "torch", "state", "train.py:31:main", value="state", how="seeded"),
    ]
    second = inserted(second, place, *new)

    finding = found(first, after(second, "forward"))

    assert ("resume", "file", "train.py:30:main") == (finding.stage, finding.causes[0].kind, finding.causes[0].site)
    assert ("seed", "train.py:31:main") == (finding.causes[1].kind, finding.causes[1].site)


def test_a_generator_that_was_moved_by_nobody() -> None:
    second = other_fields(other_draws(written(), NEGATIVES, step=3), "neg", step=3)

    finding = found(written(), second)

    assert ("negatives", 3, "generator") == (finding.stage, finding.step, finding.causes[0].kind)
    assert "not watched" in finding.causes[0].what


def test_another_amount_at_the_same_line() -> None:
    second = written()
    second = changed(second, of(second, "draw", "randint", step=2), count=65)
    second = other_fields(other_draws(second, NEGATIVES, step=3), "neg", step=3)

    cause = found(written(), second).causes[0]

    assert ("extra_draws", NEGATIVES, 2) == (cause.kind, cause.site, cause.step)
    assert cause.what.startswith("64 and 65 draws from NumPy's global generator")


def test_without_draws_on_the_tape_the_state_of_the_generator_is_told() -> None:
    script = Script(seeded=("random", "numpy"))
    runs = [[e for e in written(script, run=run) if e.kind not in ("draw", "seed")] for run in (0, 1)]
    second = changed(runs[1], of(runs[1], "init"))

    finding = found(runs[0], after(second, "forward"))

    assert ("init", "generator", "seed:torch") == (finding.stage, finding.causes[0].kind, finding.causes[0].pin)
    assert "--fast" in finding.causes[0].advice


def test_queues_whose_order_is_equal_are_no_cause() -> None:
    runs = []
    for _ in (0, 1):
        taken = event(2, "train", "queue", "queue@data.py:60", "same", "data.py:77:next_batch", count=1, producers=2)
        runs.append(inserted(written(), of(written(), "batch", step=2), taken))
    second = other_fields(runs[1], "user", "seq", "pos", "neg", step=2)

    assert "queue" not in {cause.kind for cause in found(runs[0], second).causes}


def test_a_clock_that_is_handed_to_a_function_that_seeds_is_named_by_its_own_line() -> None:
    runs = []
    for run in (0, 1):
        new = [
            event(1, "setup", "entropy", "time.time_ns", run, "train.py:60:main", count=1),
            event(1, "setup", "seed", "random", run, "train.py:28:set_seed", value=run, how="seeded"),
            event(1, "setup", "seed", "numpy", run, "train.py:29:set_seed", value=run, how="seeded"),
        ]
        events = written()
        runs.append(inserted(events, of(events, "draw"), *new))
    second = other_fields(other_draws(runs[1], NEGATIVES), "neg")

    (cause,) = found(runs[0], second).causes

    assert ("seed", "train.py:60:main", "site:train.py:60:main") == (cause.kind, cause.site, cause.pin)
    assert cause.what.endswith("is seeded with 0 and 1, read from time.time_ns")


def test_an_evaluation_that_draws_tensors_of_another_size() -> None:
    """One call in both runs, from an equal state: the next draw shows that it took another amount."""
    runs = []
    for run in (0, 1):
        events = written(Script(dropout=True, evaluate_every=2))
        look = draw(3, "eval", "torch.randint", run, SITES["eval"], "torch", state="equal", count=1)
        events = inserted(events, of(events, "input", step=3, phase="eval"), look)
        runs.append(other_draws(events, SITES["dropout"], step=3) if run else events)

    finding = found(runs[0], after(runs[1], "forward", step=3))

    cause = finding.causes[0]
    assert ("rng_evaluation", "extra_draws", SITES["eval"]) == (finding.stage, cause.kind, cause.site)
    assert cause.what.startswith("torch.randint in evaluate takes another amount")
