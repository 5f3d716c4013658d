"""`Scene`: what is to be explained about the gradients of all ranks, and what else was recorded about the step.

Reads the facts of the records: terms and rows of each share, the log of collectives, what the job says it divides by.
Hypotheses are in `rectest.checks.hypotheses`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.decomposition import Evidence, parallel_facts
from rectest.record import RunRecord

__all__ = [
    "Scene",
    "reduction_of",
    "rows_exchanged",
    "scene_of",
    "share_weights",
    "shares_add_up",
    "shares_make_single",
]

FloatArray = npt.NDArray[np.float64]

_REDUCING = ("backward", "reduce")
"""Phases of a step in which gradients are exchanged."""

_GATHERS = ("gather", "all_to_all", "alltoall")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is to be explained, and what else was recorded about the step."""

    evidence: Evidence
    names: tuple[str, ...]
    """The parameters that a hypothesis must explain."""

    rows: FloatArray
    """float64[W, A]: samples of each share; zero where none are recorded."""

    terms: Mapping[str, FloatArray] = field(default_factory=dict)
    """By loss component, the terms of each share [W, A]."""

    passes: float | None = None
    """How often the gradients were reduced in the step, by the log of collectives; None where there is no log."""

    configured: int | None = None
    """Micro-batches that the job says it divides by."""

    clip_norm: float | None = None

    @property
    def world(self) -> int:
        """Number of ranks."""
        return self.evidence.world_size

    @property
    def micro(self) -> int:
        """Micro-batches of each rank."""
        return self.evidence.num_micro

    def fixed(self, weights: FloatArray, *, equal: bool = False) -> list[FloatArray]:
        """The same combination of shares on every rank; `weights` is [W, A]."""
        return [self.evidence.weighed(weights, equal=equal)] * self.world

    def own(self, *, equal: bool = False) -> list[FloatArray]:
        """On each rank the sum of its own shares."""
        return [self.evidence.weighed(self.only(rank), equal=equal) for rank in range(self.world)]

    def own_norm(self, rank: int) -> float:
        """The norm of the sum of a rank's shares, over all parameters."""
        return self.evidence.norm(self.evidence.weighed(self.only(rank)))

    @property
    def log(self) -> str:
        """What the log of collectives says about reductions, as a bracket to put after a sentence."""
        if self.passes is None:
            return ""
        return f" (reductions of each gradient, by the log of collectives: {self.passes:.3g})"

    @property
    def everything(self) -> FloatArray:
        """The sum of all shares as a combination, [M]."""
        return self.evidence.weighed(np.ones((self.world, self.micro)))

    def only(self, rank: int) -> FloatArray:
        """Weights of one for the shares of a rank, [W, A]."""
        weights = np.zeros((self.world, self.micro))
        weights[rank] = 1
        return weights


def scene_of(evidence: Evidence, ranks: Sequence[RunRecord]) -> Scene:
    """What the ranks' records say about the step."""
    facts = [parallel_facts(record) for record in ranks]
    shape = (evidence.world_size, evidence.num_micro)
    components = dict.fromkeys(name for fact in facts for name in fact.get("terms") or {})
    reduction = reduction_of(ranks)
    return Scene(
        evidence=evidence,
        names=evidence.names,
        rows=_counts([fact.get("num_rows") for fact in facts], shape),
        terms={name: _counts([(fact.get("terms") or {}).get(name) for fact in facts], shape) for name in components},
        passes=_passes(evidence, facts),
        configured=reduction.get("accumulation"),
        clip_norm=next((fact["clip_norm"] for fact in facts if fact.get("clip_norm")), None),
    )


def reduction_of(ranks: Sequence[RunRecord]) -> Mapping[str, Any]:
    """The settings by which the job says it combines gradients; empty where it says nothing."""
    job = parallel_facts(ranks[0]).get("job") or {}
    found: Mapping[str, Any] = job.get("reduction") or {}
    return found


def rows_exchanged(scene: Scene, ranks: Sequence[RunRecord]) -> list[str]:
    """The collectives of all forward passes that bring rows of other ranks, in order.

    A gather is one, and so is a sum over ranks of at least a number for each row: rows can be put into zeros and added.
    Broadcasts are not: `DistributedDataParallel` sends buffers that way.
    """
    log = [entry for record in ranks for entry in parallel_facts(record).get("comm") or []]
    forward = [entry for entry in log if entry["phase"] == "forward" and "broadcast" not in entry["op"]]
    whole = max(1.0, float(scene.rows.sum()))
    return [c["op"] for c in forward if any(word in c["op"] for word in _GATHERS) or c["numel"] >= whole]


def _counts(values: Sequence[Sequence[float] | None], shape: tuple[int, int]) -> FloatArray:
    found = np.zeros(shape)
    for row, counts in zip(found, values, strict=True):
        known = list(counts or [])[: shape[1]]
        row[: len(known)] = known
    return found


def _passes(evidence: Evidence, facts: Sequence[Mapping[str, Any]]) -> float | None:
    """How often the whole gradient was exchanged by the rank that did it most; None where no log was kept."""
    if any("comm" not in fact for fact in facts):
        return None
    size = sum(evidence.numels[name] for name in evidence.names)
    moved = [sum(c["numel"] for c in fact["comm"] if c["phase"] in _REDUCING) for fact in facts]
    return max(moved) / size if size else None


def shares_add_up(scene: Scene) -> bool:
    """Whether every rank has the sum of all shares, each weighing 1, so that the reduction is right."""
    return scene.evidence.judge([[scene.everything] * scene.world], [1.0], scene.names).fits


def shares_make_single(scene: Scene) -> bool:
    """Whether the shares of all ranks add up to the gradient of one process; false where none are recorded."""
    evidence = scene.evidence
    rest = evidence.single() - scene.everything
    return evidence.has_local and all(evidence.norm(rest, [name]) <= evidence.allowed[name] for name in scene.names)


def share_weights(scene: Scene) -> Iterator[tuple[str, FloatArray]]:
    """The weights that shares get when only ranks, or only micro-batches, are averaged equally.

    They are the same for all components of the loss, or else they are left out.
    """
    counts = [n for n in scene.terms.values() if n.shape == (scene.world, scene.micro) and (n > 0).all()]
    if not counts:
        return
    by_rank = [n.sum() / (scene.world * n.sum(axis=1, keepdims=True)) * np.ones_like(n) for n in counts]
    by_micro = [n.sum(axis=1, keepdims=True) / (scene.micro * n) for n in counts]
    for level, options in (("ranks", by_rank), ("micro-batches", by_micro)):
        if all(np.allclose(options[0], other) for other in options) and not np.allclose(options[0], 1):
            yield level, options[0]
