"""Replicas: after every step each rank must hold the same model, its buffers and its optimizer state bit for bit.

The loss averaged over ranks falls just as well when the ranks are different models. What made them part is for
`rectest.checks.cause`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, count_of, judged, not_measured, sample
from rectest.record import RunRecord

__all__ = ["buffers_apart", "built_apart", "replicas_equal", "start_apart"]

BoolArray = npt.NDArray[np.bool_]

_WHY_PARAMETERS = {
    True: "replicas start apart; the loss averaged over ranks does not show it",
    False: "replicas get different gradients, so each is a model of its own; the loss averaged over ranks does not "
    "show it",
}
_WHY_BUFFERS = {
    True: "buffers start apart: what a rank computes depends on which one it is",
    False: "each rank keeps statistics of its own rows, so that the model depends on which rank is saved",
}
_WHY_OPTIMIZER = {
    True: "the optimizers part at the first step: they see different gradients",
    False: "the optimizers see different gradients, though weights may still be equal",
}


def replicas_equal(ranks: Sequence[RunRecord]) -> list[CheckResult]:
    """Whether all ranks hold the same bits, at the start and after each step.

    ``parity/replicas`` judges parameters, ``parity/buffers`` buffers and ``parity/optimizer_state`` the tensors of the
    optimizer's state after each step; the last two are left out where the model or optimizer has none.
    """
    subject = f"{ranks[0].spec.system} on {len(ranks)} ranks" if ranks else "no ranks"
    if len(ranks) < 2 or any("replicas/tensors" not in record for record in ranks):
        return [not_measured("parity/replicas", subject, "digests of two ranks or more are needed (replicas/tensors)")]
    names = _names(ranks[0], "names")
    differ = _differences(ranks, "replicas/tensors", "names")
    if differ is None:
        return [
            not_measured("parity/replicas", subject, "the ranks took other numbers of steps, or have other tensors")
        ]
    is_buffer = np.isin(names, _names(ranks[0], "buffers"))
    results = [_result("parity/replicas", subject, differ, names, keep=~is_buffer, why=_WHY_PARAMETERS)]
    if is_buffer.any():
        results.append(_result("parity/buffers", subject, differ, names, keep=is_buffer, why=_WHY_BUFFERS))
    return [*results, *_optimizer_state(ranks, subject)]


def start_apart(ranks: Sequence[RunRecord]) -> list[str]:
    """Parameters and buffers that differ between ranks before the first step."""
    return _apart_at(ranks, 0, buffers=None)


def buffers_apart(ranks: Sequence[RunRecord]) -> list[str]:
    """Buffers that differ between ranks after the first step."""
    return _apart_at(ranks, 1, buffers=True)


def built_apart(ranks: Sequence[RunRecord]) -> list[str]:
    """Tensors that ranks built differently, before anything was broadcast."""
    differ = _differences(ranks, "replicas/built", "names")
    return [] if differ is None else _named(ranks, np.asarray(differ[:, 0].any(axis=0)))


def _apart_at(ranks: Sequence[RunRecord], step: int, *, buffers: bool | None) -> list[str]:
    differ = _differences(ranks, "replicas/tensors", "names")
    if differ is None or differ.shape[1] <= step:
        return []
    found = _named(ranks, np.asarray(differ[:, step].any(axis=0)))
    return found if buffers is None else [n for n in found if (n in _names(ranks[0], "buffers")) == buffers]


def _named(ranks: Sequence[RunRecord], chosen: BoolArray) -> list[str]:
    return [name for name, yes in zip(_names(ranks[0], "names"), chosen, strict=True) if yes]


def _optimizer_state(ranks: Sequence[RunRecord], subject: str) -> list[CheckResult]:
    check = "parity/optimizer_state"
    sizes = [record["replicas/optimizer"].shape[1] if "replicas/optimizer" in record else 0 for record in ranks]
    if not any(sizes):
        return []
    differ = _differences(ranks, "replicas/optimizer", "optimizer")
    if differ is None:
        return [not_measured(check, subject, "the optimizers of the ranks have other states, or took other steps")]
    names = _names(ranks[0], "optimizer")
    keep = np.ones(len(names), dtype=bool)
    return [_result(check, subject, differ, names, keep=keep, why=_WHY_OPTIMIZER, first_step=1)]


def _names(record: RunRecord, kind: str) -> list[str]:
    replicas: Mapping[str, Any] = record.facts.get("replicas") or {}
    return list(replicas.get(kind) or [])


def _differences(ranks: Sequence[RunRecord], key: str, kind: str) -> BoolArray | None:
    """bool[ranks, steps, tensors]: where a rank has other bits than rank 0; None where that cannot be said."""
    if not ranks or any(key not in record for record in ranks):
        return None
    digests = [record[key] if record[key].ndim == 3 else record[key][None] for record in ranks]
    names = [_names(record, kind) for record in ranks]
    if any(d.shape != digests[0].shape for d in digests) or any(n != names[0] for n in names):
        return None
    if len(names[0]) != digests[0].shape[1]:
        return None
    return np.stack([(d != digests[0]).any(axis=2) for d in digests])


def _result(
    check: str,
    subject: str,
    differ: BoolArray,
    names: Sequence[str],
    *,
    keep: BoolArray,
    why: Mapping[bool, str],
    first_step: int = 0,
) -> CheckResult:
    differ = differ[:, :, keep]
    names = [name for name, yes in zip(names, keep, strict=True) if yes]
    steps = np.flatnonzero(differ.any(axis=(0, 2)))
    worst = detail = ""
    if len(steps):
        step = int(steps[0]) + first_step
        tensor = int(np.flatnonzero(differ[:, steps[0]].any(axis=0))[0])
        parted = np.flatnonzero(differ[:, steps[0], tensor])
        when = "at the start" if step == 0 else f"after step {step}"
        who = f"rank {parted[0]}" if len(parted) == 1 else f"ranks {sample(parted)}"
        worst = f"{who} against rank 0, {when}, first {names[tensor]}"
        detail = why[step == first_step]
    return judged(
        check,
        subject,
        ok=not len(steps),
        figure=f"{count_of(len(steps), differ.shape[1], 'states')} differ",
        expected="the same on every rank",
        limit="bit-equal",
        worst=worst,
        outside=count_of(int(differ.any(axis=(0, 1)).sum()), differ.shape[2], "tensors"),
        detail=detail,
        advice="broadcast the first weights, and reduce every gradient once a step",
    )
