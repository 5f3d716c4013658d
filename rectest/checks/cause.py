"""The cause of a wrong gradient, measured: what each rank's gradient is made of says how it was combined.

Nothing is judged by the look of code: two wrongs can cancel, and then the gradient is right. Causes are tried in this
order, and the first that holds is named, since each makes those after it meaningless or merely follows from it:

1. the loss is random: nothing can be compared;
2. the gradient is right, whatever was done to it;
3. replicas start apart: all gradients are of different models;
4. ranks train on other samples, or other negatives, than one process (only where the shares do not add up to S);
5. parameters without a gradient on every rank are named if the rest is right, else mentioned;
6. the loss sums over rows where a mean was promised, or one factor explains all parameters: scale, never reduced (or
   only the first micro-batches), wrong weights, wiped, reduced inside, a rank ignored;
7. one factor explains those parameters that are off, while the others are right, or each has a factor of its own
   (a hook on a parameter acts on its shares too, so this comes before the next);
8. the reduction is right (every share weighs 1), but the shares do not add up: the forward pass couples rows of
   different ranks, by gathered rows without gradient, by buffers, or otherwise;
9. a factor for each micro-batch or rank explains all, then those that are off;
10. single rows of tables are off; else the cause is unknown, and the measured numbers are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rectest.checks.decomposition import RANDOM_LOSS, Evidence, evidence_of, parallel_facts, unusable
from rectest.checks.gradients import UNIT_ROUNDOFF
from rectest.checks.hypotheses import choose, factor_text, one_factor
from rectest.checks.replicas import buffers_apart, built_apart, start_apart
from rectest.checks.result import count_of, sample
from rectest.checks.rows import RowsApart, table_rows
from rectest.checks.scene import Scene, reduction_of, rows_exchanged, scene_of, shares_add_up, shares_make_single
from rectest.checks.shares import compare_shares
from rectest.checks.weights import Candidate, several_factors
from rectest.record import RunRecord

__all__ = ["CAUSES", "Cause", "find_cause", "measured"]

CAUSES = (
    "right",
    "random_loss",
    "replicas_apart",
    "wrong_rows",
    "negatives_apart",
    "frozen_or_unused",
    "loss_is_a_sum",
    "summed_not_averaged",
    "divided_by_world",
    "accumulation_divisor",
    "never_reduced",
    "uneven_shards",
    "mean_of_means",
    "accumulation_wiped",
    "reduced_inside_accumulation",
    "rank_ignored",
    "clipped_before_reduction",
    "gathered_detached",
    "buffers_not_shared",
    "rows_coupled",
    "table_scaled",
    "rows_apart",
    "unknown",
)
"""Every name that a `Cause` can have."""

_FORWARD = ("loss_is_a_sum", "gathered_detached", "buffers_not_shared", "rows_coupled", "rows_apart", "unknown")
"""Causes whose sentence says already whether the shares add up, or does not depend on it."""

_COARSE = 4 * UNIT_ROUNDOFF["bfloat16"]
"""Relative error up to which computing in bfloat16 may be the reason."""

_SEVERAL = 1.5
"""Reductions of the whole gradient above which there is more than one: buckets and losses make it a fraction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """Why the ranks have the gradient they have."""

    name: str
    """One of `CAUSES`."""

    sentence: str
    """What was measured, in words and numbers."""

    parameters: tuple[str, ...] = ()
    """The parameters it is about; empty for all of them."""

    def __post_init__(self) -> None:
        if self.name not in CAUSES:
            msg = f"a cause must be one of {', '.join(CAUSES)}, got {self.name!r}"
            raise ValueError(msg)

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return self.name == "right"


