"""Lengths and directions of embedding rows: promised norms, exploding rows, spread over popularity, collapse.

The limits of this family stand here with how they were found. Which rows exist, moved or repeat is in
`embeddings.py`, which calls these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, count_of, judged, not_measured, percent
from rectest.checks.rowset import RowSet
from rectest.checks.tablescan import TableScan
from rectest.checks.tolerance import norm_slack

__all__ = ["Deciles", "collapse", "exploding", "promised_norm", "spread"]

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


MAX_SAMPLE = 1 << 17
"""Rows up to which medians are those of all rows."""


class Deciles:
    """Real rows in ten groups of rising popularity; fewer where a group would have less than 20 rows, one where
    popularity is unknown.

    Beyond `MAX_SAMPLE` rows every n-th row stands for its neighbours. Of the 13,000 or more that a group then has, the
    rank of the sample median is within 1.3 % of the middle (three standard errors, 3 / (2 sqrt n)).
    """

    def __init__(self, scan: TableScan, counts: Array | None) -> None:
        stride = -(-len(scan) // MAX_SAMPLE)
        norms = scan.norms.every(stride)
        rows = np.arange(0, len(scan), stride)
        usable = np.isfinite(norms) & (rows != (-1 if scan.padding_row is None else scan.padding_row))
        rows, norms = rows[usable], norms[usable]
        order = np.arange(len(rows)) if counts is None else np.argsort(counts[rows], kind="stable")
        num = 1 if counts is None else min(10, max(1, len(rows) // 20))
        parts = np.array_split(order, num)
        self.rows: list[Ints] = [rows[part] for part in parts]
        self.lengths: list[Floats] = [norms[part] for part in parts]
        self._counts, self._index = counts, None
        if counts is not None and stride == 1:
            self._index = np.zeros(len(scan), dtype=np.int64)
            for number, part in enumerate(self.rows):
                self._index[part] = number
        elif counts is not None:
            self._edges = np.array([counts[part[-1]] for part in self.rows[:-1]])

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, first: int, num: int) -> Ints:
        """The group of each of `num` rows from `first` on."""
        if self._index is not None:
            return self._index[first : first + num]
        if self._counts is None:
            return np.zeros(num, dtype=np.int64)
        return np.searchsorted(self._edges, self._counts[first : first + num], side="left")


def promised_norm(scan: TableScan, name: str, norm: float) -> CheckResult:
    """Whether every row has the promised length, up to the rounding of normalising and measuring it."""
    slack = norm * norm_slack(scan.dim, scan.eps)
    bad, low, high, worst, most = RowSet(), np.inf, -np.inf, -1, -1.0
    for first, norms in scan.real_norms():
        off = np.nan_to_num(np.abs(norms - norm), nan=-1.0)
        bad.add(np.flatnonzero(off > slack) + first)
        low, high = float(np.fmin(low, np.fmin.reduce(norms))), float(np.fmax(high, np.fmax.reduce(norms)))
        if off.max() > most:
            most, worst = float(off.max()), first + int(off.argmax())
    return judged(
        "embeddings/norm",
        name,
        ok=not bad and scan.num_real > 0,
        figure=f"lengths {low:.6g} to {high:.6g}" if scan.num_real else "no rows",
        expected=f"every row has length {norm:g}",
        limit=f"+-{slack:.2g}",
        worst=f"row {worst}: {scan.norms.at(worst):.6g}" if scan.num_real else "",
        outside=count_of(bad.num, scan.num_real, "rows") if bad else "",
        detail="rows that are not normalised win or lose by length, not by direction" if bad else "",
        advice="normalise where the table is exported, not only in the loss",
        rows=bad.places,
    )


def exploding(scan: TableScan, name: str, groups: Deciles) -> CheckResult:
    """Whether a row has left its peers of the same popularity behind."""
    typical = np.array([_typical(lengths) for lengths in groups.lengths])
    medians = np.exp(typical[:, 0])
    bad, most, worst, sigmas = RowSet(), (False, -1.0), -1, 0.0
    for first, norms in scan.real_norms():
        group = groups.of(first, len(norms)) if len(groups) > 1 else np.zeros(len(norms), dtype=np.int8)
        ratio = norms / (medians[group] if len(groups) > 1 else medians[0])
        top = float(np.fmax.reduce(ratio))
        if not (top > MAX_RATIO or top > most[1]):
            continue
        far = np.flatnonzero(ratio > MAX_RATIO)
        far = far[_deviations(norms[far], typical[group[far]]) > MAX_SIGMAS]
        bad.add(far + first)
        place = int(far[np.argmax(ratio[far])]) if far.size else int(np.flatnonzero(ratio == top)[0])
        if (found := (bool(far.size), float(ratio[place]))) > most:
            most, worst = found, first + place
            sigmas = float(_deviations(norms[place : place + 1], typical[group[place : place + 1]])[0])
    return judged(
        "embeddings/exploding",
        name,
        ok=not bad,
        figure=f"longest row is {most[1]:.3g} times the median of its popularity, {sigmas:.3g} deviations",
        expected="one popularity, comparable lengths",
        limit=f"{MAX_RATIO:g} times and {MAX_SIGMAS:g} robust deviations",
        worst=f"row {worst}: length {scan.norms.at(worst):.4g}",
        outside=count_of(bad.num, len(scan), f"rows: {bad.head()}") if bad else "",
        detail="such rows win every inner product" if bad else "",
        advice="look for a diverging id (duplicates in a batch, a missing gradient clip)",
        rows=bad.places,
    )


def _typical(norms: Floats) -> tuple[float, float]:
    """Median of the log lengths, and their robust deviation: 1.4826 MAD is the sd of a normal law."""
    positive = norms[norms > 0]
    if not positive.size:
        return 0.0, np.inf
    logs = np.log(positive)
    median = float(np.median(logs))
    return median, max(1.4826 * float(np.median(np.abs(logs - median))), 1e-6)


def _deviations(norms: Floats, typical: Floats) -> Floats:
    logs = np.log(np.maximum(norms, np.finfo(np.float64).tiny))
    deviations: Floats = (logs - typical[:, 0]) / typical[:, 1]
    return deviations


def spread(name: str, groups: Deciles, initial: Array | None) -> CheckResult:
    """Median length by popularity decile: a decile that vanished or outgrew the others is a fault, the rest is news."""
    medians = np.array([float(np.median(lengths)) for lengths in groups.lengths])
    ratio = medians.max() / medians.min() if medians.min() > 0 else np.inf
    kept = np.ones(len(groups)) if initial is None else medians / _initial_medians(initial, groups.rows)
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
