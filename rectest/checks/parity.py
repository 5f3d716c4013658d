"""Parity: many processes must compute what one process computes, and stay one model.

Report 003 looked at the loss curve of a run and at the words of its code, and found a gradient bug that did not
exist; the repair then switched synchronisation off, and the curve on the dashboard went on falling. A loss curve
cannot show either: Adam divides a constant factor out, and a mean over ranks hides that they are different models.
So the gradient itself is compared with that of one process on the same batch, split into its scale and its direction,
and the replicas are compared bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.gradients import Apart, Gradients, compare_gradients, rolled, rounding_limit
from rectest.checks.result import CheckResult, count_of, judged, not_measured, sample
from rectest.record import RunRecord

__all__ = ["gradient_parity", "replicas_equal"]

_CHECKS = ("parity/gradient", "parity/scale", "parity/direction")
_NEAR = 0.01
"""How near to a power of the number of ranks a scale must be for its cause to be named."""


def gradient_parity(single: RunRecord, ranks: Sequence[RunRecord], *, dtype: str = "float32") -> list[CheckResult]:
    """Whether every rank's first gradient is that of one process on the whole batch.

    ``parity/gradient`` judges the error, ``parity/scale`` the best factor and ``parity/direction`` the angle; the last
    two name what went wrong. Part of each is a control: the right gradient moved by one place must be refused, else
    the limit is too wide to say anything and the result is NOT MEASURED.

    Args:
        single: the record of one process (``RanksOutcome.records[0]`` at world size 1).
        ranks: the records of all ranks of one job.
        dtype: what gradients are computed in, one of `UNIT_ROUNDOFF`.
    """
    subject = _subject(single, ranks)
    right, others = _gradients(single), [_gradients(record) for record in ranks]
    if problem := _unusable(right, others):
        return [not_measured(check, subject, problem) for check in _CHECKS]
    terms = sum(sum(_parallel(record).get("loss_terms", [])) for record in ranks)
    limit = rounding_limit(terms, [value.shape for value in right.values()], dtype=dtype)
    sizes = _sizes(ranks)
    blind = _passes_when_rolled(right, limit, sizes)
    if blind:
        problem = f"{sample(blind)}: the gradient moved by one place would pass too, so the limit says nothing"
        return [not_measured(check, subject, problem) for check in _CHECKS]
    by_rank = [compare_gradients(right, other, limit=limit, sizes=sizes) for other in others]
    cause = _cause(by_rank, ranks)
    zero = len(right) + 1 - len(by_rank[0])
    return [
        _error_result(subject, by_rank, cause, zero=zero),
        _scale_result(subject, by_rank, cause),
        _direction_result(subject, by_rank, cause),
    ]


def _subject(single: RunRecord, ranks: Sequence[RunRecord]) -> str:
    return f"{single.spec.system} on {len(ranks)} ranks"


def _parallel(record: RunRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = record.facts.get("parallel") or {}
    return found


def _gradients(record: RunRecord, prefix: str = "grad/") -> dict[str, npt.NDArray[np.float64]]:
    return {name: record[prefix + name].astype(np.float64) for name in record.names(prefix)}


def _unusable(right: Gradients, others: Sequence[Gradients]) -> str:
    if not others or not right or not all(others):
        return "a record has no gradient (grad/...)"
    for name, value in right.items():
        if any(name in other and other[name].shape != value.shape for other in others):
            return f"{name} has another shape in one process than on the ranks"
    if not all(np.isfinite(value).all() for side in (right, *others) for value in side.values()):
        return "a gradient is not finite"
    if not any(value.any() for value in right.values()):
        return "the gradient of one process is zero everywhere; nothing can be compared with it"
    return ""


def _sizes(ranks: Sequence[RunRecord]) -> dict[str, float]:
    """By parameter, the sum of the norms of what the ranks had, each weighted by its share of the loss terms."""
    terms = [sum(_parallel(record).get("loss_terms", [])) for record in ranks]
    sizes: dict[str, float] = {}
    for record, share in zip(ranks, terms, strict=True):
        for name, value in _gradients(record, "local/").items():
            sizes[name] = sizes.get(name, 0.0) + float(np.linalg.norm(value)) * share / (sum(terms) or 1.0)
    return sizes


def _passes_when_rolled(right: Gradients, limit: float, sizes: Mapping[str, float]) -> list[str]:
    """The parameters whose gradient would pass although it is a wrong one."""
    wrong = rolled(right)
    return [apart.name for apart in compare_gradients(right, wrong, limit=limit, sizes=sizes) if not apart.red]


def _worst(by_rank: Sequence[Sequence[Apart]], key: Any) -> tuple[int, Apart]:
    return max(((rank, apart) for rank, found in enumerate(by_rank) for apart in found), key=lambda pair: key(pair[1]))


def _whole(found: Sequence[Apart]) -> Apart:
    return next(apart for apart in found if apart.name == "*")


def _where(rank: int, apart: Apart, value: str) -> str:
    return f"rank {rank}, {'all parameters' if apart.name == '*' else apart.name}: {value}"


def _error_result(subject: str, by_rank: Sequence[Sequence[Apart]], cause: str, *, zero: int) -> CheckResult:
    rank, worst = _worst(by_rank, lambda apart: apart.error / apart.limit)
    red = {apart.name for found in by_rank for apart in found if apart.red} - {"*"}
    names = {apart.name for found in by_rank for apart in found} - {"*"}
    whole = max(_whole(found).error for found in by_rank)
    return judged(
        "parity/gradient",
        subject,
        ok=not any(apart.red for found in by_rank for apart in found),
        figure=f"relative error {whole:.3g}",
        expected="the gradient of one process on the whole batch",
        limit=f"<= {worst.limit:.2g} of {worst.name}, for rounding" if worst.name != "*" else f"<= {worst.limit:.2g}",
        worst=_where(rank, worst, f"relative error {worst.error:.3g}"),
        outside=count_of(len(red), len(names), "parameters"),
        detail=cause or (f"{zero} parameters have no gradient beyond rounding" if zero else ""),
        advice="compare the way gradients are combined with plain DistributedDataParallel",
    )


def _scale_result(subject: str, by_rank: Sequence[Sequence[Apart]], cause: str) -> CheckResult:
    rank, worst = _worst(by_rank, lambda apart: abs(apart.scale - 1) / apart.limit)
    whole = max((_whole(found).scale for found in by_rank), key=lambda scale: abs(scale - 1))
    return judged(
        "parity/scale",
        subject,
        ok=abs(worst.scale - 1) <= worst.limit,
        figure=f"{whole:.6g} times the gradient of one process",
        expected="1",
        limit=f"1 +- {worst.limit:.2g}",
        worst=_where(rank, worst, f"{worst.scale:.6g} times"),
        detail=cause if abs(worst.scale - 1) > worst.limit else "",
        advice="make loss scaling and reduction agree: an average over ranks exactly once",
    )


def _direction_result(subject: str, by_rank: Sequence[Sequence[Apart]], cause: str) -> CheckResult:
    rank, worst = _worst(by_rank, lambda apart: apart.angle / apart.limit)
    cosine = min(_whole(found).cosine for found in by_rank)
    return judged(
        "parity/direction",
        subject,
        ok=worst.angle <= worst.limit,
        figure=f"cosine {cosine:.6f}",
        expected="1",
        limit=f"sine of the angle <= {worst.limit:.2g}",
        worst=_where(rank, worst, f"sine {worst.angle:.3g}, cosine {worst.cosine:.6f}"),
        detail=cause if worst.angle > worst.limit else "",
        advice="compare which rows each rank and micro-batch sees, and when gradients are reduced",
    )


def _cause(by_rank: Sequence[Sequence[Apart]], ranks: Sequence[RunRecord]) -> str:
    """The likeliest reason, in words; empty where nothing is wrong."""
    if not any(apart.red for found in by_rank for apart in found):
        return ""
    starts = [record["replicas/tensors"][0] for record in ranks if "replicas/tensors" in record]
    if any(not np.array_equal(starts[0], start) for start in starts[1:]):
        return "the replicas start with different weights, so their gradients are of different models"
    if len(ranks) > 1 and all(_is_own(record) for record in ranks):
        return "every rank kept the gradient of its own rows: they are never reduced"
    whole = max((_whole(found) for found in by_rank), key=lambda apart: apart.error)
    job = _parallel(ranks[0]).get("job") or {}
    world = len(ranks)
    if whole.angle <= max(whole.limit, 1e-4):
        return _cause_of_scale(whole, by_rank, world)
    inside = f"reduced inside the accumulation, so that earlier micro-batches are summed again (x{whole.scale:.3g})"
    if whole.scale > 1.2 and _micro(job) > 1:
        return inside
    return "the direction is off: shares are weighed by other than their loss terms, or are not the rows of the batch"


def _is_own(record: RunRecord) -> bool:
    """Whether the rank's gradient is a multiple of what its own rows gave."""
    own, kept = _gradients(record, "local/"), _gradients(record)
    if not own or not any(value.any() for value in own.values()):
        return False
    return _whole(compare_gradients(own, kept, limit=1e-4, sizes={})).angle < 1e-3


