"""Leaks: training must not depend on what is held out, neither through its arrays nor through texts written earlier.

Two tests of different reach. `held_out_blind` is complete: the run on the world whose held-out items are others
must be equal to the last bit, so whatever training read of them shows, and where. It needs code that can be run
again. `mention_rates` judges texts that somebody else wrote: it needs only who is mentioned in which text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.reproducible import (
    MEANINGS,
    SETUP_STAGES,
    Divergence,
    Tape,
    comparable,
    first_divergence,
    tape_of,
)
from rectest.checks.result import CheckResult, judged, not_measured, percent, sample
from rectest.checks.tolerance import ALPHA
from rectest.record import RunRecord

__all__ = ["DISTANCES", "exact_tail", "held_out_blind", "mention_rates", "unseen_like"]

Ints = npt.NDArray[np.int64]

TRAINING_STAGES = ("id_map", "init", "batch", "negatives", "loss", "gradients", "parameters")
"""What training is made of; the states of the global generators are purity's business."""

DISTANCES = ((3, 10), (11, 20), (21, 30), (31, 50))
"""Positions from the end of a user's whole sequence, for the table of rates; the held-out ones come before them."""


def held_out_blind(record: RunRecord, edited: RunRecord) -> list[CheckResult]:
    """Whether training is the same to the bit when the held-out items are others (``leak/held_out``).

    `edited` is the same spec with a plant that replaces the items of the held-out events. The tapes from id map to
    parameters are compared over the common steps (early stopping sees other targets, so it may end one run sooner).
    Frozen side tables are buffers, so one that was made of held-out events shows in ``init``. Specs that differ in
    more than the plant, other environments, and equal digests of the two worlds are NOT MEASURED.
    """
    check, subject = "leak/held_out", record.spec.system
    if problem := _no_edited_twin(record, edited):
        advice = "train the same spec with the plant rectest.faults.controls:held_out_edited"
        return [not_measured(check, subject, problem, advice=advice)]
    common = min(len(run["tape/loss"]) for run in (record, edited))
    tapes = [_training_tape(run, common) for run in (record, edited)]
    found = first_divergence(*tapes, tensors=record.facts.get("tape"))
    return [
        judged(
            check,
            subject,
            ok=found is None,
            figure=f"{common} steps bit-equal, whatever the held-out items are"
            if found is None
            else f"LEAK: training follows the held-out items from {found.where} on",
            expected="id map, initial parameters, batches and every step bit-equal",
            limit="0 differences",
            detail="" if found is None else _what_leaks(found),
            advice="build counts, tables, texts and graphs from the training events only",
        )
    ]


def _no_edited_twin(record: RunRecord, edited: RunRecord) -> str:
    """Why two records cannot show a leak, or nothing."""
    if record.spec.plant == edited.spec.plant:
        return f"both runs have the plant {record.spec.plant!r}, so nothing was edited"
    aligned = replace(edited, spec=edited.spec.with_(plant=record.spec.plant))
    if reasons := comparable(record, aligned):
        return f"not comparable: {'; '.join(reasons)}"
    worlds = [(run.facts.get("inputs") or {}).get("world") for run in (record, edited)]
    if None in worlds or worlds[0] == worlds[1]:
        return f"both runs saw the world {worlds[0]}, so nothing was edited"
    missing = [
        s for s in ("init", "batch", "loss", "parameters") if any(f"tape/{s}" not in r for r in (record, edited))
    ]
    if missing or not min(len(run["tape/loss"]) for run in (record, edited)):
        return f"no tape of {sample(missing)}" if missing else "a tape without steps"
    return ""


def _training_tape(record: RunRecord, num_steps: int) -> Tape:
    kept = {stage: marks for stage, marks in tape_of(record).items() if stage.partition("/")[0] in TRAINING_STAGES}
    return {stage: marks if stage in SETUP_STAGES else marks[:num_steps] for stage, marks in kept.items()}


_LEAKS = {
    "id_map": "raw ids of held-out events were counted when the ids were assigned",
    "init": "a table, graph or text vector was made of all events, or parameters start from statistics of them",
    "batch": "training examples contain held-out events: a split that is off by one, or features of the whole sequence",
    "negatives": "the sampler knows the held-out items: it avoids them, or counts them into the popularity",
    "loss": "equal batches gave another loss: the model holds something that was made of held-out events",
}


def _what_leaks(found: Divergence) -> str:
    why = _LEAKS.get(found.stage, "training itself looked at held-out events")
    return f"{MEANINGS.get(found.stage, found.stage)} differ first: {why}"


