"""Report 000: recall that differs from run to run. Same seed and different seeds are kept apart throughout.

The trainings are of `comirec` with the stream that the report's program really had planted back into it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rectest.claims.claim import Book, Measured, Stated, finding
from rectest.claims.statistics import paired_gain, place, spread_ratio
from rectest.record import RunRecord, RunSpec

if TYPE_CHECKING:
    from rectest.claims.runs import Runs

__all__ = ["BOOK"]

BOOK = Book("000", "recall fluctuates early in training")

FAULTS = "rectest.faults.comirec"
METRIC = "valid/recall@20"
STEPS, EVERY = 125, 25
"""Five evaluations, as many as the report compares."""

SEED = 19
SEEDS = tuple(range(6))
BEFORE_AFTER = "rectest study before-after --seed 19"


def _program(name: str, *, repeats: int = 1, seed: int = SEED, eval_every: int = EVERY) -> list[RunSpec]:
    """Runs of the program with a planted stream, or of the clean one (empty name)."""
    plant = f"{FAULTS}:{name}" if name else ""
    spec = RunSpec(system="comirec", seed=seed, steps=STEPS, eval_every=eval_every, plant=plant)
    return [spec.with_(replica=replica) for replica in range(repeats)]


def _amplitude(records: Sequence[RunRecord]) -> float:
    """The largest relative fluctuation among the first evaluations."""
    from rectest.checks.fluctuation import amplitude

    return float(amplitude(np.stack([record[f"metric/{METRIC}"] for record in records])).max())


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


@BOOK.claim(
    1,
    "the data iterator ignores the global seed: the same seed draws other batches in each run",
    stated={"program": "shared_global_rng"},
    counter={"program": "unseeded_iterator"},
    trains=lambda stated: _program(stated["program"], repeats=2),
)
def seed_ignored(stated: Stated, runs: Runs) -> Measured:
    """The iterator draws from the global stream that the program seeds; the tape says whether batches differ."""
    from rectest.checks.reproducible import first_divergence, tape_of

    first, second = runs.train(_program(stated["program"], repeats=2))
    parted = first_divergence(tape_of(first), tape_of(second))
    batches = int((first["tape/batch"] != second["tape/batch"]).any(axis=1).sum())
    return Measured(
        figure=f"{batches} of {STEPS} batches differ between two runs with seed {SEED}; "
        + (f"first divergence: {parted.where}" if parted else "every stage of every step is bit-equal"),
        verdict=finding(batches > 0),
        truth="the iterator uses the process's global stream, which is seeded: nothing was there to fix",
        where=f"{FAULTS}:{stated['program']}, rectest.checks.reproducible",
        command=BEFORE_AFTER,
    )


def _before_after(stated: Stated) -> list[RunSpec]:
    return [*_program(stated["program"], repeats=3), *_program("", repeats=3)]


@BOOK.claim(
    2,
    "seeding the iterator brings early fluctuation from 10-30 % below 5 %",
    stated={"program": "shared_global_rng", "after": 0.05},
    counter={"program": "unseeded_iterator"},
    trains=_before_after,
)
def fix_steadies(stated: Stated, runs: Runs) -> Measured:
    """The report's own test 1: three runs before, three after, the first five evaluations."""
    records = runs.train(_before_after(stated))
    before, after = _amplitude(records[:3]), _amplitude(records[3:])
    return Measured(
        figure=f"{_percent(before)} before and {_percent(after)} after, three runs of one seed each",
        verdict=finding(before > after and after < stated["after"]),
        truth="the published change hands out the very same stream; what the user saw fluctuate came from elsewhere "
        "(likelier: a run resumed in silence from an older checkpoint, unordered additions on a GPU)",
        where="rectest.checks.fluctuation.same_seed_spread",
        command=BEFORE_AFTER,
    )


def _disturbed(stated: Stated) -> list[RunSpec]:
    quiet = _program(stated["program"])
    return [*quiet, quiet[0].with_(plant=stated["disturbed"])]


@BOOK.claim(
    3,
    "drawing from the seeded global stream makes the order of the data reproducible",
    stated={
        "program": "shared_global_rng",
        "disturbed": "rectest.claims.plants:shared_stream_with_foreign_draws",
    },
    counter={"program": "", "disturbed": "rectest.faults.controls:foreign_draws"},
    trains=_disturbed,
)
def global_stream_is_enough(stated: Stated, runs: Runs) -> Measured:
    """One draw of somebody else from the global generators must not move a batch."""
    first, second = runs.train(_disturbed(stated))
    differ = (first["tape/batch"] != second["tape/batch"]).any(axis=1)
    start = f", from step {int(np.argmax(differ)) + 1} on" if differ.any() else ""
    return Measured(
        figure=f"a foreign draw a step changes {int(differ.sum())} of {STEPS} batches{start}",
        verdict=finding(not differ.any()),
        truth="the real hazard of that program: a stream shared with everything else in the process, in which one "
        "foreign draw moves every later batch; a stream of its own cures it",
        where="rectest.faults.controls.foreign_draws, rectest.checks.purity",
    )


