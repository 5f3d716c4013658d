"""Hypotheses of how gradients were combined: each is a prediction of every rank's gradient, and is measured.

First those with one free factor, then those with a factor for each micro-batch or rank. A factor that the hypothesis
itself calls for (the number of ranks, a ratio of micro-batches) makes it *natural*. Two that both fit cannot be told
apart, which happens when shares have the same gradient; then a natural one is preferred, then one that agrees with
the log of collectives, and if several are left none is named. Scope, priority against other causes and the text
around are in `rectest.checks.cause`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from rectest.checks.decomposition import Fit
from rectest.checks.scene import Scene, share_weights, shares_add_up
from rectest.checks.weights import Candidate, clipped_to, inside_text, never_reduced_text

__all__ = ["choose", "factor_text", "one_factor"]

FloatArray = npt.NDArray[np.float64]

_DIVISORS = 64
"""Largest number of micro-batches a wrong divisor is looked for."""

_NONE = 1e-3
"""A factor this small beside the scale of the gradients counts as none: then the hypothesis predicts nothing."""


def factor_text(factor: float, scene: Scene) -> str:
    """A factor in figures and, where it is a power of the number of ranks, in words."""
    figure = f"{factor:.4g}"
    for power in (1, 2, 3):
        if scene.world > 1 and math.isclose(factor, scene.world**power, rel_tol=1e-3):
            return f"{figure} times (the number of ranks{_power(power)})"
        if scene.world > 1 and math.isclose(factor, scene.world**-power, rel_tol=1e-3):
            return f"1/{scene.world**power} times (one over the number of ranks{_power(power)})"
    return f"{figure} times"


def _power(power: int) -> str:
    return {1: "", 2: " squared", 3: " cubed"}[power]


def choose(candidates: Sequence[Candidate], scene: Scene) -> Candidate | None:
    """One of the hypotheses that fit; where they cannot be told apart, an unknown that lists them."""
    left = [found for found in candidates if found.natural] or list(candidates)
    kept = [found for found in left if found.name == "never_reduced"]
    others = [found for found in left if found.name != "never_reduced"]
    if kept and others and scene.passes is not None:
        left = others if scene.passes > 0 else kept
    if len({found.name for found in left}) <= 1:
        return left[0] if left else None
    texts = "; or ".join(dict.fromkeys(found.sentence for found in left))
    text = f"the shares have the same gradient, so that these cannot be told apart: {texts}"
    return Candidate(name="unknown", sentence=text, natural=False)


def one_factor(scene: Scene) -> list[Candidate]:
    """All hypotheses with one free factor that fit; the scale of the right gradient first."""
    scale = _scaled(scene)
    found = [scale] if scale else []
    if not scene.evidence.has_local or shares_add_up(scene):
        return found
    found += [*_never_reduced(scene), *_too_early(scene), *_wrong_weights(scene), *_wiped(scene), *_inside(scene)]
    return [*found, *_ignored(scene), *clipped_to(scene)]


def _scaled(scene: Scene) -> Candidate | None:
    """The right gradient, or else the sum of all shares, times a factor other than 1."""
    single = [scene.evidence.single()] * scene.world
    shares = scene.fixed(np.ones((scene.world, scene.micro)))
    for base in (single, shares):
        fit = scene.evidence.fit([base], scene.names)
        if fit.fits and not scene.evidence.judge([base], [1.0], scene.names).fits:
            return named_factor(scene, base, fit)
    return None


def named_factor(scene: Scene, base: Sequence[FloatArray], fit: Fit) -> Candidate:
    """The name of a common factor."""

    def is_near(value: float) -> bool:
        return scene.evidence.judge([base], [value], scene.names).fits

    factor, world, micro = fit.coefficients[0], scene.world, scene.micro
    if scene.configured and scene.configured != micro and is_near(micro / scene.configured):
        return _divisor(factor, micro, scene.configured)
    for power in (1, 2, 3) if world > 1 else ():
        if is_near(world**power):
            return _summed(scene, factor, power)
        if is_near(world**-power):
            text = (
                f"{factor_text(factor, scene)} the gradient: divided by the number of ranks although the reduction "
                f"averages already{scene.log}"
            )
            return Candidate(name="divided_by_world", sentence=text, factor=factor, is_scale=True)
    for divisor in range(1, _DIVISORS + 1) if micro > 1 else ():
        if divisor != micro and is_near(micro / divisor):
            return _divisor(factor, micro, divisor)
    text = f"{factor:.6g} times the gradient everywhere, which is no power of the number of ranks"
    return Candidate(name="unknown", sentence=text, natural=False, factor=factor, is_scale=True)


def _summed(scene: Scene, factor: float, power: int) -> Candidate:
    passes = round(scene.passes) if scene.passes is not None else None
    how = "summed over ranks where an average was due"
    if power > 1:
        how = f"summed over ranks where an average was due, {'twice' if power == 2 else 'three times'}"
    elif passes is not None and passes > scene.micro:
        how = f"reduced {passes} times, one of them a sum over ranks where nothing or an average was due"
    also = ""
    if scene.micro > 1 and math.isclose(factor, scene.micro, rel_tol=1e-3):
        also = "; a sum over the micro-batches that is never divided by their number would give the same factor"
    text = f"{factor_text(factor, scene)} the gradient: {how}{also}{scene.log}"
    return Candidate(name="summed_not_averaged", sentence=text, factor=factor, is_scale=True)


def _divisor(factor: float, micro: int, divisor: int) -> Candidate:
    how = "never divided" if divisor == 1 else f"divided by {divisor}"
    text = f"{factor:.4g} times the gradient: the sum over {micro} micro-batches is {how}"
    return Candidate(name="accumulation_divisor", sentence=text, factor=factor, is_scale=True)


def _try(
    scene: Scene, bases: Sequence[FloatArray], name: str, sentence: str, natural: Sequence[float]
) -> Iterator[Candidate]:
    fit = scene.evidence.fit([bases], scene.names)
    factor = fit.coefficients[0]
    if not fit.fits or factor <= _NONE * scene.evidence.scale:
        return
    is_natural = any(scene.evidence.judge([bases], [value], scene.names).fits for value in natural)
    yield Candidate(name=name, sentence=sentence, natural=is_natural, factor=factor)


def _never_reduced(scene: Scene) -> Iterator[Candidate]:
    text = never_reduced_text(scene)
    natural = (1.0, float(scene.world), float(scene.micro), float(scene.world * scene.micro))
    if scene.world > 1:
        yield from _try(scene, scene.own(), "never_reduced", text, natural)
    if scene.world > 1 and scene.evidence.has_equal:
        yield from _try(scene, scene.own(equal=True), "never_reduced", text, natural)


def _too_early(scene: Scene) -> Iterator[Candidate]:
    """Reduced before the last micro-batch: those after it stay on their rank."""
    if scene.world == 1:
        return
    for count in range(1, scene.micro):
        reduced = np.arange(scene.micro) < count
        everywhere = scene.evidence.weighed(np.ones((scene.world, 1)) * reduced)
        kept = [scene.evidence.weighed(scene.world * scene.only(r) * ~reduced) for r in range(scene.world)]
        text = (
            f"reduced after micro-batch {count} of {scene.micro}: what is accumulated later is never reduced and stays "
            f"on its rank{scene.log}"
        )
        yield from _try(scene, [everywhere + own for own in kept], "never_reduced", text, (1.0,))


def _wrong_weights(scene: Scene) -> Iterator[Candidate]:
    """Shares that all count the same, though they have other numbers of terms."""
    if scene.evidence.has_equal:
        bases = scene.fixed(np.ones((scene.world, scene.micro)), equal=True)
        yield from _try(scene, bases, *_uneven(scene, "shares"), natural=(1.0,))
    for level, weights in share_weights(scene):
        yield from _try(scene, scene.fixed(weights), *_uneven(scene, level), natural=(1.0,))


def _uneven(scene: Scene, level: str) -> tuple[str, str]:
    """Name and sentence: whether rows are more uneven than the loss terms in a row, or the other way round."""

    def counts(values: FloatArray) -> FloatArray:
        return values.sum(axis=1) if level == "ranks" else values.ravel()

    rows = counts(scene.rows)
    terms = {name: counts(values) for name, values in scene.terms.items() if np.ptp(counts(values)) > 0}
    per_row = [_spread(values / np.maximum(rows, 1)) for values in terms.values()]
    named = "; ".join(f"{name} {_figures(values)}" for name, values in terms.items())
    if _spread(rows) > 0 and _spread(rows) >= max(per_row, default=0.0):
        return "uneven_shards", f"uneven shards averaged equally: {level} of {_figures(rows)} rows all weigh the same"
    text = f"a mean of means: {level} of {_figures(rows)} rows all weigh the same, but have other numbers of loss terms"
    return "mean_of_means", f"{text} ({named})"


def _spread(values: FloatArray) -> float:
    """How many times the largest is the smallest, as a logarithm."""
    return float(np.ptp(np.log(values))) if (values > 0).all() else math.inf


def _figures(values: FloatArray) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _wiped(scene: Scene) -> Iterator[Candidate]:
    if scene.micro > 1:
        weights = np.zeros((scene.world, scene.micro))
        weights[:, -1] = 1
        text = f"only the last of {scene.micro} micro-batches counts: what was accumulated before it is wiped"
        yield from _try(scene, scene.fixed(weights), "accumulation_wiped", text, (1.0, float(scene.micro)))


def _inside(scene: Scene) -> Iterator[Candidate]:
    if scene.micro > 1 and scene.world > 1:
        weights = float(scene.world) ** np.arange(scene.micro - 1, -1, -1) * np.ones((scene.world, 1))
        natural = [float(scene.world) ** power for power in (-2, -1, 0, 1, 2)]
        fit = scene.evidence.fit([scene.fixed(weights)], scene.names)
        yield from _try(
            scene,
            scene.fixed(weights),
            "reduced_inside_accumulation",
            inside_text(fit.coefficients[0] * weights[0]),
            natural,
        )


def _ignored(scene: Scene) -> Iterator[Candidate]:
    """One rank left out, or all but one."""
    world = scene.world
    held = [rank for rank in range(world) if scene.own_norm(rank) > 0]
    for rank in held if world > 2 else ():
        text = f"the shares of rank {rank} count for nothing: its weight is 0 on every rank"
        weights = scene.fixed(1 - scene.only(rank))
        yield from _try(scene, weights, "rank_ignored", text, (1.0, world / (world - 1)))
    for rank in held if len(held) > 1 else ():
        text = f"only the shares of rank {rank} count: the weight of all others is 0 on every rank"
        yield from _try(scene, scene.fixed(scene.only(rank)), "rank_ignored", text, (1.0, float(world)))
