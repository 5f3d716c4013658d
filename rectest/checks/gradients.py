"""How far two gradients are apart, in error, scale and direction, and how far rounding alone may bring them.

Owns the arithmetic of whole parameters; rows of tables are in `rectest.checks.rows`, and which gradients are compared
and what it means is in `rectest.checks.parity`.

**How far two right gradients may lie apart.** An entry of a gradient is a sum over paths: from an input forward
through the layers to the loss, and back through the layers to the parameter. In floating point each path is
multiplied by (1 + d_1)...(1 + d_n), with one |d_i| <= u for every rounding on it, u the unit roundoff of the dtype.

*Length and depth.* A product with a weight of shape (out, in) adds up `in` numbers forward and `out` backward, so the
sum of its dimensions counts both; a tied table of scores adds up its columns forward and its rows in the softmax and
backward. Element-wise functions beside a parameter (bias, activation, normalisation, and their derivatives) round
`POINTWISE` times. At the end the path is added to those of the other loss terms, micro-batches and ranks. An error
made in one layer is carried through all layers after it, hence the roundings of all layers lie on one path and their
numbers add up: n = terms + shares + sum over all parameters of (dimensions + `POINTWISE`). A network of d layers of
width w has n = terms + d (2 w + `POINTWISE`), for parameters in its first layer; for all others n is an upper bound.

*How it grows.* In the worst case the product of n factors is 1 + n u, linear in depth. Where roundings are
independent with mean zero it is at most g = exp(lambda sqrt(n) u + n u^2 / (1 - u)) - 1 off, except with probability
2 exp(-lambda^2 (1 - u)^2 / 2) (Higham and Mary, SIAM J. Sci. Comput. 41, 2019, theorem 2.4), so that it grows with
the square root of depth and of the batch. Their inner product of n numbers needs the bound for each of its n partial
products; with E entries of M gradients that makes n E M events. lambda is chosen so that the union of all of them
has probability `ALPHA`. When all entries are within it, so are the norms of rows, of parameters and of the whole at
once: judging those as well needs no further correction. Two gradients are compared, hence 2 g.

*Relative to what.* To the sum of the sizes of the paths, which no record holds. It is at least the gradient's own
norm, and that of the shares that were added (which may cancel); where everything cancels, as for the key bias under a
softmax, it is estimated by the root mean square entry of the whole gradient, and a parameter below that is zero to
its rounding. Cancellation within one share is not seen by these; that n counts every layer for every entry, and lambda
every entry at once, leaves room for it. A network that amplifies (condition number far above 1) can use it up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.checks.tolerance import ALPHA

__all__ = [
    "POINTWISE",
    "SAME",
    "UNIT_ROUNDOFF",
    "Apart",
    "Gradients",
    "allowed_norms",
    "compare_gradients",
    "parameter_sizes",
    "rolled",
    "rounding_limit",
    "whole_apart",
]

FloatArray = npt.NDArray[np.float64]
Gradients = Mapping[str, FloatArray]

UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Half the distance from 1 to the next number, by the type that gradients are computed in."""

POINTWISE = 16
"""Roundings of the element-wise functions beside one parameter: a layer normalisation rounds most, about six times
forward (difference, square, root, quotient, scale, shift) and ten in its derivative."""

SAME = 1e-3
"""Relative difference up to which what was moved still is the right gradient: rounding of float32 stays far below."""


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


def rounding_limit(
    num_terms: float,
    shapes: Sequence[tuple[int, ...]],
    *,
    dtype: str = "float32",
    num_shares: int = 1,
    num_gradients: int = 2,
) -> float:
    """How far two right gradients may be apart, relative to the sizes of what is summed (see above).

    Args:
        num_terms: loss terms of the batch.
        shapes: of all parameters.
        num_shares: micro-batches of all ranks together.
        num_gradients: how many are judged at once, the right one included.

    >>> round(rounding_limit(1024, [(500, 32), (32,)]) * 1e5, 2)
    3.42
    """
    if dtype not in UNIT_ROUNDOFF:
        msg = f"dtype must be one of {', '.join(UNIT_ROUNDOFF)}, got {dtype!r}"
        raise ValueError(msg)
    u = UNIT_ROUNDOFF[dtype]
    entries = max(1, sum(math.prod(shape) for shape in shapes))
    length = max(1.0, num_terms + num_shares + sum(sum(shape) + POINTWISE for shape in shapes))
    spread = math.sqrt(2 * math.log(2 * length * entries * num_gradients / ALPHA)) / (1 - u)
    kept = 2 * UNIT_ROUNDOFF["float32"] if dtype == "float64" else 0.0  # a record holds float32
    return 2 * math.expm1(spread * math.sqrt(length) * u + length * u**2 / (1 - u)) + kept


def parameter_sizes(shares: Sequence[Gradients]) -> dict[str, float]:
    """By parameter, the sum of the norms of the shares that were added to get its gradient."""
    sizes: dict[str, float] = {}
    for share in shares:
        for name, value in share.items():
            sizes[name] = sizes.get(name, 0.0) + float(np.linalg.norm(value))
    return sizes


def allowed_norms(right: Gradients, *, limit: float, sizes: Mapping[str, float]) -> dict[str, float]:
    """By parameter, the norm that rounding may reach: `limit` of the largest size known (see above)."""
    whole = math.sqrt(sum(float((value**2).sum()) for value in right.values()))
    rms = whole / math.sqrt(max(1, sum(value.size for value in right.values())))
    known = {name: max(float(np.linalg.norm(v)), rms * math.sqrt(v.size)) for name, v in right.items()}
    return {name: limit * max(known.get(name, rms), sizes.get(name, 0.0)) for name in {*known, *sizes}}


def compare_gradients(right: Gradients, other: Gradients, *, limit: float, sizes: Mapping[str, float]) -> list[Apart]:
    """Each parameter that has a gradient beyond its rounding, and ``*`` for the whole; the farthest first.

    Args:
        limit: relative rounding of a sum, see `rounding_limit`.
        sizes: by parameter, the norms of what was summed to get its gradient, where more is known than the result.
    """
    blank = {name: np.zeros_like(value) for name, value in other.items()}
    right = {**blank, **right}
    allowed = allowed_norms(right, limit=limit, sizes=sizes)
    found = []
    for name, a in sorted(right.items()):
        b = other.get(name, np.zeros_like(a))
        if max(np.linalg.norm(a), np.linalg.norm(b)) > allowed[name]:
            found.append(_apart(name, a, b, allowed[name]))
    found.append(whole_apart(right, other, allowed=math.sqrt(sum(allowed[name] ** 2 for name in right))))
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
    """Wrong gradients: each entry stands in its neighbour's place; one that is nearly the same then is negated.

    >>> rolled({"a": np.array([1.0, 2.0]), "b": np.array([1.0, 1.0])})
    {'a': array([2., 1.]), 'b': array([-1., -1.])}
    """
    wrong = {}
    for name, value in right.items():
        moved = np.roll(value.ravel(), 1).reshape(value.shape)
        wrong[name] = -value if np.linalg.norm(moved - value) <= SAME * np.linalg.norm(value) else moved
    return wrong
