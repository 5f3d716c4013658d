"""Each planted fault shows what its name says, and the clean system beside it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fixtures.ur4rec import Run, start
from fixtures.worlds import tiny_world
from rectest.errors import MetricError
from rectest.faults import ur4rec, ur4rec_training
from rectest.faults.fault import Fault
from rectest.systems.registry import make_system, resolve
from rectest.systems.ur4rec.candidates import audit
from rectest.training.evaluate import count_ranks

FAULTS = {fault.name: fault for fault in (*ur4rec.CATALOGUE, *ur4rec_training.CATALOGUE)}
NAMES = sorted(FAULTS)


def faulty(name: str, **settings: Any) -> Run:
    fault = FAULTS[name]
    return start(system=resolve(fault.plant)(start(**{**fault.settings, **settings}).system))


def clean(name: str, **settings: Any) -> Run:
    return start(**{**FAULTS[name].settings, **settings})


def moved(run: Run, num_steps: int) -> set[str]:
    before = run.parameters()
    run.steps(num_steps)
    return {name for name, value in run.parameters().items() if not value.equal(before[name])}


def test_the_catalogues_are_complete():
    own = {"CATALOGUE", "user_fault", "user_planted"}

    assert sorted({*ur4rec.__all__, *ur4rec_training.__all__} - own) == NAMES
    for fault in FAULTS.values():
        assert isinstance(fault, Fault)
        assert fault.system == "ur4rec"


@pytest.mark.parametrize("name", NAMES)
def test_planting_keeps_the_settings_that_are_not_the_fault(name):
    system = start(temperature=0.09, **FAULTS[name].settings).system
    before = system.settings()
    planted = resolve(FAULTS[name].plant)(system)
    changed = {key for key, value in planted.settings().items() if value != before[key]}
    meant = {
        "scale_dominated_fusion": {"normalise", "stages", "stage_shares", "sasrec_weight", "retriever_weight"},
        "learning_rate_too_small": {"learning_rate", "retriever_learning_rate"},
    }

    assert changed <= meant.get(name, set())
    assert system.settings() == before


@pytest.mark.parametrize("name", NAMES)
def test_other_systems_are_refused(name):
    with pytest.raises(TypeError, match="for ur4rec, got ComiRec"):
        resolve(FAULTS[name].plant)(make_system("comirec"))


def spreads(run: Run) -> dict[str, float]:
    eval_set = run.eval_set()
    parts = run.system.components(run.model.eval(), eval_set, slice(0, 60))
    return {part: float(scores.detach().std(-1).mean()) for part, scores in parts.items()}


def test_scale_dominated_fusion():
    """The untrained retriever is many times as loud as SASRec, and never moved."""
    run = faulty("scale_dominated_fusion")
    names = moved(run, 10)
    loud, healthy = spreads(run), spreads(start().steps(10))

    assert loud["retriever"] > 5 * loud["sasrec"]
    assert max(healthy.values()) < 5 * min(healthy.values())
    assert all(name.startswith("sasrec.") for name in names)


@pytest.mark.parametrize("name", ["clean", "last_is_mask_sum"])
def test_last_is_mask_sum(name):
    run = (start() if name == "clean" else faulty(name)).steps(10)
    eval_set = run.eval_set()
    apart = (run.scores(eval_set) - run.scores(run.system.left_padded(eval_set, 3))).abs().max()

    assert (float(apart) < 1e-4) == (name == "clean")


def nonfinite(run: Run) -> dict[tuple[bool, bool], bool]:
    """By (training mode, gradients): whether some score is not finite."""
    eval_set, found = run.eval_set("valid"), {}
    for training in (True, False):
        for gradients in (True, False):
            run.model.train(training)
            with torch.set_grad_enabled(gradients):
                scores = run.system.score(run.model, eval_set, slice(0, len(eval_set)))
            found[training, gradients] = not bool(torch.isfinite(scores).all())
    return found


def test_empty_mask_rows():
    """Finite wherever training or a debugger with gradients looks; NaN in evaluation."""
    run = faulty("empty_mask_rows").steps(2)
    eval_set = run.eval_set("valid")

    assert nonfinite(run) == {(True, True): False, (True, False): False, (False, True): False, (False, False): True}
    assert not any(nonfinite(clean("empty_mask_rows").steps(2)).values())
    with pytest.raises(MetricError, match="NaN"):
        count_ranks(
            lambda rows: run.scores(eval_set)[rows], len(eval_set), eval_set.relevant, candidates=eval_set.candidates
        )


def tied_users(run: Run) -> float:
    return float((run.scores(run.eval_set("valid")).diff(dim=-1) == 0).all(-1).double().mean())


def test_nan_users_score_zero():
    """Whoever has a padded place is a tie of all candidates."""
    run = faulty("nan_users_score_zero").steps(2)
    padded = (run.eval_set("valid").inputs["items"] == 0).any(1).double().mean()

    assert tied_users(run) == pytest.approx(float(padded))
    assert float(padded) > 0.3
    assert tied_users(clean("nan_users_score_zero").steps(2)) == 0


def test_saturated_scores():
    run, healthy = faulty("saturated_scores").steps(10), start().steps(10)
    distinct = [np.mean([len(set(row)) for row in r.scores().tolist()]) for r in (run, healthy)]

    assert distinct[0] < 17
    assert distinct[1] > 20.5


def test_leaky_user_texts():
    """The texts hold the words of the targets, and so does the model's first state."""
    run, healthy = faulty("leaky_user_texts"), start()
    places = zip(run.data.held_out.test, range(run.data.num_users), strict=True)
    targets = {user: int(run.data.held_out.sequences[user][place]) for place, user in places if place >= 0}

    assert all(target in run.system.known_items(run.data)[user] for user, target in targets.items())
    assert not any(target in healthy.system.known_items(healthy.data)[user] for user, target in targets.items())
    assert not run.model.retriever.user_text_UT.equal(healthy.model.retriever.user_text_UT)
    assert run.model.retriever.item_text_VT.equal(healthy.model.retriever.item_text_VT)