@BOOK.claim(
    4,
    "the expected fluctuations after the fix are one consistent expectation",
    stated={"bands": {"test 1": (0, 5), "summary": (5, 10), "table": (15, 30), "same seed": (0, 0)}},
    counter={"bands": {"test 1": (0, 5), "summary": (4, 10)}},
)
def bands_agree(stated: Stated, _runs: Runs) -> Measured:
    """Bands in percent agree when some value lies in all of them, in pairs first."""
    bands: dict[str, tuple[float, float]] = dict(stated["bands"])
    apart = [
        f"{a} and {b}"
        for (a, one), (b, two) in itertools.combinations(bands.items(), 2)
        if max(one[0], two[0]) > min(one[1], two[1])
    ]
    low, high = max(band[0] for band in bands.values()), min(band[1] for band in bands.values())
    return Measured(
        figure=f"{len(apart)} of {math.comb(len(bands), 2)} pairs of bands exclude each other"
        + (f" ({'; '.join(apart)})" if apart else f"; common to all: {low:g} to {high:g} %"),
        verdict=finding(low <= high),
        truth="one seed has one tolerance, 0; different seeds have a distribution; the report asks for both at once",
        where="interval arithmetic on the stated bands",
    )


@BOOK.claim(
    5,
    "below iteration 50 recall can be seen to swing more than beyond 200",
    stated={"early": 50, "late": 200, "evaluated_every": {"book": 1000, "taobao": 500}},
    counter={"evaluated_every": {"book": 10, "taobao": 10}},
)
def early_is_observable(stated: Stated, _runs: Runs) -> Measured:
    """An iteration can be watched only where it is evaluated."""
    every: dict[str, int] = dict(stated["evaluated_every"])
    seen = {name: (stated["early"] - 1) // step for name, step in every.items()}
    first = ", ".join(f"{name} at {step}" for name, step in every.items())
    return Measured(
        figure=f"{sum(seen.values())} evaluations before iteration {stated['early']}; the first are {first}",
        verdict=finding(min(seen.values()) > 0),
        truth="nothing before the first evaluation was ever observed, so the early phase is a guess",
        where="arithmetic on the evaluation schedule",
    )


@BOOK.claim(
    6,
    "10 negatives a row make 1280 in a batch of 128, a fraction of the catalogue",
    stated={"neg_num": 10, "batch_size": 128, "num_sampled": 1280, "num_classes": 367_983},
    counter={"num_sampled": 128},
)
def negatives_of_a_batch(stated: Stated, _runs: Runs) -> Measured:
    """Negatives are shared by the batch."""
    num = stated["neg_num"] * stated["batch_size"]
    return Measured(
        figure=f"{num}, {100 * num / stated['num_classes']:.3f} % of {stated['num_classes']} classes",
        verdict=finding(num == stated["num_sampled"]),
        where="arithmetic",
    )


def _negatives(stated: Stated) -> list[RunSpec]:
    return [
        RunSpec(system="comirec", seed=seed, steps=STEPS, eval_every=EVERY, config={"neg_num": num})
        for num in stated["neg_nums"]
        for seed in SEEDS
    ]


@BOOK.claim(
    7,
    "more negatives make training steadier",
    stated={"neg_nums": (1, 3)},
    trains=_negatives,
)
def more_negatives(stated: Stated, runs: Runs) -> Measured:
    """The relative spread over seeds of the last validation value, few negatives against many."""
    records = runs.train(_negatives(stated))
    arms = [[r.final(METRIC) for r in group] for group in (records[: len(SEEDS)], records[len(SEEDS) :])]
    relative = [list(np.array(values) / np.mean(values)) for values in arms]
    ratio = spread_ratio(*relative)
    few, many = stated["neg_nums"]
    means = " and ".join(f"{np.mean(values):.4f}" for values in arms)
    return Measured(
        figure=f"relative sd over {len(SEEDS)} seeds changes by x{ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] "
        f"from {few} to {many} negatives a row; mean recall {means}",
        verdict=place(ratio, low=0.0, high=1.0),
        truth="negatives lower the variance of a gradient; no number of them makes two unequal runs equal",
        where="sd over seeds with the interval of the F distribution",
        command="rectest study negatives",
    )


@BOOK.claim(
    8,
    "dividing by the ideal gain of the hits under-estimates nDCG (a later text of the project)",
    stated={"num_hits": 2, "num_relevant": 10, "k": 50, "ideal_of_relevant": 4.96},
    counter={"num_hits": 12},
)
def ndcg_underestimated(stated: Stated, _runs: Runs) -> Measured:
    """A smaller denominator gives a larger quotient."""
    from rectest.metrics.ranking import ideal_dcg

    by_hits, proper = ideal_dcg(np.array([stated["num_hits"], stated["num_relevant"]]), stated["k"])
    return Measured(
        figure=f"ideal gain of {stated['num_hits']} hits {by_hits:.2f}, of {stated['num_relevant']} relevant items "
        f"{proper:.2f} (text: {stated['ideal_of_relevant']}): nDCG comes out {proper / by_hits:.2f} times as large",
        verdict=finding(by_hits > proper),
        truth="it is over-estimated: a user with one hit at rank 1 and nine misses gets nDCG 1",
        where="rectest.metrics.ranking.ideal_dcg",
    )


def _modes(_stated: Stated) -> list[RunSpec]:
    clean = _program("", repeats=3)
    return [*clean, *(spec.with_(deterministic=False) for spec in clean)]


@BOOK.claim(
    9,
    "deterministic mode costs speed",
    stated={"noticeable": 0.05},
    trains=_modes,
)
def deterministic_mode(stated: Stated, runs: Runs) -> Measured:
    """Seconds of training with torch's deterministic mode against without, in pairs of repetitions."""
    records = runs.train(_modes(stated))
    seconds = [float(record.facts["timing"]["trained"]) for record in records]
    gain = paired_gain(seconds[3:], seconds[:3])
    equal = all(r.digest("loss/", "metric/") == records[0].digest("loss/", "metric/") for r in records)
    return Measured(
        figure=f"{gain.percent().replace('seeds', 'pairs')} time; {'all' if equal else 'not all'} six runs bit-equal",
        verdict=place(gain, low=stated["noticeable"], high=math.inf),
        truth="on one CPU thread the mode changes nothing that this program uses; what it costs on a GPU is for a GPU",
        where="facts of the records: timing",
        command="rectest study deterministic-mode",
    )


@BOOK.claim(
    10,
    "the seed moves final performance by no more than +-2-5 %",
    stated={"neg_nums": (3,), "band": 0.05},
    counter={"band": 0.001},
    trains=_negatives,
)
def seeds_stay_in_band(stated: Stated, runs: Runs) -> Measured:
    """The farthest of several seeds from their mean, on the test users."""
    values = np.array([record.final(METRIC.replace("valid", "test")) for record in runs.train(_negatives(stated))])
    reach = float(np.abs(values / values.mean() - 1).max())
    return Measured(
        figure=f"+-{_percent(reach)} over {len(values)} seeds (sd {_percent(values.std(ddof=1) / values.mean())})",
        verdict=finding(reach <= stated["band"]),
        truth="a band has no false-alarm rate: with more seeds any band is left; a stored baseline over seeds has one",
        where="rectest.checks.fluctuation.seed_spread",
        command="rectest study seeds",
    )


def _sources(_stated: Stated) -> list[RunSpec]:
    return [spec for name in ("unseeded_iterator", "unseeded_negatives") for spec in _program(name, repeats=5)]


@BOOK.claim(
    11,
    "unseeded batches move recall more than unseeded negatives do",
    trains=_sources,
)
def batches_matter_most(stated: Stated, runs: Runs) -> Measured:
    """The spread of one seed when only the batches, or only the negatives, come from an unseeded stream."""
    records = runs.train(_sources(stated))
    batches, negatives = ([r.final(METRIC) for r in group] for group in (records[:5], records[5:]))
    ratio = spread_ratio(negatives, batches)
    return Measured(
        figure=f"sd {np.std(batches, ddof=1):.4f} from batches, {np.std(negatives, ddof=1):.4f} from negatives: "
        f"x{ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]",
        verdict=place(ratio, low=1.0, high=math.inf),
        truth="either alone makes runs differ; a same-seed rerun must have neither",
        where=f"{FAULTS}:unseeded_iterator and unseeded_negatives",
    )


def _orders(_stated: Stated) -> list[RunSpec]:
    random = _negatives({"neg_nums": (3,)})
    return [*random, *(spec.with_(config={**spec.config, "order": "fixed"}) for spec in random)]


@BOOK.claim(
    12,
    "a fixed order of the data may cost quality",
    trains=_orders,
)
def fixed_order(stated: Stated, runs: Runs) -> Measured:
    """Recall on the test users, users in turn against users at random, in pairs of one seed."""
    values = [record.final(METRIC.replace("valid", "test")) for record in runs.train(_orders(stated))]
    gain = paired_gain(values[: len(values) // 2], values[len(values) // 2 :])
    return Measured(
        figure=f"recall {gain.percent()}",
        verdict=place(gain, low=-math.inf, high=0.0),
        truth="good for debugging; with an order of its own stream there is no need for it",
        where="rectest.systems.comirec, order=fixed",
        command="rectest study fixed-order",
    )
