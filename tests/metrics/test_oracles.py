"""Metrics against ir-measures (trec_eval) and torchmetrics: other people's code, fed around its known traps.

trec_eval compares scores in float32 and breaks ties by document id, so it is given minus the rank. torchmetrics drops
a positive whose score is not above 0, so it is given scores shifted into the positive. A user without relevant items
counts as 0 in ir-measures; ours leaves such users out, so there are none here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from rectest.metrics.ranking import evaluate
from rectest.metrics.ranks import Ranks, rank_targets

NUM_USERS, NUM_ITEMS = 60, 80


@pytest.fixture(scope="module")
def scores() -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(3)
    return np.stack([np.concatenate(([0.0], rng.permutation(NUM_ITEMS) - 40.0)) for _ in range(NUM_USERS)])


@pytest.fixture(scope="module")
def relevant() -> list[npt.NDArray[np.int64]]:
    rng = np.random.default_rng(4)
    return [1 + rng.choice(NUM_ITEMS, size=rng.integers(1, 6), replace=False) for _ in range(NUM_USERS)]


@pytest.fixture(scope="module")
def ranks(scores: npt.NDArray[np.float64], relevant: list[npt.NDArray[np.int64]]) -> Ranks:
    return rank_targets(scores, relevant)


def test_all_measures_equal_trec_eval(
    scores: npt.NDArray[np.float64], relevant: list[npt.NDArray[np.int64]], ranks: Ranks
) -> None:
    import ir_measures as ir

    theirs = {
        "recall@10": ir.R @ 10,
        "precision@10": ir.P @ 10,
        "hit@10": ir.Success @ 10,
        "ndcg@10": ir.nDCG @ 10,
        "mrr": ir.RR,
        "mrr@10": ir.RR @ 10,
    }
    places = (-scores[:, 1:]).argsort(axis=1).argsort(axis=1)
    qrels = {str(u): {str(item): 1 for item in items} for u, items in enumerate(relevant)}
    run = {str(u): {str(1 + i): float(-place) for i, place in enumerate(row)} for u, row in enumerate(places)}

    found = ir.calc_aggregate(list(theirs.values()), qrels, run)

    assert evaluate(ranks, list(theirs)) == pytest.approx({name: found[m] for name, m in theirs.items()}, abs=1e-9)


@pytest.mark.filterwarnings("ignore")
def test_all_measures_equal_torchmetrics(
    scores: npt.NDArray[np.float64], relevant: list[npt.NDArray[np.int64]], ranks: Ranks
) -> None:
    import torch
    from torchmetrics import retrieval

    theirs = {
        "recall@10": retrieval.RetrievalRecall(top_k=10),
        "precision@10": retrieval.RetrievalPrecision(top_k=10),
        "hit@10": retrieval.RetrievalHitRate(top_k=10),
        "ndcg@10": retrieval.RetrievalNormalizedDCG(top_k=10),
        "mrr": retrieval.RetrievalMRR(),
    }
    labels = np.zeros((NUM_USERS, NUM_ITEMS + 1), dtype=bool)
    for user, items in enumerate(relevant):
        labels[user, items] = True
    positive = torch.from_numpy(scores[:, 1:] - scores.min() + 1).flatten()
    users = torch.arange(NUM_USERS).repeat_interleave(NUM_ITEMS)

    found = {
        name: float(metric(positive, torch.from_numpy(labels[:, 1:]).flatten(), indexes=users))
        for name, metric in theirs.items()
    }

    assert evaluate(ranks, list(theirs)) == pytest.approx(found, abs=1e-6)
