"""What the gradient of each rank is made of: inner products of all that was recorded, and fits to them.

The gradient G_r of rank r is compared with combinations of known vectors: S, the gradient of one process; L_sj, the
share of rank s and micro-batch j, weighed by its loss terms (all of them add up to S when nothing is wrong); and E_sj,
the same share weighed as all others. Every difference norm is a quadratic form in their inner products (Gram matrix),
one matrix for each parameter, in float64: the relative error of such a norm is about sqrt(2^-52), a thousand times
below the rounding of a float32 gradient. So vectors are read once and hypotheses cost nothing.

A hypothesis *fits* when every parameter on every rank is within the rounding of the terms it adds (or, where they
cancel, of the parameter's size in one process, times the scale of the ranks' gradients). Fits weigh each parameter by
its rounding, so that one of small norm counts as much as a large one. Which hypothesis has which name is decided in
`rectest.checks.hypotheses`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.gradients import Gradients, allowed_norms, parameter_sizes, rounding_limit
from rectest.record import RunRecord

__all__ = ["RANDOM_LOSS", "Evidence", "Fit", "evidence_of", "gradients_of", "parallel_facts", "shares_of", "unusable"]

FloatArray = npt.NDArray[np.float64]

RANDOM_LOSS = (
    "the loss of the same rows came out differently twice: dropout or negatives drawn inside the loss; switch it off "
    "or give it a generator"
)
"""Why nothing can be compared where a record says ``random_loss``."""

_BLOCK = 1 << 18
"""Entries that are read at once, so that a large table is never copied whole for each share."""

_RANK = 1e-10
"""Relative eigenvalue below which vectors count as dependent: float32 gradients leave 1e-14 of one another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """How well one hypothesis explains the gradients of all ranks."""

    coefficients: tuple[float, ...]
    excess: float
    """The largest residual of a parameter on a rank, in units of its rounding; the hypothesis fits up to 1."""

    residual: float
    """Norm of all residuals, relative to the norm of the gradients of all ranks."""

    determined: bool = True
    """Whether the data fix every coefficient; false where vectors depend on one another."""

    @property
    def fits(self) -> bool:
        """Whether rounding explains what is left."""
        return self.excess <= 1


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Inner products of S, the G of each rank, the L and the E, by parameter; W ranks with A micro-batches each."""

    world_size: int
    num_micro: int
    limit: float
    """Relative rounding of a gradient, see `rectest.checks.gradients.rounding_limit`."""

    allowed: Mapping[str, float]
    """By parameter, the norm that rounding may reach."""

    grams: Mapping[str, FloatArray]
    """By parameter [M, M] with M = 1 + W + 2 W A; the order is S, G_0..., L_00, L_01..., E_00, E_01..."""

    has_equal: bool
    """Whether E differs from L anywhere."""

    has_local: bool
    numels: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters that have a gradient beyond rounding, in one process or on a rank."""
        seen = range(1 + self.world_size)
        return tuple(n for n, g in self.grams.items() if max(g[i, i] for i in seen) > self.allowed[n] ** 2)

    @cached_property
    def scale(self) -> float:
        """The largest norm of a rank's gradient, relative to that of one process; 1 where one of them is zero."""
        one, many = self.norm(self.single()), max(self.norm(self.net(r)) for r in range(self.world_size))
        return many / one if one and many else 1.0

    @property
    def size(self) -> int:
        """How many vectors there are."""
        return 1 + self.world_size + 2 * self.world_size * self.num_micro

    def single(self) -> FloatArray:
        """S as a combination of all vectors, [M]."""
        return self._unit(0)

    def net(self, rank: int) -> FloatArray:
        """G of a rank as a combination, [M]."""
        return self._unit(1 + rank)

    def share(self, rank: int, micro: int, *, equal: bool = False) -> FloatArray:
        """L (or E) of a micro-batch of a rank, [M]."""
        start = 1 + self.world_size + (self.world_size * self.num_micro if equal else 0)
        return self._unit(start + rank * self.num_micro + micro)

    def weighed(self, weights: FloatArray, *, equal: bool = False) -> FloatArray:
        """The sum of all shares with `weights` [W, A], as a combination [M]."""
        out = np.zeros(self.size)
        start = 1 + self.world_size + (self.world_size * self.num_micro if equal else 0)
        out[start : start + weights.size] = weights.ravel()
        return out

    def norm(self, combination: FloatArray, names: Sequence[str] | None = None) -> float:
        """The norm of a combination over some parameters; all by default."""
        grams, _ = self._stack(tuple(self.grams) if names is None else names)
        return float(np.linalg.norm(_norms(grams, combination)))

    def explains(self, rest: FloatArray) -> bool:
        """Whether a difference, as a combination, is within the rounding of every parameter."""
        grams, allowed = self._stack(tuple(self.grams))
        return bool((_norms(grams, rest) <= allowed).all())

    def judge(
        self,
        bases: Sequence[Sequence[FloatArray]],
        coefficients: Sequence[float],
        names: Sequence[str],
        *,
        ranks: Sequence[int] | None = None,
    ) -> Fit:
        """How far G_r is from the sum of ``coefficients[i] * bases[i][r]``, for all `names` and all (or some) ranks."""
        grams, allowed = self._stack(names)
        own = np.sqrt(np.einsum("pii->pi", grams))
        allowed = allowed * self.scale
        excess = rest = whole = 0.0
        for rank in range(self.world_size) if ranks is None else ranks:
            parts = [k * base[rank] for k, base in zip(coefficients, bases, strict=True)]
            norms = _norms(grams, self.net(rank) - sum(parts, np.zeros(self.size)))
            terms = own @ sum((np.abs(part) for part in parts), np.zeros(self.size))
            rounding = np.maximum(allowed, self.limit * terms)
            excess = max(excess, float((norms / rounding).max(initial=0.0)))
            rest += float((norms**2).sum())
            whole += float((own[:, 1 + rank] ** 2).sum())
        return Fit(
            coefficients=tuple(float(k) for k in coefficients),
            excess=excess,
            residual=math.sqrt(rest / whole) if whole else 0.0,
        )

    def fit(
        self, bases: Sequence[Sequence[FloatArray]], names: Sequence[str], *, ranks: Sequence[int] | None = None
    ) -> Fit:
        """The best coefficients of `bases` (by basis, by rank), one set for all (or some) ranks."""
        num = len(bases)
        gram, right = np.zeros((num, num)), np.zeros(num)
        grams, allowed = self._stack(names)
        whitened = (grams / allowed[:, None, None] ** 2).sum(axis=0)
        for rank in range(self.world_size) if ranks is None else ranks:
            stacked = np.stack([base[rank] for base in bases])
            gram += stacked @ whitened @ stacked.T
            right += stacked @ whitened @ self.net(rank)
        coefficients, determined = _solve(gram, right)
        found = self.judge(bases, coefficients.tolist(), names, ranks=ranks)
        return Fit(coefficients=found.coefficients, excess=found.excess, residual=found.residual, determined=determined)

    def _stack(self, names: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """Gram matrices [P, M, M] and allowed norms [P] of some parameters."""
        if not names:
            return np.zeros((0, self.size, self.size)), np.zeros(0)
        return np.stack([self.grams[n] for n in names]), np.array([self.allowed[n] for n in names])

    def _unit(self, index: int) -> FloatArray:
        out = np.zeros(self.size)
        out[index] = 1
        return out


def _norms(grams: FloatArray, combination: FloatArray) -> FloatArray:
    """The norm of a combination for each of the Gram matrices; a square below zero is rounding."""
    squares = np.einsum("i,pij,j->p", combination, grams, combination)
    norms: FloatArray = np.sqrt(np.maximum(squares, 0.0))
    return norms


def _solve(gram: FloatArray, right: FloatArray) -> tuple[FloatArray, bool]:
    """Least squares from normal equations, scaled to a unit diagonal; dependent directions get nothing."""
    scale = np.sqrt(np.diag(gram))
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    values, vectors = np.linalg.eigh(gram * np.outer(inverse, inverse))
    keep = values > _RANK * max(1.0, float(values.max(initial=0.0)))
    projected = vectors.T[keep] @ (right * inverse)
    return (vectors[:, keep] @ (projected / values[keep])) * inverse, bool(keep.all())


def parallel_facts(record: RunRecord) -> Mapping[str, Any]:
    """What a rank notes about itself; empty where it notes nothing."""
    found: Mapping[str, Any] = record.facts.get("parallel") or {}
    return found


def gradients_of(record: RunRecord, prefix: str = "grad/") -> dict[str, FloatArray]:
    """The gradients under a prefix, by parameter, as float64."""
    return {name: record[prefix + name].astype(np.float64) for name in record.names(prefix)}


def shares_of(record: RunRecord, kind: str = "local") -> list[dict[str, npt.NDArray[Any]]]:
    """By micro-batch, what ``local/`` or ``equal/`` holds, as recorded; an entry that is missing is zero."""
    found: dict[int, dict[str, npt.NDArray[Any]]] = {}
    for key in record.names(f"{kind}/"):
        micro, _, name = key.partition("/")
        found.setdefault(int(micro), {})[name] = record[f"{kind}/{key}"]
    count = max([len(parallel_facts(record).get("num_rows") or []), *(micro + 1 for micro in found)])
    return [found.get(micro, {}) for micro in range(count)]


def unusable(single: RunRecord, ranks: Sequence[RunRecord]) -> str:
    """Why the gradients of these records cannot be compared; empty where they can."""
    right, others = gradients_of(single), [gradients_of(record) for record in ranks]
    if not others or not right or not all(others):
        return "a record has no gradient (grad/...)"
    shares = [share for record in ranks for kind in ("local", "equal") for share in shares_of(record, kind)]
    known: dict[str, tuple[int, ...]] = {}
    for side in (right, *others, *shares):
        for name, value in side.items():
            if known.setdefault(name, value.shape) != value.shape:
                return f"{name} has another shape in one process than on the ranks"
    own = [(f"in the share of rank {r}", s) for r, record in enumerate(ranks) for s in shares_of(record)]
    sides = [("in one process", right), *own, *((f"on rank {r}", other) for r, other in enumerate(others))]
    for where, side in sides:
        for name, value in side.items():
            if not np.isfinite(value).all():
                return f"a gradient is not finite: {name} {where}"
    if not any(value.any() for value in right.values()):
        return "the gradient of one process is zero everywhere; nothing can be compared with it"
    if any(parallel_facts(record).get("random_loss") for record in (single, *ranks)):
        return RANDOM_LOSS
    return ""


def evidence_of(single: RunRecord, ranks: Sequence[RunRecord], *, dtype: str | None = None) -> Evidence:
    """All inner products, and the rounding of each parameter."""
    right, nets = gradients_of(single), [gradients_of(record) for record in ranks]
    local = [shares_of(record) for record in ranks]
    equal = [shares_of(record, "equal") for record in ranks]
    num_micro = max(1, *(len(own) for own in local))
    every = [share for own in local for share in own]
    shapes = {name: value.shape for side in (right, *nets, *every) for name, value in side.items()}
    limit = _limit(single, ranks, list(shapes.values()), num_micro, dtype)
    sizes = parameter_sizes(every)
    blank = {name: np.zeros(shape) for name, shape in shapes.items()}
    places = [(r, j) for r in range(len(ranks)) for j in range(num_micro)]
    shares = [_at(local, r, j) for r, j in places]
    equals = [{**_at(local, r, j), **_at(equal, r, j)} for r, j in places]
    return Evidence(
        world_size=len(ranks),
        num_micro=num_micro,
        limit=limit,
        allowed=allowed_norms({**blank, **right}, limit=limit, sizes=sizes),
        grams={name: _gram([side.get(name) for side in (right, *nets, *shares, *equals)]) for name in sorted(shapes)},
        has_equal=any(any(own) for own in equal),
        has_local=any(any(own) for own in local),
        numels={name: math.prod(shape) for name, shape in shapes.items()},
    )


def _limit(
    single: RunRecord, ranks: Sequence[RunRecord], shapes: list[tuple[int, ...]], num_micro: int, dtype: str | None
) -> float:
    terms = max(_num_terms([single]), _num_terms(ranks))
    return rounding_limit(
        terms,
        shapes,
        dtype=dtype or parallel_facts(ranks[0]).get("dtype") or "float32",
        num_shares=len(ranks) * num_micro,
        num_gradients=1 + len(ranks),
    )


def _num_terms(records: Sequence[RunRecord]) -> float:
    """Loss terms of all records; of all components, since their gradients are added up too."""
    counts = [
        n for record in records for per_micro in (parallel_facts(record).get("terms") or {}).values() for n in per_micro
    ]
    rows = [n for record in records for n in parallel_facts(record).get("num_rows") or []]
    return float(max(sum(counts), sum(rows)))


def _at(shares: Sequence[Sequence[Gradients]], rank: int, micro: int) -> Gradients:
    return shares[rank][micro] if micro < len(shares[rank]) else {}


def _gram(vectors: Sequence[npt.NDArray[Any] | None]) -> FloatArray:
    known = [(i, value.ravel()) for i, value in enumerate(vectors) if value is not None]
    gram = np.zeros((len(vectors), len(vectors)))
    index = np.array([i for i, _ in known])
    for start in range(0, known[0][1].size, _BLOCK):
        block = np.stack([value[start : start + _BLOCK].astype(np.float64) for _, value in known])
        gram[np.ix_(index, index)] += block @ block.T
    return gram