def find_cause(
    single: RunRecord, ranks: Sequence[RunRecord], *, dtype: str | None = None, evidence: Evidence | None = None
) -> Cause:
    """Why the first gradients of the ranks are what they are, compared with those of one process.

    Gradients that cannot be compared (missing, not finite, all zero) have an unknown cause, which says so.

    Args:
        dtype: what gradients are computed in; by default what the records say.
        evidence: inner products of these records, where they are known already.
    """
    if problem := unusable(single, ranks):
        return Cause(name="random_loss" if problem == RANDOM_LOSS else "unknown", sentence=problem)
    evidence = evidence or evidence_of(single, ranks, dtype=dtype)
    rows = table_rows(single, ranks, limit=evidence.limit)
    scene, red = scene_of(evidence, ranks), _red(evidence)
    if not red and not any(table.red.any() for table in rows):
        return Cause(name="right", sentence=_why_right(scene, ranks))
    return _before_gradients(single, ranks, scene) or _of_gradients(scene, red, ranks, rows)


def measured(single: RunRecord, ranks: Sequence[RunRecord], *, dtype: str | None = None) -> dict[str, Any]:
    """Figures for a table: ``scale``, ``cosine``, ``error`` of the rank that is farthest off, and ``coefficients``.

    ``coefficients`` [W][A] are the weights of all shares in that rank's gradient, rounded; right is 1 everywhere. It
    is empty where no shares are recorded or they depend on one another, and ``residual`` says what they leave over.
    """
    evidence = evidence_of(single, ranks, dtype=dtype)
    one = evidence.norm(evidence.single())
    errors = [evidence.norm(evidence.net(r) - evidence.single()) / one if one else np.inf for r in range(len(ranks))]
    rank = int(np.argmax(errors))
    norm = evidence.norm(evidence.net(rank))
    product = (one**2 + norm**2 - evidence.norm(evidence.net(rank) - evidence.single()) ** 2) / 2
    coefficients, residual = _coefficients(evidence, rank)
    return {
        "scale": product / one**2 if one else np.inf,
        "cosine": product / (one * norm) if one and norm else 0.0,
        "error": errors[rank],
        "rank": rank,
        "coefficients": coefficients,
        "residual": residual,
    }


def _coefficients(evidence: Evidence, rank: int) -> tuple[list[list[float]], float]:
    """The weight of each share in one rank's gradient, and what they leave over, relative to it."""
    places = [(r, j) for r in range(evidence.world_size) for j in range(evidence.num_micro)]
    bases = [[evidence.share(*place)] * evidence.world_size for place in places]
    fit = evidence.fit(bases, evidence.names, ranks=[rank])
    if not evidence.has_local or not fit.determined:
        return [], fit.residual
    return np.round(fit.coefficients, 6).reshape(evidence.world_size, -1).tolist(), fit.residual


def _red(evidence: Evidence) -> tuple[str, ...]:
    """Parameters whose gradient is wrong on a rank."""
    off = []
    for name in evidence.names:
        errors = [evidence.norm(evidence.net(r) - evidence.single(), [name]) for r in range(evidence.world_size)]
        if max(errors) > evidence.allowed[name]:
            off.append(name)
    return tuple(off)


def _why_right(scene: Scene, ranks: Sequence[RunRecord]) -> str:
    reduction = reduction_of(ranks)
    text = "the gradient is right"
    if scene.passes is not None and scene.world > 1 and scene.passes > _SEVERAL:
        return f"{text}: its {scene.passes:.3g} reductions, with what is divided on the way, cancel to one average"
    if scene.world > 1 and reduction.get("divide_loss_by_world") and reduction.get("manual_reduce") == "sum":
        return f"{text}: the division by the number of ranks and the sum over them cancel to one average"
    return text


def _before_gradients(single: RunRecord, ranks: Sequence[RunRecord], scene: Scene) -> Cause | None:
    """What makes gradients incomparable or samples wrong, whatever is done with them afterwards."""
    if apart := start_apart(ranks):
        how = "built differently and never broadcast" if built_apart(ranks) else "made different before the first step"
        text = (
            f"the replicas start with different weights, so their gradients are of different models: "
            f"{sample(apart, limit=3)} (tensors: {len(apart)}), {how}"
        )
        return Cause(name="replicas_apart", sentence=text)
    shares = compare_shares(single, ranks)
    if not shares.num_rows or not shares.num_shared_out or shares_make_single(scene):
        return None
    if shares.wrong_rows:
        return Cause(name="wrong_rows", sentence=shares.sentence)
    return Cause(name="negatives_apart", sentence=shares.sentence) if shares.negatives_apart else None


