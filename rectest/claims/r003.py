"""Report 003: gradients, a "verified" table, and a strict evaluation. Arithmetic and seeded numbers, no training.

The measured gradients, the generated ids and the healthy share of recent items are in `r003_runs`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rectest.claims.claim import Book, Finding, Measured, Stated, finding
from rectest.claims.rules import Schedule

if TYPE_CHECKING:
    from rectest.claims.runs import Runs

__all__ = ["BOOK"]

BOOK = Book("003", "distributed gradients, id map and embeddings")

TABLE = {"num_rows": 12_102, "size": 64, "signal": 0.0, "normalise": True}
WORLD = "taste-small"
NUM_SAMPLES, BATCH, RANKS, ACCUMULATION = 131_413, 32, 4, 2
HITS = {"hit@5": 0.053, "hit@10": 0.074, "ndcg@10": 0.045}


def _table(stated: Stated, num_rows: int, groups: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.float32]:
    """Seeded normal rows of length one with a zero row 0; `signal` moves the rows of a group together."""
    rng = np.random.default_rng(42)
    rows = rng.standard_normal((num_rows, stated["size"])) * 0.1
    if groups is not None and stated["signal"]:
        centres = rng.standard_normal((int(groups.max()) + 1, stated["size"])) * 0.1
        rows += stated["signal"] * centres[groups]
    if stated["normalise"]:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[0] = 0.0
    return rows.astype(np.float32)


@BOOK.claim(
    1,
    "the item embeddings are verified healthy: norm 1, mean 0, sd 0.125, zero row 0, nothing broken",
    stated={**TABLE, "world": WORLD},
    counter={"signal": 2.0},
)
def embeddings_healthy(stated: Stated, _runs: Runs) -> Measured:
    """Random numbers of the same shape through every audit of the report, then through the test that it left out."""
    from rectest.checks.embeddings import TableFacts, audit_table
    from rectest.checks.table_signal import consecutive_pairs, table_signal
    from rectest.data.worlds import load_world

    whole = audit_table(_table(stated, stated["num_rows"]), "graph", facts=TableFacts(padding_row=0, norm=1.0))
    world = load_world(stated["world"])
    sequences = world.interactions.sequences()
    small = _table(stated, world.num_items + 1, world.clusters)
    signal = table_signal(small, consecutive_pairs(sequences.items, sequences.offsets))
    red = [result.check for result in whole if result.red]
    return Measured(
        figure=f"seeded noise passes {len(whole) - len(red)} of {len(whole)} audits of the table; signal: "
        f"{signal.figure} ({signal.verdict})",
        verdict=finding(not red and not signal.red),
        truth="the shipped file is what its generator gives for seed 42 (to 2.4e-7): normalised random numbers; every "
        "check that the report made passes on noise",
        where="rectest.checks.embeddings.audit_table, rectest.checks.table_signal",
    )


@BOOK.claim(
    2,
    "an sd of 0.125 speaks for the quality of the embeddings",
    stated={**TABLE, "num_rows": 2000, "kinds": (0.0, 2.0)},
    counter={"normalise": False},
)
def deviation_is_quality(stated: Stated, _runs: Runs) -> Measured:
    """The sd of rows of length one is sqrt(1 / D) - mean^2 whatever they hold; noise and signal are compared."""
    groups = np.arange(stated["num_rows"]) % 8
    found = {k: float(_table({**stated, "signal": k}, stated["num_rows"], groups)[1:].std()) for k in stated["kinds"]}
    apart = max(found.values()) - min(found.values())
    identity = math.sqrt(1 / stated["size"])
    return Measured(
        figure=", ".join(f"{'signal' if kind else 'noise'} {sd:.4f}" for kind, sd in found.items())
        + f"; sqrt(1 / {stated['size']}) = {identity:.4f}",
        verdict=finding(apart > 0.1 * identity),
        truth="an identity: length one in 64 dimensions forces it, so it tells nothing about the content",
        where="numpy",
    )


@BOOK.claim(
    3,
    "an effective learning rate spoiled by gradient scaling shows as a slowly falling loss",
    stated={"factors": (1 / 16, 1 / 4, 1.0, 4.0), "share": 0.2, "optimizer": "adam"},
    counter={"optimizer": "sgd"},
)
def scale_shows(stated: Stated, _runs: Runs) -> Measured:
    """Final losses with gradients times a constant, under AdamW with clipping and under SGD."""
    from rectest.faults.optimiser_scale import scale_spans

    spans = scale_spans(stated["factors"])
    span = spans.adam_span if stated["optimizer"] == "adam" else spans.sgd_span
    return Measured(
        figure=f"final losses span {spans.adam_span:.4f} under AdamW with clipping, {spans.sgd_span:.4f} under SGD, "
        f"over factors {min(stated['factors']):g} to {max(stated['factors']):g}",
        verdict=finding(span > stated["share"] * spans.sgd_span),
        truth="Adam divides a constant factor out again; compare gradients, loss curves cannot show it",
        where="rectest.faults.optimiser_scale.scale_spans",
    )


@BOOK.claim(
    4,
    "the loss falls slowly because gradients are handled wrongly",
    stated={
        "ran": {"peak": 1e-4, "warm_up": 0.10}, "upstream": {"peak": 1e-3, "warm_up": 0.05},
        "epochs": 30, "at": 10, "much": 2.0,
    },
    counter={"ran": {"peak": 1e-3, "warm_up": 0.05}},
)  # fmt: skip
def slow_loss(stated: Stated, _runs: Runs) -> Measured:
    """The integral of the learning rate after 10 epochs, as configured and as upstream has it."""
    steps = math.ceil(math.ceil(NUM_SAMPLES / (BATCH * RANKS)) / ACCUMULATION)
    two = math.ceil(math.ceil(NUM_SAMPLES / (BATCH * RANKS // 2)) / ACCUMULATION)
    arms = ((stated["ran"], steps), (stated["upstream"], steps), (stated["upstream"], two))
    ran, same, upstream = (
        Schedule(**rates, total_steps=stated["epochs"] * each).integral(stated["at"] * each) for rates, each in arms
    )
    return Measured(
        figure=f"{ran:.3f} against {same:.2f} of upstream's settings on the same {RANKS} GPUs (x{same / ran:.1f}) and "
        f"{upstream:.2f} on upstream's own two (x{upstream / ran:.0f})",
        verdict=finding(same / ran < stated["much"]),
        truth="the learning rate is a tenth of upstream's with twice its warm-up: that alone explains the slow loss",
        where="rectest.claims.rules.Schedule",
    )


@BOOK.claim(
    5,
    "one GPU against four, by epochs, shows whether gradients are handled wrongly",
    stated={"num_samples": NUM_SAMPLES, "batch": BATCH, "ranks": RANKS, "accumulation": ACCUMULATION},
    counter={"ranks": 1},
)
def plan_b(stated: Stated, _runs: Runs) -> Measured:
    """Optimizer steps of an epoch on either side."""
    from rectest.faults.optimiser_scale import epochs_compared

    compared = epochs_compared(
        num_samples=stated["num_samples"],
        batch_size=stated["batch"],
        world_size=stated["ranks"],
        accumulation=stated["accumulation"],
    )
    return Measured(
        figure=f"{compared.steps_one} steps an epoch on one, {compared.steps_many} on {stated['ranks']}: "
        f"x{compared.factor:.2f}",
        verdict=finding(compared.factor < 1.05),
        truth="one GPU takes four times the steps, so its loss falls faster in any case: compare one step's gradient "
        "on the same rows",
        where="rectest.faults.optimiser_scale.epochs_compared; rectest.checks.parity",
    )


@BOOK.claim(
    6,
    "the loss goes from 7.03 to 3.98, down 43 %",
    stated={"first": 7.03, "last": 3.98, "percent": 43},
    counter={"percent": 50},
)
def loss_fell(stated: Stated, _runs: Runs) -> Measured:
    """One division."""
    fall = 100 * (1 - stated["last"] / stated["first"])
    return Measured(figure=f"{fall:.1f} %", verdict=finding(round(fall) == stated["percent"]), where="arithmetic")


@BOOK.claim(
    7,
    "hit@5 0.053, hit@10 0.074 and ndcg@10 0.045 belong together",
    stated={"metrics": HITS},
    counter={"metrics": {**HITS, "ndcg@10": 0.065}},
)
def metrics_cohere(stated: Stated, _runs: Runs) -> Measured:
    """The interval that the hits leave for ndcg, with one relevant item a user."""
    from rectest.metrics.coherence import coherence_violations

    metrics = stated["metrics"]
    early, late = metrics["hit@5"], metrics["hit@10"] - metrics["hit@5"]
    low, high = early / math.log2(6) + late / math.log2(11), early + late / math.log2(7)
    violations = coherence_violations(metrics, single_relevant=True, decimals=3)
    return Measured(
        figure=f"ndcg@10 may be {low:.3f} to {high:.3f}; {len(violations)} rules broken",
        verdict=finding(not violations),
        where="rectest.metrics.coherence",
    )


@BOOK.claim(
    8,
    "hit@10 grows from 0.074 to 0.080 between epochs 5 and 10",
    stated={"before": 0.074, "after": 0.080, "num_users": 22_363, "z": 1.96},
    counter={"num_users": 5_000},
)
def growth(stated: Stated, _runs: Runs) -> Measured:
    """The difference in standard errors of two independent shares: an upper bound of the error of paired users."""
    mean = (stated["before"] + stated["after"]) / 2
    error = math.sqrt(2 * mean * (1 - mean) / stated["num_users"])
    z = (stated["after"] - stated["before"]) / error
    growth = stated["after"] / stated["before"] - 1
    return Measured(
        figure=f"{growth:+.0%}, z = {z:.1f} on {stated['num_users']:,} users",
        verdict=Finding.CONFIRMED if z > stated["z"] else Finding.UNDECIDABLE,
        truth="growth is there, barely beyond the noise of the users; 'too slow' compares it with nothing",
        where="two-proportion z",
    )


@BOOK.claim(
    9,
    "every item is found in the map (100 %, tested on 704)",
    stated={"tested": 704, "distinct": 613, "num_items": 12_101, "failures": 0},
    counter={"distinct": 12_101},
)
def lookups(stated: Stated, _runs: Runs) -> Measured:
    """What passing on so many items leaves open (rule of three), had they been drawn at random."""
    share = stated["distinct"] / stated["num_items"]
    complete = share == 1.0 and stated["failures"] == 0
    left = 0.0 if complete else min(1.0, 3 / stated["distinct"])
    return Measured(
        figure=f"{stated['tested']} occurrences are {stated['distinct']} distinct items, {share:.1%} of "
        f"{stated['num_items']:,}; up to {left:.2%} ({round(left * stated['num_items'])} items) may still be missing",
        verdict=Finding.CONFIRMED if complete else Finding.UNDECIDABLE,
        truth="they are the items of the first 50 users, not a random draw; the whole check is one line",
        where="rule of three; rectest.checks.mapping checks every id",
    )


@BOOK.claim(
    10,
    "60 % of the slow loss is the gradients', 30 % the prefix's, 10 % the task's, with 90 % confidence",
    stated={"shares": {"gradients": 60, "prefix": 30, "task": 10}, "verified": ("gradients",), "confidence": 90},
    counter={"verified": ("gradients", "prefix")},
)
def contributions(stated: Stated, _runs: Runs) -> Measured:
    """The share that the report itself marks as verified, against the confidence that it states for the whole."""
    verified = sum(stated["shares"][name] for name in stated["verified"])
    return Measured(
        figure=f"{verified} of {sum(stated['shares'].values())} % rest on items marked as verified, "
        f"{stated['confidence']} % confidence is stated",
        verdict=finding(verified >= stated["confidence"]),
        truth="no share was measured; the one marked as verified is 0 (003.20)",
        where="arithmetic on the report's table",
    )


@BOOK.claim(
    11,
    "the verified map is the one that the run used",
    stated={"order": ("figures of the run written down", "keys of the map replaced", "map verified")},
    counter={"order": ("keys of the map replaced", "figures of the run written down", "map verified")},
)
def same_file(stated: Stated, _runs: Runs) -> Measured:
    """A file replaced between the run and its audit is another file."""
    order = list(stated["order"])
    replaced, ran = (order.index(name) for name in ("keys of the map replaced", "figures of the run written down"))
    return Measured(
        figure=" -> ".join(order),
        verdict=finding(replaced < ran),
        truth="the run looked its keys up in an older map whose keys were long texts: no key was found and every "
        "prefix was zero; keep digests of all inputs with a run",
        where="the order of events; rectest.checks.inputs.same_inputs holds a run to the digests of its inputs",
    )


@BOOK.claim(
    12,
    "the separator of histories may not match",
    stated={"joined_with": " ; ", "split_with": " ; ", "ids": ("B004OHQR1Q", "B0043OYFKU", "B0069FDR96")},
    counter={"split_with": ";"},
)
def separator(stated: Stated, _runs: Runs) -> Measured:
    """Joined and split again by the same variable."""
    ids = list(stated["ids"])
    again = stated["joined_with"].join(ids).split(stated["split_with"])
    lost = sum(a != b for a, b in zip(ids, again, strict=False)) + abs(len(ids) - len(again))
    return Measured(
        figure=f"{lost} of {len(ids)} ids differ after joining and splitting",
        verdict=finding(lost > 0),
        truth="one variable joins and splits, so it cannot mismatch",
        where="string arithmetic; rectest.checks.generated.round_trip for the tokens",
    )


@BOOK.claim(
    13,
    "without synchronisation the logged loss would show it",
    stated={"num_ranks": 4, "close": 0.05},
    counter={"num_ranks": 1},
)
def drift_shows(stated: Stated, _runs: Runs) -> Measured:
    """Replicas that train alone: the mean loss that is logged, and what each is worth on all rows."""
    from rectest.faults.optimiser_scale import drifting_replicas

    found = drifting_replicas(stated["num_ranks"])
    real = float(np.mean(found.replicas))
    return Measured(
        figure=f"logged {found.logged:.3f}, while the replicas have {min(found.replicas):.3f} to "
        f"{max(found.replicas):.3f} on all rows and synchronised ones {found.synchronised:.3f}",
        verdict=finding(abs(found.logged - real) <= stated["close"] * real),
        truth="the repair that the report led to removed the division and the sum and kept `.module`: replicas drifted "
        "apart for a day while the dashboard looked fine",
        where="rectest.faults.optimiser_scale.drifting_replicas; rectest.checks.replicas_equal",
    )
