"""Invariance of scores: to the mode of the model, to who is scored beside whom, and to padding.

The loop measures all three at the end, with the best weights on the test users (``facts["probes"]``): scores in all
four modes, users one by one against all in one block, and the same users behind more padding. A fully masked row that
is NaN only in eval mode without gradients, a state read at ``mask.sum() - 1`` of a left-padded input, or a similarity
divided by the maximum of the batch each break one of them. What a right score is, is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rectest.checks.result import CheckResult, count_of, judged, not_measured, sample
from rectest.record import RunRecord

__all__ = ["MODES", "NUM_TERMS", "invariance", "reduction_error"]

MODES = ("train/grad", "train/no_grad", "eval/grad", "eval/no_grad")
"""Each can take kernels of its own: fused attention runs in eval mode without gradients only."""

NUM_TERMS = 1024
"""Additions behind one score for which `reduction_error` allows: a few layers, 64 to 256 wide. Trained reference
systems differ by 2e-7 to 4e-7 of their largest score between blocks, a three-hundredth of the limit."""


def invariance(record: RunRecord) -> list[CheckResult]:
    """Whether scores are finite in every mode, and the same alone as in a block and behind more padding.

    A probe of padding that is absent means that nothing is left-padded, and gives no result; any other absent probe
    is NOT MEASURED.
    """
    subject = record.spec.system
    probes: Mapping[str, Any] = record.facts.get("probes") or {}
    results = [_modes(subject, probes.get("modes")), _blocks(subject, probes.get("blocks"))]
    if probes.get("padding") is not None:
        results.append(_padding(subject, probes["padding"]))
    return results


def reduction_error(scale: float, *, num_terms: int = NUM_TERMS) -> float:
    """How far two float32 scores of size `scale` may be apart when their sums were added up in another order.

    Roundings of independent sign add up to about sqrt(n) u sum|x| (Higham and Mary, SIAM J. Sci. Comput. 41, 2019),
    u = 2^-24 in float32; terms of independent sign have a sum of about sum|x| / sqrt(n). Together that is n u of the
    score's size for one order of additions, twice that between two, where `scale` is the largest score.

    >>> round(reduction_error(1.0), 6)
    0.000122
    """
    return 2 * num_terms * 2.0**-24 * scale


def _modes(subject: str, modes: Mapping[str, Any] | None) -> CheckResult:
    check = "invariance/modes"
    if modes is not None and modes.get("errors"):
        return _raised(subject, modes["errors"])
    missing = [name for name in (*MODES, "num_scores") if modes is None or name not in modes]
    if modes is None or missing or not modes["num_scores"]:
        what = f"no probe of {sample(missing)}" if missing else "no score was looked at"
        return not_measured(check, subject, what, advice="train it as a rectest.System, whose modes the loop probes")
    bad = {name: int(modes[name]) for name in MODES if modes[name]}
    num, total = sum(bad.values()), int(modes["num_scores"])
    worst = max(bad, key=lambda name: bad[name], default="")
    only = f"only in {' and '.join(bad)}" if 0 < len(bad) < len(MODES) else "in every mode"
    return judged(
        check,
        subject,
        ok=not bad,
        figure=f"{num} scores are not finite" if bad else f"all {total} scores are finite in {len(MODES)} modes",
        expected="finite scores in train and eval mode, with and without gradients",
        limit="0",
        worst=f"{worst}: {count_of(bad[worst], total, 'scores')}" if worst else "",
        outside=", ".join(f"{name} {count}" for name, count in bad.items()),
        detail=f"{only}: a row whose keys are all masked has no softmax, and kernels differ in what they do"
        if bad
        else "",
        advice="let a position attend to itself, or zero the rows that are masked completely",
    )


def _raised(subject: str, errors: Mapping[str, str]) -> CheckResult:
    """The result for modes in which scoring raised, and so gave no score at all."""
    return judged(
        "invariance/modes",
        subject,
        ok=False,
        figure=f"scoring raises in {sample(sorted(errors))}",
        expected="finite scores in train and eval mode, with and without gradients",
        limit="no error",
        worst=next(f"{name}: {errors[name]}" for name in sorted(errors)),
        detail="a mode takes kernels or branches of its own, and there the model cannot score at all",
        advice="score in that mode, and read the error from the bottom",
    )


def _blocks(subject: str, probe: Mapping[str, Any] | None) -> CheckResult:
    check = "invariance/blocks"
    if probe is None or int(probe.get("num_users", 0)) < 2:
        what = "no probe of blocks" if probe is None else f"{probe.get('num_users', 0)} users, at least 2 are needed"
        return not_measured(check, subject, what, advice="train it as a rectest.System, whose scores the loop probes")
    return _close(
        check,
        subject,
        probe,
        what=f"{probe['num_users']} users scored alone and in one block",
        why="a user's scores depend on who is scored beside them: statistics of the batch, or state left behind",
        advice="look for reductions over the first dimension, squeeze() on a block of one, and memory",
    )


def _padding(subject: str, probe: Mapping[str, Any]) -> CheckResult:
    if not probe.get("num_users") or not probe.get("extra"):
        return not_measured("invariance/padding", subject, "no user, or no extra padding, was scored")
    return _close(
        "invariance/padding",
        subject,
        probe,
        what=f"{probe['num_users']} users behind {probe['extra']} more padding columns",
        why="padding carries information: the last state is taken at the wrong position, padding is attended to, or "
        "positions are counted from the padded end",
        advice="read the state at the last column of a left-padded input, and mask padding as a key",
    )


def _close(check: str, subject: str, probe: Mapping[str, Any], *, what: str, why: str, advice: str) -> CheckResult:
    apart, scale = (float(probe.get(name, math.nan)) for name in ("max_difference", "scale"))
    if scale == 0:
        return not_measured(check, subject, "all scores are 0, so nothing could differ")
    limit = reduction_error(scale)
    ok = math.isfinite(scale) and apart <= limit
    return judged(
        check,
        subject,
        ok=ok,
        figure=f"scores differ by up to {apart:.3g}: {what}",
        expected="the same scores but for the order of additions",
        limit=f"<= {limit:.3g} ({NUM_TERMS} float32 additions at scores up to {scale:.3g})",
        outside="" if ok else f"{apart / limit:.3g} times the limit",
        detail="" if ok else why,
        advice=advice,
    )
