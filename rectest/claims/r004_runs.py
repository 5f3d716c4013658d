"""Report 004, continued: what its recommendations do when they are trained, and what is kept of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rectest.claims.claim import Finding, Measured, NotHere, Stated, finding
from rectest.claims.r004 import BOOK
from rectest.claims.statistics import paired_gain, place
from rectest.record import RunSpec

if TYPE_CHECKING:
    from rectest.claims.runs import Runs

__all__ = ["stopped_at"]

SEEDS = tuple(range(5))
METRIC = "ndcg@10"
STEPS, EVERY = 160, 20
LAST_WEIGHTS = "rectest.claims.plants:last_weights_kept"


def _arm(config: Mapping[str, Any] | None = None, *, seeds: Sequence[int] = SEEDS, **spec: Any) -> list[RunSpec]:
    settings = {"steps": STEPS, **(config or {})}
    return [RunSpec(system="gear", seed=seed, eval_every=EVERY, config=settings, **spec) for seed in seeds]


def _gain(runs: Runs, config: Mapping[str, Any]) -> Any:
    values = [record.final(f"test/{METRIC}") for record in runs.train([*_arm(), *_arm(config)])]
    return paired_gain(values[: len(SEEDS)], values[len(SEEDS) :])


TF32: dict[str, Any] = {"matmul_precision": "medium"}


@BOOK.claim(
    18,
    "switching to TF32 makes training about 30 % faster",
    stated={"gain": 0.30, "tolerance": 0.10},
    trains=lambda _stated: (),
)
def tf32_faster(stated: Stated, runs: Runs) -> Measured:
    """Seconds of training with and without, on a GPU, at the report's sizes."""
    import torch

    from rectest.systems.gear.config import REPORTED

    if not torch.cuda.is_available():
        msg = "there is no CUDA device here"
        raise NotHere(msg)
    config = {**REPORTED, "patience": None}
    arms = [_arm({**config, **extra}, seeds=SEEDS[:3], device="cuda") for extra in ({}, TF32)]
    seconds = [float(r.facts["timing"]["trained"]) for r in runs.train([*arms[0], *arms[1]])]
    gain = paired_gain(seconds[3:], seconds[:3])
    return Measured(
        figure=f"{gain.percent().replace('seeds', 'pairs')} time without TF32, on {torch.cuda.get_device_name()}",
        verdict=place(gain, low=stated["gain"] - stated["tolerance"], high=math.inf),
        truth="the model is bound by memory (004.10)",
        where="facts of the records: timing",
        command="rectest train gear --device cuda --set matmul_precision=medium",
    )


@BOOK.claim(
    19,
    "TF32 costs less than 0.1 % of accuracy",
    stated={"most": 0.001},
    trains=lambda _stated: [*_arm(), *_arm(TF32)],
)
def tf32_accuracy(stated: Stated, runs: Runs) -> Measured:
    """nDCG after training with rounded operands (bit for bit TF32, emulated on a CPU), paired by seed."""
    gain = _gain(runs, TF32)
    return Measured(
        figure=f"ndcg@10 {gain.percent()}",
        verdict=place(gain, low=-stated["most"], high=math.inf),
        truth="rounding moves a run onto another path, as a seed does: 0.1 % is less than these seeds can resolve, and "
        "nobody measured it",
        where="rectest.systems.gear.precision",
        command="rectest train gear --set matmul_precision=medium",
    )


LARGER: dict[str, Any] = {"embedding_size": 64, "num_heads": 4}


@BOOK.claim(
    20,
    "a hidden size of 64 with 4 heads gives 1-3 % more nDCG@10",
    stated={"low": 0.01, "high": 0.03},
    trains=lambda _stated: [*_arm(), *_arm(LARGER)],
)
def larger(stated: Stated, runs: Runs) -> Measured:
    """The same steps at twice the size, paired by seed."""
    gain = _gain(runs, LARGER)
    return Measured(
        figure=f"ndcg@10 {gain.percent()}",
        verdict=place(gain, low=stated["low"], high=stated["high"]),
        truth="on a world of ours; the report states a range without a run",
        where="final metrics of the records; paired t interval",
        command="rectest train gear --set embedding_size=64 --set num_heads=4",
    )


def _long(stated: Stated) -> list[RunSpec]:
    """Runs that go on after their best evaluation."""
    config = {"steps": stated["steps"], "learning_rate": stated["learning_rate"]}
    clean = _arm(config, seeds=SEEDS[:1])
    return [*clean, *(spec.with_(plant=stated["plant"], replica=1) for spec in clean)]


LONG = {"steps": 400, "learning_rate": 6e-3}


@BOOK.claim(
    21,
    "the checkpoint in the log folder is the best model",
    stated={**LONG, "plant": LAST_WEIGHTS},
    counter={"plant": ""},
    trains=_long,
)
def best_is_kept(stated: Stated, runs: Runs) -> Measured:
    """Test metrics of what is kept without a monitored checkpoint, and of the best evaluation's weights."""
    best, kept = runs.train(_long(stated))
    curve = best[f"metric/valid/{METRIC}"]
    if not np.array_equal(curve, kept[f"metric/valid/{METRIC}"]):
        msg = "the two trainings differ in more than the weights that are kept, so they cannot be compared"
        raise NotHere(msg)
    at_best, at_end = float(curve.max()), float(curve[-1])
    equal = kept.final(f"test/{METRIC}") == best.final(f"test/{METRIC}")
    return Measured(
        figure=f"validation {at_best:.4f} at the best evaluation ({int(curve.argmax()) + 1} of {len(curve)}), "
        f"{at_end:.4f} at the last; test {best.final(f'test/{METRIC}'):.4f} and {kept.final(f'test/{METRIC}'):.4f}",
        verdict=Finding.UNDECIDABLE if at_best == at_end else finding(equal),
        truth="a trainer that monitors no metric for its checkpoint keeps the last epoch: the file is epoch 175 "
        "(0.7193), not 145 (0.7244)",
        where=LAST_WEIGHTS,
    )


def stopped_at(curve: Sequence[float], patience: int) -> int:
    """The best evaluation (from 0) that early stopping with this patience comes to see.

    >>> stopped_at([1.0, 0.9, 0.8, 2.0], 2), stopped_at([1.0, 0.9, 0.8, 2.0], 3)
    (0, 3)
    """
    best = 0
    for place_, value in enumerate(curve):
        if value > curve[best]:
            best = place_
        elif place_ - best >= patience:
            break
    return best


@BOOK.claim(
    22,
    "patience 30 is too large: half of it finds the same best epoch",
    stated={"shares": (0.5, 0.25)},
    trains=lambda _stated: _arm(),
)
def half_patience(stated: Stated, runs: Runs) -> Measured:
    """Curves of several seeds, stopped early afterwards: how often is a better evaluation missed?"""
    curves = [record[f"metric/valid/{METRIC}"].tolist() for record in runs.train(_arm())]
    num = len(curves[0])
    texts, missed = [], 0
    for share in stated["shares"]:
        patience = max(1, round(share * num / 3))
        early = sum(stopped_at(curve, patience) != int(np.argmax(curve)) for curve in curves)
        missed += early
        texts.append(f"patience {patience} of {num} evaluations misses the best of {early} of {len(curves)} runs")
    return Measured(
        figure="; ".join(texts),
        verdict=finding(missed == 0),
        truth="the report rests on one run, whose 30 last epochs of 176 were not needed; what a smaller patience costs "
        "shows over seeds only",
        where="validation curves of the records",
    )
