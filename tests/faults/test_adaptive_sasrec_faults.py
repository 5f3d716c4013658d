"""Each planted fault shows what its name says, and the clean system beside it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fixtures.adaptive_sasrec import Run, start
from fixtures.worlds import tiny_world, world_with
from rectest.errors import MetricError
from rectest.faults import adaptive_sasrec as faults
from rectest.systems.registry import make_system, resolve
from rectest.training.evaluate import count_ranks

NAMES = sorted(fault.name for fault in faults.CATALOGUE)


def faulty(name: str, **settings: object) -> Run:
    system = getattr(faults, name)(start(**settings).system)
    return start(system=system)


def differing_share(first: np.ndarray, second: np.ndarray) -> float:
    return float((first != second).any(axis=1).mean())


def test_the_catalogue_is_complete():
    plants = [name for name in faults.__all__ if name != "CATALOGUE" and not name.startswith("sasrec_")]

    assert sorted(plants) == NAMES
    for fault in faults.CATALOGUE:
        assert resolve(fault.plant) is getattr(faults, fault.name)
        assert fault.system == "adaptive_sasrec"


@pytest.mark.parametrize("name", NAMES)
def test_planting_keeps_the_settings_that_are_not_the_fault(name):
    system = start(learning_rate=0.005).system
    before = system.settings()
    planted = getattr(faults, name)(system)
    changed = {key for key, value in planted.settings().items() if value != before[key]}
    features = {"serve_with_dot": {"adaptive", "similarity", "serve_with"}}

    assert changed <= features.get(name, {"smart_negatives"})
    assert system.settings() == before


@pytest.mark.parametrize("name", NAMES)
def test_other_systems_are_refused(name):
    with pytest.raises(TypeError, match="for adaptive_sasrec, got ComiRec"):
        getattr(faults, name)(make_system("comirec"))


def future_matters(run: Run) -> bool:
    items = torch.randint(1, 41, (4, 10), generator=torch.Generator().manual_seed(0))
    changed = torch.cat([items[:, :5], 1 + items[:, 5:] % 40], dim=1)
    projection = torch.randn(16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return not torch.equal((run.model(items) @ projection)[:, :5], (run.model(changed) @ projection)[:, :5])


def test_no_causal_mask():
    assert future_matters(faulty("no_causal_mask"))
    assert not future_matters(start())


def test_no_causal_mask_is_too_good_in_training():
    expected, obtained = (
        r.steps(120) for r in (start(learning_rate=5e-3), faulty("no_causal_mask", learning_rate=5e-3))
    )

    assert np.mean(obtained.losses[-20:]) < np.mean(expected.losses[-20:]) - 0.1


def test_padding_row_nonzero():
    """Its gradient is zero, so it never heals."""
    run = faulty("padding_row_nonzero")
    before = run.model.item_embedding.weight[0].detach().clone()
    run.steps(3)

    assert (before != 0).all()
    assert torch.equal(before, run.model.item_embedding.weight[0])
    assert (start().steps(3).model.item_embedding.weight[0] == 0).all()


def test_padding_row_trains():
    run = faulty("padding_row_trains")

    assert (run.model.item_embedding.weight[0] == 0).all()
    assert (run.steps(3).model.item_embedding.weight[0] != 0).any()
    assert (start().steps(3).model.item_embedding.weight[0] == 0).all()


@pytest.mark.parametrize("name", ["clean", "unseeded_negatives"])
def test_unseeded_negatives(name):
    runs = [(start() if name == "clean" else faulty(name)).steps(2) for _ in range(2)]
    same = [
        [first.equal(second) for first, second in zip(*pair, strict=True)]
        for pair in (
            [[b.inputs["sequence"] for b in run.batches] for run in runs],
            [[b.negatives["items"] for b in run.batches] for run in runs],
        )
    ]

    assert all(same[0])
    assert all(same[1]) == (name == "clean")


def test_evaluation_steals_rng():
    """With an evaluation in between, the next negatives are others."""
    for clean, run in ((True, start()), (False, faulty("evaluation_steals_rng"))):
        undisturbed = (start() if clean else faulty("evaluation_steals_rng")).steps(4)
        run.steps(2).scores("valid")
        run.steps(2)

        assert run.batches[1].negatives["items"].equal(undisturbed.batches[1].negatives["items"])
        assert run.batches[3].negatives["items"].equal(undisturbed.batches[3].negatives["items"]) == clean


def test_positives_as_negatives():
    shares = []
    for run in (start(), faulty("positives_as_negatives")):
        batch = run.steps(1).batches[0]
        real = batch.inputs["positives"] > 0
        shares.append(float((batch.negatives["items"] == batch.inputs["positives"])[real].double().mean()))

    assert shares[0] == 0
    assert shares[1] == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("settings", [{"popular_ratio": 0.9}, {"curriculum": True}], ids=str)
def test_inert_smart_negatives(settings):
    """The flag is on in both, and the run of the fault is bit for bit the baseline's."""
    settings = {**settings, "smart_negatives": True}
    clean, inert = start(**settings).steps(4), faulty("inert_smart_negatives", **settings).steps(4)

    assert clean.losses != start().steps(4).losses
    assert start().steps(4).losses == inert.losses
    assert inert.system.config.smart_negatives