def _of_gradients(scene: Scene, red: tuple[str, ...], ranks: Sequence[RunRecord], rows: Sequence[RowsApart]) -> Cause:
    """Steps 5 to 10 of the order above."""
    evidence = scene.evidence
    gone = tuple(n for n in red if all(evidence.norm(evidence.net(r), [n]) == 0 for r in range(scene.world)))
    if gone and gone == red:
        return Cause(name="frozen_or_unused", sentence=_gone_text(gone, ranks), parameters=gone)
    off = tuple(n for n in red if n not in gone)
    rest = replace(scene, names=tuple(n for n in scene.names if n not in gone))
    found = _combined(rest, off, ranks, rows) if off else _rows_apart([table for table in rows if table.red.any()])
    besides = [_gone_text(gone, ranks)] if gone else []
    if found.name not in _FORWARD and off and evidence.has_local and not shares_make_single(rest):
        besides.append(f"the shares of the ranks do not add up to the gradient of one process ({_off_by(rest)})")
    return replace(found, sentence="; besides, ".join([found.sentence, *besides]))


def _gone_text(gone: Sequence[str], ranks: Sequence[RunRecord]) -> str:
    frozen = {name for record in ranks for name in parallel_facts(record).get("frozen") or []}
    why = "frozen there" if set(gone) <= frozen else "unused or cut off there"
    return f"a gradient in one process and none on any rank: {sample(gone)} ({why}; parameters: {len(gone)})"


def _off_by(scene: Scene) -> str:
    """How far the sum of shares is from the gradient of one process."""
    return f"relative error {_error_of_shares(scene):.3g}"


def _error_of_shares(scene: Scene) -> float:
    right = scene.evidence.single()
    return scene.evidence.norm(right - scene.everything, scene.names) / scene.evidence.norm(right, scene.names)


def _combined(scene: Scene, off: tuple[str, ...], ranks: Sequence[RunRecord], rows: Sequence[RowsApart]) -> Cause:
    """Steps 6 to 10: what was done to the gradients, first of all parameters, then of those that are `off`."""
    if summed := _sum_of_rows(scene):
        return summed
    if whole := choose(one_factor(scene), scene):
        return Cause(name=whole.name, sentence=whole.sentence)
    part = replace(scene, names=off, passes=None)  # the log does not say what was reduced, only how much
    is_part = off != scene.names and sum(scene.evidence.numels[name] for name in off) > 1
    if is_part and (found := choose(one_factor(part), part)):
        return _of_part(part, found)
    if scaled := _each_scaled(scene):
        return scaled
    if scene.evidence.has_local and shares_add_up(scene):
        return _coupled(scene, ranks)
    if several := several_factors(scene):
        return Cause(name=several.name, sentence=several.sentence)
    if is_part and (several := several_factors(part)):
        return _of_part(part, several)
    tables = [table for table in rows if table.name in off]
    if len(tables) == len(off) and all((table.judged & ~table.red).any() for table in tables):
        return _rows_apart(tables)
    return _unknown(scene)


def _sum_of_rows(scene: Scene) -> Cause | None:
    """The unweighed shares of a sum over rows add up to the whole divided by their number."""
    evidence, num_shares = scene.evidence, scene.world * scene.micro
    ones = np.ones((scene.world, scene.micro))
    rest = evidence.weighed(ones, equal=evidence.has_equal) - evidence.single() / num_shares
    near = all(evidence.norm(rest, [name]) <= evidence.allowed[name] / num_shares for name in scene.names)
    if num_shares == 1 or not evidence.has_local or not near:
        return None
    text = (
        f"each of {num_shares} shares has the whole gradient of its rows, not its part of a mean: the loss is a sum "
        f"over rows where a mean was promised, so that the average of shares is 1/{num_shares} of it"
    )
    return Cause(name="loss_is_a_sum", sentence=text)


