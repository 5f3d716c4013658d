"""Evaluation bookkeeping: which weights, whose means, whose candidates, and whose order the figures come from.

Each of these gives figures that look right and belong to something else: the last weights under the name of the best
(report 004's checkpoint), a mean over batches under the name of a mean over users, candidates cached for other data,
ids in the order of a set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rectest.checks.chance import ranks_of
from rectest.checks.reproducible import bit_equal
from rectest.checks.result import CheckResult, count_of, judged, not_measured, sample
from rectest.errors import MetricError, RecordError
from rectest.metrics.ranking import per_user
from rectest.record import RunRecord

__all__ = ["batch_means", "best_checkpoint", "cache_key", "hash_sweep", "last_batch_weight"]

RECOMPUTED = 1e-9
"""Relative slack between two float64 means of the same terms (`mean_slack` of a million users is 5e-10)."""


def best_checkpoint(record: RunRecord) -> list[CheckResult]:
    """``checkpoint/best``: the weights under test give, evaluated again, what was logged at the best step.

    ``facts["best_again"]`` holds the measures of ``valid`` under the weights that are tested. Where they are those of
    the last step instead, that is named.
    """
    subject = record.spec.system
    again: Mapping[str, float] = record.facts.get("best_again") or {}
    best = record.facts.get("best_step")
    steps = record.arrays.get("eval/steps", np.zeros(0)).tolist()
    curves = {name: record.arrays.get(f"metric/valid/{name}", np.zeros(0)) for name in again}
    if not again or best not in steps or any(len(curve) != len(steps) for curve in curves.values()):
        problem = "the best step, its metrics or those of its weights (best_again) are not recorded"
        return [not_measured("checkpoint/best", subject, problem, advice="evaluate the restored weights on valid")]
    logged = {name: float(curve[steps.index(best)]) for name, curve in curves.items()}
    off = [name for name in again if not math.isclose(again[name], logged[name], rel_tol=RECOMPUTED)]
    worst = max(off, key=lambda name: abs(again[name] - logged[name]), default="")
    is_last = bool(off) and all(math.isclose(again[n], float(curves[n][-1]), rel_tol=RECOMPUTED) for n in again)
    why = "these are the weights of the last evaluation" if is_last else "these are other weights than the best ones"
    return [
        judged(
            "checkpoint/best",
            subject,
            ok=not off,
            figure=f"{count_of(len(off), len(again), 'measures')} differ from step {best}",
            expected="the metrics logged at the best step",
            limit="equal",
            worst=f"{worst}: {again[worst]:.6g}, logged {logged[worst]:.6g}" if worst else "",
            detail=why if off else "",
            advice="save the weights when the monitored measure improves, and load them before testing",
        )
    ]


def last_batch_weight(num_users: int, batch_size: int) -> float:
    """How much a user of the last, shorter batch weighs in a mean of batch means, where 1 would be right.

    >>> round(last_batch_weight(147_894, 128), 2)
    2.37
    """
    if num_users < 1 or batch_size < 1:
        msg = f"users and batch size must be at least 1, got {num_users} and {batch_size}"
        raise ValueError(msg)
    last = num_users % batch_size or batch_size
    return num_users / (math.ceil(num_users / batch_size) * last)


def batch_means(record: RunRecord, *, split: str = "test", batch_size: int | None = None) -> list[CheckResult]:
    """``evaluation/batch_means``: a reported metric is the mean over users, not a mean of means over batches.

    Both are recomputed from the stored ranks. Where the batches are of one size they agree, so that a batch size is
    taken that does not divide the number of users.

    Args:
        batch_size: what evaluation uses; by default the largest of 128, 64, ... that leaves a shorter last batch.
    """
    subject = f"{record.spec.system} {split}"
    try:
        ranks = ranks_of(record, split)
        values = {name: per_user(ranks, name) for name in record.metrics(split)}
    except (MetricError, RecordError) as e:
        return [not_measured("evaluation/batch_means", subject, str(e))]
    values = {name: value[np.isfinite(value)] for name, value in values.items()}
    num = min((len(value) for value in values.values()), default=0)
    size = batch_size or next((s for s in (128, 64, 32, 16, 7, 5, 3, 2) if s < num and num % s), 0)
    if num < 2 or not size or num % size == 0:
        problem = (
            f"{num} users in batches of {size or 'any size'} leave no shorter last batch, so that both means agree"
        )
        return [not_measured("evaluation/batch_means", subject, problem)]
    reported = {name: record.final(f"{split}/{name}") for name in values}
    off = [n for n, value in values.items() if not math.isclose(reported[n], float(value.mean()), rel_tol=RECOMPUTED)]
    return [_batch_means_result(subject, values, reported, off, size)]


def _batch_means_result(
    subject: str, values: Mapping[str, Any], reported: Mapping[str, float], off: Sequence[str], size: int
) -> CheckResult:
    in_batches = {name: _mean_of_means(value, size) for name, value in values.items()}
    as_batches = [name for name in off if math.isclose(reported[name], in_batches[name], rel_tol=RECOMPUTED)]
    worst = max(off, key=lambda name: abs(reported[name] - float(values[name].mean())), default="")
    name = worst or next(iter(values))
    weight = last_batch_weight(len(values[name]), size)
    why = f"they are means over batches of {size}, in which a user of the last batch weighs {weight:.3g} times as much"
    return judged(
        "evaluation/batch_means",
        subject,
        ok=not off,
        figure=f"{name} {reported[name]:.6g}, over users {float(values[name].mean()):.6g}",
        expected="the mean over users",
        limit="equal",
        worst=f"{name}: a mean of batch means is {in_batches[name]:.6g}" if off else "",
        outside=count_of(len(off), len(values), "measures"),
        detail=why if as_batches else ("no mean over users of the stored ranks gives this" if off else ""),
        advice="sum over users and divide once by their number",
    )


def _mean_of_means(values: Any, size: int) -> float:
    return float(np.mean([values[start : start + size].mean() for start in range(0, len(values), size)]))


def cache_key(first: RunRecord, second: RunRecord) -> list[CheckResult]:
    """``evaluation/cache_key``: runs on different data do not share evaluation candidates.

    Candidates cached under a name that leaves the data out are those of whatever ran first. Digests stand in
    ``facts["inputs"]`` as ``candidates_valid`` and ``candidates_test``, the data's as ``world``.
    """
    subject = first.spec.system
    inputs: list[Mapping[str, Any]] = [record.facts.get("inputs") or {} for record in (first, second)]
    keys = sorted(key for key in inputs[0] if key.startswith("candidates_") and key in inputs[1])
    worlds = [facts.get("world") for facts in inputs]
    if not keys or None in worlds:
        problem = "a record has no digest of its candidates (candidates_valid, ...) or of its data (world)"
        return [not_measured("evaluation/cache_key", subject, problem)]
    if worlds[0] == worlds[1]:
        return [not_measured("evaluation/cache_key", subject, "both runs are on the same data; give two worlds")]
    shared = [key for key in keys if inputs[0][key] == inputs[1][key]]
    return [
        judged(
            "evaluation/cache_key",
            subject,
            ok=not shared,
            figure=f"{count_of(len(shared), len(keys), 'candidate sets')} shared by different data",
            expected="candidates drawn for the data they are used on",
            limit="0",
            worst=sample(shared),
            detail="cached candidates of other data are used: their ids mean other items" if shared else "",
            advice="name the cache by a digest of the data, the split, the number of candidates and the seed",
        )
    ]


def hash_sweep(records: Sequence[RunRecord]) -> list[CheckResult]:
    """``hash_sweep/...``: runs of one spec, each under its own `PYTHONHASHSEED`, have equal maps, batches and metrics.

    Iteration over a set of texts follows the hash seed; ids that are given out in that order mean other items in the
    next process, and a checkpoint or cache from an earlier one is silently permuted. The map that moved is named.
    """
    subject = f"{records[0].spec.system} under {len(records)} hash seeds" if records else "no runs"
    checks = ("hash_sweep/id_maps", "hash_sweep/batches", "hash_sweep/metrics")
    specs = {record.spec.with_(replica=0).key for record in records}
    if len(records) < 2 or len(specs) != 1:
        problem = f"{len(records)} runs of {len(specs)} specs, at least 2 of one spec are needed"
        return [not_measured(check, subject, problem) for check in checks]
    prefixes = (("idmap/",), ("tape/batch", "tape/negatives"), ("metric/", "ranks/"))
    return [_sweep_result(check, subject, records, keys) for check, keys in zip(checks, prefixes, strict=True)]


def _sweep_result(check: str, subject: str, records: Sequence[RunRecord], prefixes: tuple[str, ...]) -> CheckResult:
    keys = sorted({key for record in records for key in record.arrays if key.startswith(prefixes)})
    if not keys:
        return not_measured(check, subject, f"the records have nothing under {' or '.join(prefixes)}")
    moved = [key for key in keys if not all(_same(records[0], record, key) for record in records[1:])]
    return judged(
        check,
        subject,
        ok=not moved,
        figure=f"{count_of(len(moved), len(keys), 'arrays')} depend on the hash seed",
        expected="bit-equal under every PYTHONHASHSEED",
        limit="0",
        worst=_first_moved(records, moved[0]) if moved else "",
        outside=sample(moved),
        detail="something iterates over a set of texts, or uses hash(), and what it gives depends on it"
        if moved
        else "",
        advice="sort before numbering, and use a hash that does not change with the process",
    )


def _same(first: RunRecord, second: RunRecord, key: str) -> bool:
    return key in first and key in second and bit_equal(first[key], second[key])


def _first_moved(records: Sequence[RunRecord], key: str) -> str:
    other = next(record for record in records[1:] if not _same(records[0], record, key))
    if key not in other or key not in records[0] or records[0][key].shape != other[key].shape:
        return f"{key}: its length differs"
    place = tuple(np.argwhere(np.atleast_1d(records[0][key] != other[key]))[0].tolist())
    return f"{key}{list(place)}: {records[0][key][place]!s} and {other[key][place]!s}"
