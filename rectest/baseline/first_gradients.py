"""The first step's gradients of a pair, by their lengths: a factor that losses and metrics never show.

Adam divides a constant factor of the gradient out again: one that is reduced twice, or not at all, trains to the same
losses within rounding until clipping, weight decay or another optimizer meets it. The lengths of the first step's
gradients show it at once. Directions are `rectest.parity`'s business.
"""

from __future__ import annotations

import numpy as np

from rectest.baseline.sidecar import Sidecar, gradient_norms
from rectest.record import RunRecord

__all__ = ["moved_gradient"]

ENVELOPE_FACTOR = 10.0
LEAST_ENVELOPE = 1e-3
"""Relative to a gradient's own length. The 80 stored twins of five systems lie at most 7e-7 from their runs, and a test
holds them below a hundredth of this; the rest is for kernels of other processors and libraries."""

SMALLEST = 1e-6
"""Of the whole gradient's length: below this a gradient is rounding itself (the bias of keys in attention, for one)."""


def moved_gradient(record: RunRecord, sidecar: Sidecar) -> str:
    """The first-step gradient whose length rounding does not explain, in words; empty where there is none."""
    if "gradient/norm" not in sidecar:
        return ""
    stored, names = sidecar["gradient/norm"][sidecar.row(record.spec.seed)], record.names("grad/")
    if len(names) != len(stored):
        return f"{len(names)} parameters have a gradient at the first step, stored {len(stored)}"
    obtained = gradient_norms(record)
    rounding = np.abs(sidecar["gradient/twin"] - sidecar["gradient/norm"]).max(axis=0)
    least = LEAST_ENVELOPE * stored + SMALLEST * float(np.linalg.norm(stored))
    envelope = np.maximum(ENVELOPE_FACTOR * rounding, least)
    apart = np.abs(obtained - stored) / np.maximum(envelope, np.finfo(np.float64).tiny)
    outside = np.flatnonzero(~(apart <= 1))
    if not outside.size:
        return ""
    # A NaN is no number to be compared, and worse than any that is.
    worst = int(outside[np.argmax(np.nan_to_num(apart[outside], nan=np.inf))])
    factor = f", {obtained[worst] / stored[worst]:.3g} times as long" if stored[worst] > 0 else ""
    return (
        f"the first step's gradient of {names[worst]} has length {obtained[worst]:.6g}, stored {stored[worst]:.6g}"
        f"{factor} ({outside.size} of {len(names)} gradients are outside what rounding explains)"
    )