def _coupled(scene: Scene, ranks: Sequence[RunRecord]) -> Cause:
    """Every share weighs 1, but they do not add up: the forward pass of the whole batch is another than theirs."""
    text = f"every share weighs 1, but they do not add up to the gradient of one process ({_off_by(scene)})"
    if gathers := rows_exchanged(scene, ranks):
        why = (
            f"{len(gathers)} exchanges in the forward pass ({sample(dict.fromkeys(gathers))}) bring rows of other ranks"
        )
        return Cause(name="gathered_detached", sentence=f"{text}: {why}, but their gradient does not come back")
    if apart := buffers_apart(ranks):
        why = f"each rank normalises by statistics of its own rows, and keeps its own {sample(apart, limit=3)}"
        return Cause(name="buffers_not_shared", sentence=f"{text}: {why}")
    why = "the loss or a layer couples the rows of a batch, such as in-batch negatives or normalisation over the batch"
    why += f", and ranks see only their own rows{_or_rounded(_error_of_shares(scene))}"
    return Cause(name="rows_coupled", sentence=f"{text}: {why}")


def _or_rounded(error: float) -> str:
    """What else leaves an error so small, as the end of a sentence; nobody records what autocast computes in."""
    if error > _COARSE:
        return ""
    what = "rounding of a coarser type (autocast, a compressing hook)"
    return f"; or it is {what}: if that is meant, name the type, e.g. dtype='bfloat16'"


def _of_part(part: Scene, found: Candidate) -> Cause:
    names = f"{sample(part.names, limit=3)} ({len(part.names)} of {len(part.evidence.names)} parameters)"
    if found.is_scale:
        text = f"{names} has {factor_text(found.factor, part)} its gradient, the rest of the model 1"
        return Cause(name="table_scaled", sentence=text, parameters=part.names)
    return Cause(name=found.name, sentence=f"only {names}: {found.sentence}", parameters=part.names)


def _each_scaled(scene: Scene) -> Cause | None:
    """Every parameter has its right direction, but they have different factors."""
    single = [scene.evidence.single()] * scene.world
    fits = {name: scene.evidence.fit([single], [name]) for name in scene.names if scene.evidence.numels[name] > 1}
    if len(fits) < 2 or not all(fit.fits for fit in fits.values()):
        return None
    factors = {name: factor_text(fit.coefficients[0], scene) for name, fit in fits.items()}
    groups = {text: [n for n in factors if factors[n] == text] for text in dict.fromkeys(factors.values())}
    texts = "; ".join(f"{sample(names, limit=3)} {text}" for text, names in groups.items())
    return Cause(name="table_scaled", sentence=f"parameters have factors of their own: {texts}", parameters=scene.names)


def _rows_apart(tables: Sequence[RowsApart]) -> Cause:
    """Single rows are off; whether they are those that several ranks hold is measured."""
    texts = []
    for table in tables:
        red, held = table.red, table.holders.sum(axis=0)
        rows = np.flatnonzero(red)
        text = f"{count_of(len(rows), int((~table.absent).sum()) or len(red), 'rows')} of {table.name} ({sample(rows)})"
        if (held[red] > 1).all() and (held[~red & ~table.absent] == 1).any() and not (red & (held == 1)).any():
            text += ", each of them in the shares of several ranks, and no row that one rank holds alone"
        elif table.absent[red].all():
            text += ", each of them absent from the batch"
        texts.append(text)
    names = tuple(table.name for table in tables)
    return Cause(name="rows_apart", sentence=f"only single rows are off: {'; '.join(texts)}", parameters=names)


def _unknown(scene: Scene) -> Cause:
    evidence = scene.evidence
    errors = [evidence.norm(evidence.net(r) - evidence.single(), scene.names) for r in range(scene.world)]
    rank = int(np.argmax(errors))
    error = errors[rank] / evidence.norm(evidence.single(), scene.names)
    coefficients, residual = _coefficients(evidence, rank)
    weights = f"on rank {rank} the shares weigh {coefficients}" if coefficients else "weights of shares are not known"
    if evidence.has_local and not coefficients:
        weights = "the shares depend on one another, so that their weights cannot be told apart"
    text = f"no known cause explains the gradient (relative error {error:.3g}): {weights}, which leaves {residual:.3g}"
    text += _or_rounded(error)
    return Cause(name="unknown", sentence=text)
