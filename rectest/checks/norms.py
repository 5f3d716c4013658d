"""Lengths and directions of embedding rows: promised norms, exploding rows, spread over popularity, collapse.

The limits of this family stand here with how they were found. Which rows exist, moved or repeat is in
`embeddings.py`, which calls these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, count_of, judged, not_measured, percent, sample
from rectest.checks.tablescan import TableScan
from rectest.checks.tolerance import norm_slack

__all__ = ["collapse", "deciles", "exploding", "promised_norm", "spread"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_RATIO = 10.0
MAX_SIGMAS = 12.0
"""A row explodes when it is both `MAX_RATIO` times as long as the median row of its popularity decile and
`MAX_SIGMAS` robust deviations above it in log length. Calibrated on 24 trained matrix factorisations (Adam, SGD,
Adagrad; two losses; small and large initial rows; mild and strong popularity): the longest row was 45 times its
decile's median but only 4.7 deviations above it, and the row of most deviations (9.6) was 6 times its median."""

MAX_DECILE_RATIO = 20.0
"""Longest over shortest median length of the popularity deciles; the same 24 tables reached 4.8."""

MIN_KEPT = 0.1
"""A decile whose median length fell below this share of its start was decayed away; no healthy table shrank."""

MAX_MEAN_COSINE = 0.95
"""Above it all rows point one way (mean angle below 18 degrees) and inner products differ by length only; the same
24 tables reached 0.67, at strong popularity."""


def deciles(real: Ints, counts: Array | None) -> list[Ints]:
    """The rows in ten groups of rising popularity; fewer where a group would have less than 20 rows.

    One group where popularity is unknown.
    """
    if counts is None:
        return [real]
    order = real[np.argsort(counts[real], kind="stable")]
    return np.array_split(order, min(10, max(1, real.size // 20)))


def promised_norm(scan: TableScan, name: str, real: Ints, norm: float, dtype: np.dtype[Any]) -> CheckResult:
    """Whether every row has the promised length, up to the rounding of normalising and measuring it."""
    slack = norm * norm_slack(scan.dim, float(np.finfo(dtype).eps))
    off = np.abs(scan.norms[real] - norm)
    bad = real[off > slack]
    return judged(
        "embeddings/norm",
        name,
        ok=not bad.size and real.size > 0,
        figure=f"lengths {scan.norms[real].min():.6g} to {scan.norms[real].max():.6g}" if real.size else "no rows",
        expected=f"every row has length {norm:g}",
        limit=f"+-{slack:.2g}",
        worst=f"row {real[np.argmax(off)]}: {scan.norms[real[np.argmax(off)]]:.6g}" if real.size else "",
        outside=count_of(bad.size, real.size, "rows") if bad.size else "",
        detail="rows that are not normalised win or lose by length, not by direction" if bad.size else "",
        advice="normalise where the table is exported, not only in the loss",
    )


def exploding(scan: TableScan, name: str, groups: list[Ints]) -> CheckResult:
    """Whether a row has left its peers of the same popularity behind."""
    ratio, sigmas = np.ones(len(scan)), np.zeros(len(scan))
    for rows in groups:
        ratio[rows], sigmas[rows] = _against_peers(scan.norms[rows])
    bad = np.flatnonzero((ratio > MAX_RATIO) & (sigmas > MAX_SIGMAS))
    worst = int(bad[np.argmax(ratio[bad])]) if bad.size else int(np.argmax(ratio))
    return judged(
        "embeddings/exploding",
        name,
        ok=not bad.size,
        figure=f"longest row is {ratio[worst]:.3g} times the median of its popularity, {sigmas[worst]:.3g} deviations",
        expected="one popularity, comparable lengths",
        limit=f"{MAX_RATIO:g} times and {MAX_SIGMAS:g} robust deviations",
        worst=f"row {worst}: length {scan.norms[worst]:.4g}",
        outside=count_of(bad.size, len(scan), f"rows: {sample(bad.tolist())}") if bad.size else "",
        detail="such rows win every inner product" if bad.size else "",
        advice="look for a diverging id (duplicates in a batch, a missing gradient clip)",
    )


def _against_peers(norms: Floats) -> tuple[Floats, Floats]:
    """Each length over the median, and its robust deviations (1.4826 MAD is sd for a normal law) in log length."""
    positive = norms[norms > 0]
    if not positive.size:
        return np.ones_like(norms), np.zeros_like(norms)
    logs = np.log(np.maximum(norms, np.finfo(np.float64).tiny))
    median = float(np.median(np.log(positive)))
    deviation = 1.4826 * float(np.median(np.abs(np.log(positive) - median)))
    return np.exp(logs - median), (logs - median) / max(deviation, 1e-6)


def spread(scan: TableScan, name: str, groups: list[Ints], initial: Array | None) -> CheckResult:
    """Median length by popularity decile: a decile that vanished or outgrew the others is a fault, the rest is news."""
    medians = np.array([float(np.median(scan.norms[rows])) for rows in groups])
    ratio = medians.max() / medians.min() if medians.min() > 0 else np.inf
    kept = np.ones(len(groups)) if initial is None else medians / _initial_medians(initial, groups)
    ok = bool(ratio <= MAX_DECILE_RATIO) and bool(kept.min() >= MIN_KEPT)
    low = int(np.argmin(np.minimum(medians / medians.max(), kept))) if medians.max() > 0 else 0
    return judged(
        "embeddings/spread",
        name,
        ok=ok,
        figure=f"median lengths by popularity decile: {', '.join(f'{m:.3g}' for m in medians)}",
        expected="popular and rare rows of comparable length",
        limit=f"longest over shortest <= {MAX_DECILE_RATIO:g}; each >= {MIN_KEPT:g} of its start",
        worst=f"decile {low + 1} of {len(groups)}: {medians[low]:.3g}, {percent(float(kept[low]))} of its start",
        outside="" if ok else f"ratio {ratio:.3g}, least kept {percent(float(kept.min()))}",
        detail="" if ok else "rows of one popularity have vanished or outgrown all others",
        advice="look for weight decay on rows that no batch touches, or an optimizer that scales with frequency",
    )


def _initial_medians(initial: Array, groups: list[Ints]) -> Floats:
    medians = [float(np.median(np.linalg.norm(initial[rows].astype(np.float32), axis=1))) for rows in groups]
    return np.array([max(median, np.finfo(np.float64).tiny) for median in medians])


def collapse(scan: TableScan, name: str) -> CheckResult:
    """Whether all rows have come to point one way."""
    cosine = scan.mean_cosine
    measured = bool(np.isfinite(cosine))
    if not measured:
        return not_measured("embeddings/collapse", name, "fewer than two usable rows")
    return judged(
        "embeddings/collapse",
        name,
        ok=cosine <= MAX_MEAN_COSINE,
        figure=f"mean cosine of two rows {cosine:.4f}",
        expected="near 0 without, below 0.7 with strong popularity",
        limit=f"<= {MAX_MEAN_COSINE:g}",
        detail="all rows point one way, so the table tells items apart by length only"
        if cosine > MAX_MEAN_COSINE
        else "",
        advice="look for missing negatives, a constant input, or a temperature far too high",
    )
