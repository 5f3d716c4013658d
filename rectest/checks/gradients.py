"""How far two gradients are apart, in error, scale and direction, and how far rounding alone may bring them.

Owns the arithmetic; which gradients are compared and what it means is in `rectest.checks.parity`.

How far two right gradients may lie apart: each is a sum over the terms of the batch and, on the way, over the rows
and columns of every parameter, n roundings in a row at most (n = loss terms + sum of all parameters' dimensions). If
roundings are independent with mean zero, a sum of n numbers is off by at most lambda sqrt(n) u times the sum of their
sizes, but for a probability of 2 exp(-lambda^2 / 2) an entry (Higham and Mary, SIAM J. Sci. Comput. 41, 2019), with u
the unit roundoff. Two gradients are compared, hence 2 lambda sqrt(n) u, and lambda is chosen so that among all
entries the false-alarm rate is `ALPHA`. The sum of sizes is at least the gradient's own, and that of the ranks'
local gradients (which may cancel); where everything cancels, as for the key bias under a softmax, it is estimated by
the root mean square entry of the whole gradient, and a parameter below that is zero to its rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.checks.tolerance import ALPHA

__all__ = ["UNIT_ROUNDOFF", "Apart", "Gradients", "compare_gradients", "rolled", "rounding_limit", "whole_apart"]

FloatArray = npt.NDArray[np.float64]
Gradients = Mapping[str, FloatArray]

UNIT_ROUNDOFF = {"float32": 2.0**-24, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Half the distance from 1 to the next number, by the type that gradients are computed in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Apart:
    """How far one parameter's gradient is from the right one; the name ``*`` stands for all parameters together."""

    name: str
    error: float
    """Norm of the difference, relative to the right gradient's norm."""

    scale: float
    """The factor of the right gradient that fits best, by least squares."""

    cosine: float
    angle: float
    """Sine of the angle between the two: what remains when the scale is taken out."""

    limit: float
    """What rounding may do to each of `error`, `scale` - 1 and `angle`."""

    @property
    def red(self) -> bool:
        """Whether rounding cannot explain the difference."""
        return not self.error <= self.limit


def rounding_limit(num_terms: float, shapes: Sequence[tuple[int, ...]], *, dtype: str = "float32") -> float:
    """How far two right gradients may be apart, relative to the sizes of what is summed (see above).

    >>> round(rounding_limit(1024, [(500, 32), (32,)]) * 1e5, 2)
    2.79
    """
    if dtype not in UNIT_ROUNDOFF:
        msg = f"dtype must be one of {', '.join(UNIT_ROUNDOFF)}, got {dtype!r}"
        raise ValueError(msg)
    entries = sum(math.prod(shape) for shape in shapes)
    length = num_terms + sum(sum(shape) for shape in shapes)
    spread = math.sqrt(2 * math.log(2 * max(entries, 1) / ALPHA))
    return 2 * spread * math.sqrt(length) * UNIT_ROUNDOFF[dtype]


def compare_gradients(right: Gradients, other: Gradients, *, limit: float, sizes: Mapping[str, float]) -> list[Apart]:
    """Each parameter that has a gradient beyond its rounding, and ``*`` for the whole; the farthest first.

    Args:
        limit: relative rounding of a sum, see `rounding_limit`.
        sizes: by parameter, the norms of what was summed to get its gradient, where more is known than the result.
    """
    names = sorted({*right, *other})
    whole = math.sqrt(sum(float((value**2).sum()) for value in right.values()))
    num_entries = sum(value.size for value in right.values())
    found, allowed_squares = [], 0.0
    for name in names:
        shape = right.get(name, other.get(name, np.zeros(0))).shape
        a, b = (side.get(name, np.zeros(shape)) for side in (right, other))
        size = max(float(np.linalg.norm(a)), sizes.get(name, 0.0), whole * math.sqrt(a.size / num_entries))
        allowed_squares += (limit * size) ** 2
        if max(np.linalg.norm(a), np.linalg.norm(b)) > limit * size:
            found.append(_apart(name, a, b, limit * size))
    found.append(whole_apart(right, other, allowed=math.sqrt(allowed_squares)))
    return sorted(found, key=lambda apart: -apart.error / apart.limit if apart.limit else 0.0)


def whole_apart(right: Gradients, other: Gradients, *, allowed: float = 0.0) -> Apart:
    """All parameters as one vector, named ``*``; one that a side lacks is zero there."""
    zero = {name: np.zeros_like(value) for side in (right, other) for name, value in side.items()}
    first, second = (
        np.concatenate([side.get(name, zero[name]).ravel() for name in sorted(zero)]) for side in (right, other)
    )
    return _apart("*", first, second, allowed)


def _apart(name: str, a: FloatArray, b: FloatArray, allowed: float) -> Apart:
    a, b = a.ravel(), b.ravel()
    norm_a, norm_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if norm_a == 0:
        return Apart(name=name, error=math.inf, scale=math.inf, cosine=0.0, angle=1.0, limit=allowed)
    scale = float(a @ b) / norm_a**2
    rest = float(np.linalg.norm(b - scale * a))
    return Apart(
        name=name,
        error=float(np.linalg.norm(b - a)) / norm_a,
        scale=scale,
        cosine=scale * norm_a / norm_b if norm_b else 0.0,
        angle=rest / norm_b if norm_b else 1.0,
        limit=allowed / norm_a,
    )


def rolled(right: Gradients) -> dict[str, FloatArray]:
    """Wrong gradients: each entry stands in its neighbour's place; one that is the same everywhere is negated."""
    moved = {name: np.roll(value.ravel(), 1).reshape(value.shape) for name, value in right.items()}
    return {name: -value if np.allclose(value, moved[name]) else moved[name] for name, value in right.items()}