def mention_rates(
    mentioned: npt.ArrayLike,
    position_from_end: npt.ArrayLike,
    *,
    unseen: npt.ArrayLike | None = None,
    num_held_out: int = 2,
    name: str = "texts",
    alpha: float = ALPHA,
) -> CheckResult:
    """Whether users' side texts mention their held-out items more often than items they never met.

    A text that was written from training events knows nothing of the held-out ones, so their items are mentioned as
    often as others of the same popularity: Fisher's exact test (one-sided) of the two counts, at level `alpha`.
    Report 001's texts mentioned 21.5 % of the last two items, 23 % of those before, 0.06 % of unseen ones: they were
    written from the whole sequence. A mention must be of the item itself, its title or id; words that items of one
    taste share are rightly common to a user's past and future.

    Args:
        mentioned: bool[N], whether the user's text mentions the item of an event.
        position_from_end: int[N], 1 for the last event of the user's whole sequence, and so on.
        unseen: bool[M], the same for items that the user never met (draw them with `unseen_like`).
        num_held_out: how many events at the end of each sequence are held out.

    Raises:
        ValueError: the arrays do not fit together, or a position is below 1.
    """
    check = "leak/position_rate"
    hits, position = np.asarray(mentioned, dtype=bool).reshape(-1), np.asarray(position_from_end).reshape(-1)
    if hits.shape != position.shape or (position.size and position.min() < 1):
        msg = f"need one position of at least 1 for each of {hits.size} events, got {position.size}"
        raise ValueError(msg)
    held, control = hits[position <= num_held_out], np.asarray([] if unseen is None else unseen, dtype=bool).reshape(-1)
    if not held.size or not control.size:
        what = "no held-out event" if not held.size else "no unseen item to compare with"
        return not_measured(check, name, what, advice="draw one unseen item for each held-out one with unseen_like")
    p = exact_tail(int(held.sum()), held.size, int(control.sum()), control.size)
    ok = p >= alpha
    older = {span: hits[(position >= max(span[0], num_held_out + 1)) & (position <= span[1])] for span in DISTANCES}
    return judged(
        check,
        name,
        ok=ok,
        figure=f"{percent(held.mean())} of {held.size} held-out items are mentioned, "
        f"{percent(control.mean())} of {control.size} unseen ones (p = {p:.2g})",
        expected="held-out items mentioned as rarely as unseen ones of the same popularity",
        limit=f"p >= {alpha:g}",
        worst="positions from the end: "
        + ", ".join(f"{low}-{high} {percent(part.mean())}" for (low, high), part in older.items() if part.size),
        detail="" if ok else "LEAK: the texts were written with the held-out events in view",
        advice="write the texts anew from training events, and measure again what they are worth",
    )


def exact_tail(hits: int, num: int, control_hits: int, control_num: int) -> float:
    """P(at least `hits` of `num`) given all hits of both groups, where both have one rate (Fisher's exact test).

    Given their total, the hits of the first group are hypergeometric, whatever the common rate is.

    >>> round(exact_tail(3, 3, 0, 3), 6)
    0.05
    """
    total, everyone = hits + control_hits, num + control_num
    most = min(num, total)
    logs = [
        _log_comb(num, i) + _log_comb(control_num, total - i) for i in range(max(hits, total - control_num), most + 1)
    ]
    return min(1.0, math.fsum(math.exp(value - _log_comb(everyone, total)) for value in logs))


def _log_comb(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def unseen_like(
    items: npt.ArrayLike, seen: Sequence[Any], counts: npt.ArrayLike, rng: np.random.Generator, *, window: int = 10
) -> Ints:
    """For each held-out item one that its user never met and that is about as popular.

    Drawn uniformly among the `window` unseen items whose rank in popularity is nearest, nearer ones being preferred
    only by being in the window.

    Args:
        items: int[N] held-out items.
        seen: per held-out item, all items of its user, held-out ones included.
        counts: int[V+1] popularity by item id; item 0 is padding and never drawn.

    Raises:
        ValueError: a user has met every item.
    """
    popularity = np.asarray(counts, dtype=np.int64)
    order = 1 + np.argsort(-popularity[1:], kind="stable")
    place = np.empty(len(popularity), dtype=np.int64)
    place[order] = np.arange(len(order))
    drawn = []
    for item, own in zip(np.asarray(items, dtype=np.int64), seen, strict=True):
        free = np.setdiff1d(order, np.append(np.asarray(own, dtype=np.int64), item))
        if not free.size:
            msg = f"the user of held-out item {item} has met all {len(order)} items, so none is unseen"
            raise ValueError(msg)
        near = free[np.argsort(np.abs(place[free] - place[item]), kind="stable")[:window]]
        drawn.append(int(rng.choice(near)))
    return np.array(drawn, dtype=np.int64)