def test_id_as_popularity():
    """The likeliest negative is item 1, not the most popular one."""
    settings = {"smart_negatives": True, "popular_ratio": 1.0, "popularity_power": 2.0}
    clean = start(world=world_with(seed=3), **settings)
    run = start(world=world_with(seed=3), system=faults.id_as_popularity(clean.system))
    laws = [r.system.schedule(r.data).sampler(1).probability() for r in (clean, run)]

    assert clean.data.counts[laws[0].argmax()] == clean.data.counts.max()
    assert laws[1].argmax() == 1
    assert clean.data.counts[1] < clean.data.counts.max()


@pytest.mark.parametrize("name", ["clean", "inert_smart_negatives", "id_as_popularity", "positives_as_negatives"])
def test_popularity_of_negatives_keeps_its_promise_or_not(name):
    """The recorded curve against what the settings promise: the effect, whatever the flag says."""
    settings = {"smart_negatives": True, "popular_ratio": 0.9, "popularity_power": 3.0}
    system = start(**settings).system
    run = start(world=world_with(seed=3), system=system if name == "clean" else getattr(faults, name)(system))
    promised = run.system.input_facts(run.data)["expected_scalars"]["negatives/relative_popularity"]
    curve = [run.steps(1).system.scalars(run.model)["negatives/relative_popularity"] for _ in range(24)]
    off = abs(np.mean(curve) / promised - 1)

    assert (off < 0.02) == (name == "clean")


def test_serve_with_dot():
    settings = {"adaptive": True, "similarity": ["dot", "cosine", "scaled", "bilinear"]}
    overlap = []
    for run in (start(**settings), faulty("serve_with_dot")):
        run.steps(60)
        overlap.append(run.system.serving_overlap(run.model, run.system.eval_set(run.data, "test"), k=5))

    assert overlap[0] == 1.0
    assert overlap[1] < 0.98
    assert run.system.scalars(run.model)["serving/overlap@10"] < 1.0
    assert run.system.input_facts(run.data)["expected_scalars"]["serving/overlap@10"] == 1.0


def test_dropout_in_eval():
    clean, run = start().steps(2), faulty("dropout_in_eval").steps(2)

    assert np.array_equal(clean.scores(), clean.scores())
    assert not np.array_equal(run.scores(), run.scores())


@pytest.mark.parametrize("name", ["clean", "time_reversed"])
def test_time_reversed(name):
    """The targets of the fault are everybody's first events."""
    run = start() if name == "clean" else faulty(name)
    sequences = tiny_world().interactions.sequences()
    place = -1 if name == "clean" else 0

    assert [items[place] for items in sequences] == run.data.split.test.tolist()


def test_recall_drop_gives_some_users_the_scores_of_others():
    expected, obtained = (run.steps(5).scores() for run in (start(), faulty("recall_drop")))

    assert differing_share(expected, obtained) == pytest.approx(0.12, abs=0.06)


def test_recall_drop_confuses_the_same_users_in_every_block():
    run = faulty("recall_drop").steps(5)
    eval_set = run.system.eval_set(run.data, "test")
    run.model.eval()
    with torch.no_grad():
        parts = [run.system.score(run.model, eval_set, slice(i, i + 30)).numpy() for i in range(0, len(eval_set), 30)]

    np.testing.assert_allclose(run.scores(), np.concatenate(parts), rtol=1e-4, atol=1e-5)


def test_learning_rate_halved():
    """Adam's first step has the size of the learning rate, so it is exactly half as long."""
    moved = []
    for run in (start(), faulty("learning_rate_halved")):
        before = run.parameters()["item_embedding.weight"]
        moved.append((run.steps(1).parameters()["item_embedding.weight"] - before).abs().max())

    torch.testing.assert_close(moved[0] / 2, moved[1], rtol=1e-3, atol=0)


def test_optimizer_misses_table():
    run = faulty("optimizer_misses_table")
    before = run.parameters()
    run.steps(2)
    moved = {name for name, value in run.parameters().items() if not torch.equal(value, before[name])}

    assert (run.model.item_embedding.weight.grad != 0).any()
    assert "item_embedding.weight" not in moved
    assert "position_embedding.weight" in moved


def ranks_of(run: Run):
    eval_set = run.system.eval_set(run.data, "test")
    run.model.eval()
    score = run.system.score
    return count_ranks(
        lambda rows: score(run.model, eval_set, rows),
        len(eval_set),
        eval_set.relevant,
        excluded=eval_set.excluded,
    )


def test_nan_scores_are_no_rank():
    with pytest.raises(MetricError):
        ranks_of(faulty("nan_scores"))


def test_constant_scores_are_all_ties():
    ranks = ranks_of(faulty("constant_scores"))

    assert (ranks.optimistic == 1).all()
    assert (ranks.pessimistic == ranks.num_candidates).all()
    assert (ranks_of(start()).optimistic == ranks_of(start()).pessimistic).all()
