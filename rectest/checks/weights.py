"""Hypotheses in which shares have weights of their own: a factor for each micro-batch, or for each rank.

They come after those with one factor (`rectest.checks.hypotheses`), which they contain. Clipping of each rank's own
gradient is one of them: the weight of a rank is then the norm it was clipped to over the norm it had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.checks.scene import Scene

__all__ = ["Candidate", "clipped_to", "inside_text", "never_reduced_text", "several_factors"]

FloatArray = npt.NDArray[np.float64]

_NONE = 1e-3
"""A weight this small, beside one of size 1, counts as none when several weights are named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A hypothesis that fits."""

    name: str
    sentence: str
    natural: bool = True
    """Whether its factor is one that the hypothesis itself calls for."""

    factor: float = 1.0
    is_scale: bool = False
    """Whether it says that the right gradient has a factor, and nothing else."""


def several_factors(scene: Scene) -> Candidate | None:
    """The first hypothesis with a factor for each micro-batch or each rank that fits and is determined."""
    if not scene.evidence.has_local:
        return None
    return _by_micro(scene) or _by_rank(scene) or _own_by_rank(scene)


def _by_micro(scene: Scene) -> Candidate | None:
    ones = np.ones((scene.world, 1))
    bases = [scene.fixed(ones * (np.arange(scene.micro) == j)) for j in range(scene.micro)]
    fit = scene.evidence.fit(bases, scene.names)
    if scene.micro == 1 or not (fit.fits and fit.determined):
        return None
    k = np.array(fit.coefficients)
    lost = np.flatnonzero(np.abs(k) < _NONE * np.abs(k).max())
    if len(lost):
        kept = ", ".join(str(j + 1) for j in range(scene.micro) if j not in lost)
        text = f"only micro-batch {kept} of {scene.micro} counts: the others are wiped"
        return Candidate(name="accumulation_wiped", sentence=text)
    if (np.diff(k) <= _NONE).all() and k[0] > k[-1] * (1 + _NONE) and scene.world > 1:
        return Candidate(name="reduced_inside_accumulation", sentence=inside_text(k))
    figures = ", ".join(f"{value:.3g}" for value in k)
    return Candidate(name="unknown", sentence=f"micro-batches, from first to last, weigh {figures} instead of 1 each")


def _by_rank(scene: Scene) -> Candidate | None:
    fit = scene.evidence.fit([scene.fixed(scene.only(r)) for r in range(scene.world)], scene.names)
    if scene.world == 1 or not (fit.fits and fit.determined):
        return None
    k = np.array(fit.coefficients)
    lost = np.flatnonzero(np.abs(k) < _NONE * np.abs(k).max())
    if len(lost):
        text = f"the shares of ranks {', '.join(map(str, lost))} count for nothing: their weight is 0 on every rank"
        return Candidate(name="rank_ignored", sentence=text)
    own = np.array([scene.own_norm(rank) for rank in range(scene.world)])
    norm = _common_norm(k, own * scene.world)
    if norm is not None:
        return Candidate(name="clipped_before_reduction", sentence=_clip_text(k, norm))
    figures = ", ".join(f"{value:.3g}" for value in k)
    return Candidate(name="unknown", sentence=f"ranks weigh {figures} instead of 1 each")


def _common_norm(k: FloatArray, own: FloatArray) -> float | None:
    """The norm to which ranks with a weight below 1 were clipped, if it is one norm and no other rank exceeds it."""
    clipped = k < 1 - _NONE
    norms = (k * own)[clipped]
    if not clipped.any() or (k > 1 + _NONE).any():
        return None
    norm = float(norms.mean())
    even = np.allclose(norms, norm, rtol=_NONE) and (own[~clipped] <= norm * (1 + _NONE)).all()
    return norm if even else None


def _own_by_rank(scene: Scene) -> Candidate | None:
    if scene.world == 1:
        return None
    nothing = np.zeros(scene.evidence.size)
    own = scene.own()
    bases = [[own[r] if r == s else nothing for s in range(scene.world)] for r in range(scene.world)]
    fit = scene.evidence.fit(bases, scene.names)
    if not fit.fits or min(fit.coefficients) <= _NONE * max(fit.coefficients):
        return None
    return Candidate(name="never_reduced", sentence=never_reduced_text(scene))


def clipped_to(scene: Scene) -> Iterator[Candidate]:
    """Clipping of each rank's own gradient to the known norm."""
    if scene.clip_norm is None or scene.world == 1:
        return
    own = np.array([scene.own_norm(rank) for rank in range(scene.world)])
    for loss_scale in (scene.world, 1):  # a mean of ranks' own gradients, or a sum of divided ones
        factors = np.minimum(1.0, scene.clip_norm / (loss_scale * own + 1e-6))  # as clip_grad_norm_ has it
        bases = scene.fixed(factors[:, None] * np.ones((1, scene.micro)))
        if factors.min() < 1 and scene.evidence.judge([bases], [1.0], scene.names).fits:
            yield Candidate(name="clipped_before_reduction", sentence=_clip_text(factors, scene.clip_norm))
            return


def _clip_text(factors: Sequence[float] | FloatArray, norm: float) -> str:
    figures = ", ".join(f"{float(factor):.3g}" for factor in factors)
    return f"clipped before the reduction: each rank's own gradient to norm {norm:.3g}, so that ranks weigh {figures}"


def inside_text(weights: Sequence[float] | FloatArray) -> str:
    """The sentence of micro-batches that are reduced again with each later one."""
    figures = ", ".join(f"{float(weight):.3g}" for weight in weights)
    return f"reduced inside the accumulation: micro-batches, from first to last, weigh {figures} instead of 1 each"


def never_reduced_text(scene: Scene) -> str:
    """The sentence of gradients that stay on their rank."""
    return f"every rank kept the gradient of its own rows: they are never reduced{scene.log}"
