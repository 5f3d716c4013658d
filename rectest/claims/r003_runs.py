"""Report 003, continued: gradients on real processes, generated ids, and the share of recent items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rectest.claims.claim import Measured, Stated, finding
from rectest.claims.r003 import BOOK

if TYPE_CHECKING:
    from rectest.claims.runs import Runs
    from rectest.record import RunSpec

__all__ = ["lengths_like"]

Ints = npt.NDArray[np.int64]

SYSTEM = "gram_c"
BEAUTY = {"num_users": 22_363, "num_events": 198_502, "min_events": 5, "num_samples": 131_413}
"""Sizes of the report's data set: every user has at least five events, the last two are held out."""


def _on_ranks(_stated: Stated) -> tuple[RunSpec, ...]:
    """The ranks are started by `Runs.ranks`; no single process is trained."""
    return ()


@BOOK.claim(
    20,
    "gradients are reduced twice, so that the effective learning rate is out of control",
    stated={"num_ranks": 2, "variants": ("ddp_divided_sum", "report_003", "report_003_accumulation")},
    counter={"variants": ("ddp_sum",)},
    trains=_on_ranks,
)
def reduced_twice(stated: Stated, runs: Runs) -> Measured:
    """The net gradient that each rank steps with, on real processes, over that of one process on the same rows."""
    rows = runs.ranks(SYSTEM, stated["num_ranks"], stated["variants"])
    wrong = [row for row in rows if row.caught_by]
    return Measured(
        figure="; ".join(f"{row.variant.name}: x{row.scale:.4g}, relative error {row.error:.1g}" for row in rows),
        verdict=finding(bool(wrong)),
        truth="the net gradient is exactly right in both readings: the division by W and the sum over W cancel; the "
        "60 % that the report gives to it are 0",
        where="rectest.faults.parallel, rectest.checks.parity",
    )


@BOOK.claim(
    21,
    "removing the division and the manual sum repairs training",
    stated={"num_ranks": 2, "variants": ("never_reduced",)},
    counter={"variants": ("ddp",)},
    trains=_on_ranks,
)
def repair(stated: Stated, runs: Runs) -> Measured:
    """The repair with `.module` kept, as it was committed."""
    (row,) = runs.ranks(SYSTEM, stated["num_ranks"], stated["variants"])
    return Measured(
        figure=f"{row.variant.name}: relative error of the gradient {row.error:.2g}, replicas "
        f"{'agree' if row.replicas_agree else 'drift apart'}",
        verdict=finding(row.replicas_agree and not row.caught_by),
        truth="acting on the diagnosis breaks what worked: DDP's hooks never fire through `.module`: the manual sum "
        "was the only synchronisation there was",
        where="rectest.faults.variants, rectest.checks.parity",
    )


@BOOK.claim(
    22,
    "exact string matching under-estimates hits by 5-10 %",
    stated={"world": "words-small", "levels": 4, "codes": 16, "num_users": 500, "constrained": True},
    counter={"constrained": False},
)
def exact_match(stated: Stated, _runs: Runs) -> Measured:
    """Lists of generated ids under a trie, matched strictly and normalised; without a trie, with stray signs."""
    from rectest.checks.generated import matching, normalised

    known = _item_texts(stated)
    rng = np.random.default_rng(0)
    targets = [known[i] for i in np.asarray(rng.integers(0, len(known), stated["num_users"]))]
    lists = [[known[i] for i in rng.permutation(len(known))[:50]] for _ in targets]
    if not stated["constrained"]:
        lists = [[f"{text} |" for text in own] for own in lists]
    result = matching(lists, targets, known)
    collisions = len(known) - len({normalised(text) for text in known})
    return Measured(
        figure=f"{result.figure}; {collisions} of {len(known)} ids collide when case and signs are forgiven",
        verdict=finding(result.red),
        truth="impossible under a trie: every output is literally the id of an item; a fuzzy match can only add false "
        "hits. What limits the hits is a beam of 10",
        where="rectest.checks.generated.matching",
    )


def _item_texts(stated: Stated) -> list[str]:
    from rectest.data.worlds import load_world
    from rectest.systems.gram_c.ids import assign_ids, item_vectors
    from rectest.systems.gram_c.text import id_texts

    world = load_world(stated["world"])
    vectors = item_vectors(world.interactions.sequences(), world.num_items)
    rng = np.random.default_rng(0)
    ids = assign_ids(vectors, rng, num_levels=stated["levels"], num_codes=stated["codes"])
    return list(id_texts(ids)[1:])


def lengths_like(sizes: Mapping[str, int]) -> Ints:
    """Lengths of sequences with the given numbers of users and events: the least, plus a geometric excess (seeded).

    Of all laws with that least length and mean, the geometric one has the largest entropy; the sum is exact.
    """
    rng = np.random.default_rng(0)
    excess = sizes["num_events"] / sizes["num_users"] - sizes["min_events"]
    lengths: Ints = sizes["min_events"] + rng.geometric(1 / (1 + excess), sizes["num_users"]) - 1
    short = sizes["num_events"] - int(lengths.sum())
    moved = rng.choice(np.flatnonzero(lengths > sizes["min_events"]), abs(short), replace=False)
    lengths[moved] += 1 if short > 0 else -1
    return lengths


@BOOK.claim(
    23,
    "more than 90 % non-zero recent items means healthy, less than 50 % broken",
    stated={**BEAUTY, "num_recent": 5, "healthy": 0.9, "world": "words-small"},
    counter={"num_events": 22_363 * 80, "num_samples": 22_363 * 77, "world": "taste-small"},
)
def recent_rule(stated: Stated, _runs: Runs) -> Measured:
    """The exact share of a healthy pipeline, from the lengths of the histories alone."""
    from rectest.checks.generated import expected_share
    from rectest.data.worlds import load_world

    own = load_world(stated["world"]).interactions.sequences().lengths
    found = {
        "lengths with the sizes of the report's data": _prefixes(lengths_like(stated)),
        stated["world"]: _prefixes(own),
    }
    shares = {name: expected_share(lengths, stated["num_recent"]) for name, lengths in found.items()}
    samples = len(next(iter(found.values())))
    return Measured(
        figure="; ".join(f"{name}: {share:.1%}" for name, share in shares.items())
        + f"; {samples:,} training samples ({stated['num_samples']:,} counted)",
        verdict=finding(next(iter(shares.values())) > stated["healthy"]),
        truth="a healthy pipeline on the report's data gives 69.9 %, in the rule's no man's land; compute the expected "
        "share and demand equality",
        where="rectest.checks.generated.expected_share",
    )


def _prefixes(lengths: Ints) -> Ints:
    """Known items of every training sample: each training position but the first has all before it."""
    return np.concatenate([np.arange(1, max(1, length - 2)) for length in lengths.tolist()])


@BOOK.claim(
    24,
    "users with short histories give empty histories",
    stated={"world": "words-small", "first_target": 1},
    counter={"first_target": 0},
)
def empty_histories(stated: Stated, _runs: Runs) -> Measured:
    """Training samples without any known item; the first target has one item before it."""
    from rectest.data.worlds import load_world

    lengths = load_world(stated["world"]).interactions.sequences().lengths
    known = np.concatenate([np.arange(stated["first_target"], max(1, n - 2)) for n in lengths.tolist()])
    return Measured(
        figure=f"{int((known == 0).sum())} of {len(known):,} samples have an empty history",
        verdict=finding(bool((known == 0).any())),
        truth="samples start at the second item, so that a history has at least one",
        where="rectest.systems.gram_c.samples.Samples.prefixes",
    )
