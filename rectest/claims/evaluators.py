"""Hazards of evaluators that came up while the reports were checked: ties, low precision, NaN, unstable sorting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rectest.claims.claim import Book, Measured, Stated, finding
from rectest.errors import MetricError

if TYPE_CHECKING:
    from rectest.claims.runs import Runs

__all__ = ["BOOK"]

BOOK = Book("evaluators", "how ranks are counted")

Scores = npt.NDArray[np.floating[Any]]


def _scores(stated: Stated) -> Scores:
    """Random scores [U, C] near a level, rounded to a precision; the relevant item stands at index 0."""
    import torch

    generator = torch.Generator().manual_seed(0)
    drawn = stated["level"] + stated["sd"] * torch.randn(
        stated["num_users"], stated["num_candidates"], generator=generator
    )
    rounded: Scores = drawn.to(getattr(torch, stated["precision"])).to(torch.float32).numpy()
    return rounded


RANDOM = {"level": 5.0, "sd": 0.0105, "num_users": 4000, "num_candidates": 100, "precision": "bfloat16"}


@BOOK.claim(
    1,
    "the number of better scores plus one is the rank",
    stated=RANDOM,
    counter={"precision": "float32"},
)
def counting_better(stated: Stated, _runs: Runs) -> Measured:
    """hit@10 of random scores by several ways of counting; a random model has 0.10."""
    from rectest.metrics.ranking import evaluate, tie_share
    from rectest.metrics.ranks import rank_targets

    scores = _scores(stated)
    better = (scores > scores[:, :1]).sum(axis=1)
    at_least = (scores >= scores[:, :1]).sum(axis=1)
    columns = np.repeat(1 + np.arange(stated["num_candidates"])[None], len(scores), axis=0)
    ranks = rank_targets(scores, [np.array([1])] * len(scores), candidates=columns)
    expected = 10 / stated["num_candidates"]
    hits = {"#(>) + 1": float((better < 10).mean()), "#(>=)": float((at_least <= 10).mean())}
    hits["expected rank"] = evaluate(ranks, ["hit@10"])["hit@10"]
    error = 5 * np.sqrt(expected * (1 - expected) / len(scores))
    distinct = float(np.mean([len(np.unique(row)) for row in scores[:50]]))
    return Measured(
        figure=f"hit@10 of random {stated['precision']} scores, {distinct:.1f} of them distinct: "
        + ", ".join(f"{value:.3f} by {name}" for name, value in hits.items())
        + f"; {tie_share(ranks):.0%} of the ranks rest on ties",
        verdict=finding(abs(hits["#(>) + 1"] - expected) <= error),
        truth="ties count as wins, so that low precision makes any model look good; count the expected rank, "
        "#(>) + (#(=) + 1) / 2, and refuse too many ties",
        where="rectest.metrics.ranks.rank_targets, coherence/ties of rectest.checks.coherence",
    )


@BOOK.claim(
    2,
    "sorting the negated scores gives the rank of the relevant item",
    stated={"num_candidates": 100, "sizes": (10, 16, 17, 100), "constant": True},
    counter={"constant": False},
)
def sorting(stated: Stated, _runs: Runs) -> Measured:
    """Where an item at index 0 ends when all scores are equal: it should be the middle, on average."""
    import torch

    found = {}
    for size in stated["sizes"]:
        scores = np.zeros(size) if stated["constant"] else np.linspace(0, 1, size)
        by_numpy = int(np.flatnonzero(np.argsort(-scores) == 0)[0]) + 1
        by_torch = int((torch.argsort(-torch.from_numpy(scores)) == 0).nonzero()[0]) + 1
        right = (size + 1) / 2 if stated["constant"] else size
        found[size] = (by_numpy, by_torch, right)
    return Measured(
        figure="; ".join(f"of {size}: numpy {a}, torch {b}, right {right:g}" for size, (a, b, right) in found.items()),
        verdict=finding(all(a == b == right for a, b, right in found.values())),
        truth="what a constant model gets depends on the library, the number of candidates and where the relevant item "
        "stands; shuffle its slot and count expected ranks",
        where="numpy.argsort, torch.argsort; rectest.faults.adaptive_sasrec:constant_scores",
    )


@BOOK.claim(
    3,
    "NaN scores would show in the metrics",
    stated={"value": float("nan"), "num_candidates": 100},
    counter={"value": 0.5},
)
def nan_scores(stated: Stated, _runs: Runs) -> Measured:
    """A comparison with NaN is false, so that nobody is better; our ranks refuse."""
    from rectest.metrics.ranks import rank_targets

    scores = np.linspace(0.0, 1.0, stated["num_candidates"])[None].copy()
    scores[0, 0] = stated["value"]
    rank = int((scores > scores[:, :1]).sum()) + 1
    columns = 1 + np.arange(stated["num_candidates"])[None]
    try:
        ours = f"rank {rank_targets(scores, [np.array([1])], candidates=columns).expected[0]:g}"
    except MetricError:
        ours = "a MetricError"
    return Measured(
        figure=f"#(>) + 1 gives rank {rank}; rectest gives {ours}",
        verdict=finding(rank > 1),
        truth="a diverged model is perfect by that count",
        where="rectest.metrics.ranks.refuse_nonfinite",
    )