def invariants(run: Run) -> dict[str, tuple[int, int]]:
    return {name: tuple(pair) for name, pair in run.system.input_facts(run.data)["invariants"].items()}


def test_float_user_keys():
    run = faulty("float_user_keys")

    assert not run.model.retriever.user_text_UT.any()
    assert invariants(run)["users_without_text"] == (120, 0)
    assert invariants(start())["users_without_text"] == (0, 0)


def test_phantom_ids():
    """23 ids without a training event are drawn as negatives and as candidates."""
    run = faulty("phantom_ids", num_candidates=10).steps(3)
    phantoms = np.flatnonzero(run.data.counts[1:] == 0) + 1
    drawn = torch.cat([batch.negatives["sasrec"].flatten() for batch in run.batches]).numpy()
    found = invariants(run)

    assert len(phantoms) == 23
    assert np.isin(drawn[drawn > 0], phantoms).mean() > 0.4
    assert found["phantom_negatives"] == (23, 0)
    assert found["phantom_candidates"][0] > 500
    assert invariants(start())["phantom_candidates"] == (0, 0)


def test_seen_candidates():
    run = faulty("seen_candidates")

    assert audit(run.data, run.eval_set())["seen"] > 200
    assert invariants(run)["seen_candidates"][0] > 400
    assert invariants(start())["seen_candidates"] == (0, 0)


def test_frozen_branch():
    """After the stage that froze it, the retriever never moves again."""
    runs = [make("frozen_branch") for make in (faulty, clean)]
    for run in runs:
        run.steps(20)
    later = [{name.partition(".")[0] for name in moved(run, 5)} for run in runs]

    assert later[0] == {"sasrec", "loss_weights"}
    assert later[1] == {"sasrec", "retriever", "loss_weights"}
    assert not any(p.requires_grad for n, p in runs[0].model.named_parameters() if n.startswith("retriever."))


def test_loss_weights_not_optimized():
    """They have gradients and stay where they were; the total is the plain sum."""
    run = faulty("loss_weights_not_optimized", stages=["end_to_end"], stage_shares=[1.0])
    names = moved(run, 3)
    last, promised = run.losses[-1], run.system.input_facts(run.data)["expected_scalars"]["optimizer/parameters"]

    assert not any(name.startswith("loss_weights") for name in names)
    assert last["total"] == pytest.approx(last["sasrec"] + last["retriever"], rel=1e-6)
    assert all((p.grad != 0).all() for p in run.model.loss_weights.parameters())
    assert run.scalars[-1]["optimizer/parameters"] == promised - 2


def test_dead_memory():
    """What is never read has a gradient of zero; only weight decay still moves its matrices."""
    run = faulty("dead_memory", stages=["end_to_end"], stage_shares=[1.0], memory_threshold=1)
    names = moved(run, 6)

    assert run.scalars[-1]["memory/interactions"] == 0.0
    assert not any(name.startswith("retriever.memory.") and "bias" in name for name in names)
    assert run.system.input_facts(run.data)["expected_scalars"]["memory/interactions"] > 1


def test_dead_settings():
    """The stages that were asked for are in the configuration and nowhere else."""
    run, healthy = faulty("dead_settings"), clean("dead_settings")

    assert run.system.config.stages == healthy.system.config.stages == ("pretrain_sasrec", "end_to_end")
    assert [healthy.system.plan().at(step) for step in (1, 40)] == ["pretrain_sasrec", "end_to_end"]
    assert len(run.system.plan().stages) == 4


def test_alternation_reads_missing_losses():
    settings = {"stages": ["joint_finetune"], "stage_shares": [1.0]}
    run = faulty("alternation_reads_missing_losses", **settings).steps(20)
    switches = [scalars["alternation/switches"] for scalars in run.scalars]

    assert [step for step in range(1, 20) if switches[step] > switches[step - 1]] == [9, 14, 19]
    assert min(scalars["alternation/missed_loss"] for scalars in run.scalars) > 0.1
    assert start(**settings).steps(3).scalars[-1]["alternation/missed_loss"] == 0.0


def test_learning_rate_too_small():
    run = faulty("learning_rate_too_small")
    before = run.parameters()
    run.steps(4)

    assert max(float((value - before[name]).abs().max()) for name, value in run.parameters().items()) < 1e-5


def test_the_tiny_world_has_words():
    assert tiny_world("tiny-words").item_words is not None