def _micro(job: Mapping[str, Any]) -> int:
    reduction: Mapping[str, Any] = job.get("reduction") or {}
    return int(job.get("num_micro") or reduction.get("accumulation") or 1)


def _cause_of_scale(whole: Apart, by_rank: Sequence[Sequence[Apart]], world: int) -> str:
    if abs(whole.scale - 1) <= whole.limit:
        rank, worst = _worst(by_rank, lambda apart: apart.error / apart.limit)
        return f"only some parameters are off, {worst.name} most (on rank {rank}): they are treated apart"
    for power in (1, 2, 3):
        if world > 1 and abs(whole.scale / world**power - 1) < _NEAR:
            return f"{world**power} times: summed over ranks where an average was due" + (", twice" * (power > 1))
        if world > 1 and abs(whole.scale * world**power - 1) < _NEAR:
            return f"1/{world**power} times: divided by the number of ranks although the reduction averages already"
    return f"{whole.scale:.4g} times: micro-batches are divided by another number than there were"


def replicas_equal(ranks: Sequence[RunRecord]) -> list[CheckResult]:
    """``parity/replicas``: every parameter and buffer bit-equal on all ranks, at the start and after each step."""
    subject = f"{ranks[0].spec.system} on {len(ranks)} ranks" if ranks else "no ranks"
    if len(ranks) < 2 or any("replicas/tensors" not in record for record in ranks):
        return [not_measured("parity/replicas", subject, "digests of two ranks or more are needed (replicas/tensors)")]
    digests = [record["replicas/tensors"] for record in ranks]
    names = (ranks[0].facts.get("replicas") or {}).get("names") or []
    if any(d.shape != digests[0].shape for d in digests) or len(names) != digests[0].shape[1]:
        return [
            not_measured("parity/replicas", subject, "the ranks took other numbers of steps, or have other tensors")
        ]
    differ = np.stack([(d != digests[0]).any(axis=2) for d in digests])
    return [_replicas_result(subject, differ, names)]


def _replicas_result(subject: str, differ: npt.NDArray[np.bool_], names: Sequence[str]) -> CheckResult:
    """`differ` is [ranks, steps + 1, tensors]: where a rank has other bits than rank 0."""
    steps = np.flatnonzero(differ.any(axis=(0, 2)))
    worst, why = "", ""
    if len(steps):
        step = int(steps[0])
        rank, tensor = (int(i) for i in np.argwhere(differ[:, step])[0])
        when = "at the start" if step == 0 else f"after step {step}"
        worst = f"rank {rank} against rank 0, {when}, first {names[tensor]}"
        why = "replicas start apart" if step == 0 else "replicas get different gradients, so each is a model of its own"
    return judged(
        "parity/replicas",
        subject,
        ok=not len(steps),
        figure=f"{count_of(len(steps), differ.shape[1], 'states')} differ",
        expected="every rank has the same weights",
        limit="bit-equal",
        worst=worst,
        outside=count_of(int(differ.any(axis=(0, 1)).sum()), differ.shape[2], "tensors"),
        detail=f"{why}; the loss averaged over ranks does not show it" if why else "",
        advice="broadcast the first weights, and reduce every gradient once a step",
    )
