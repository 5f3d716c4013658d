"""Data-parallel training measured: every variant on real processes, against one process on the same batch.

What the variants are is in `rectest.faults.variants`. A row is the measurement of one of them: scale and cosine of the
net gradient, whether replicas agree, which checks are red, which cause is named. The table is what report 003 should
have looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rectest.checks.cause import Cause, find_cause
from rectest.checks.decomposition import gradients_of
from rectest.checks.gradients import whole_apart
from rectest.checks.parity import gradient_parity
from rectest.checks.replicas import replicas_equal
from rectest.checks.result import CheckResult
from rectest.checks.shares import shares_make_the_batch
from rectest.faults.variants import Variant, variants_of
from rectest.record import RunRecord, RunSpec
from rectest.systems.parallel import PARALLEL_CONFIG
from rectest.training.launch import Launch
from rectest.training.ranks import RanksJob, run_jobs

__all__ = ["COLUMNS", "ParallelRow", "judge_variant", "parallel_markdown", "parallel_spec", "parallel_table"]

COLUMNS = ("variant", "system", "ranks", "scale", "cosine", "error", "replicas agree", "cause", "verdict")
"""What `ParallelRow.cells` holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelRow:
    """One variant on one number of ranks, measured and judged."""

    variant: Variant
    system: str
    world_size: int
    scale: float
    """The factor of the right gradient that fits best, on the rank where the error is largest; 1 is right."""

    cosine: float
    error: float
    """Relative error of the whole gradient."""

    replicas_agree: bool
    cause: Cause
    results: tuple[CheckResult, ...]

    @property
    def caught_by(self) -> list[str]:
        """The checks that are red."""
        return [result.check for result in self.results if result.red]

    @property
    def holes(self) -> list[str]:
        """Checks that should have been red."""
        return [check for check in self.variant.turns_red if check not in self.caught_by]

    @property
    def false_alarms(self) -> list[str]:
        """What is red on a control."""
        return self.caught_by if self.variant.is_control else []

    @property
    def verdict(self) -> str:
        """``green`` (a control that passes), ``caught``, or what is wrong: ``HOLE``, ``ALARM``, ``CAUSE``."""
        if self.holes:
            return "HOLE"
        if self.false_alarms:
            return "ALARM"
        if self.cause.name != self.variant.cause:
            return "CAUSE"
        return "green" if self.variant.is_control else "caught"

    def cells(self) -> list[str]:
        """The row as text, in the order of `COLUMNS`."""
        agree = "yes" if self.replicas_agree else "NO"
        figures = [f"{self.scale:.4g}", f"{self.cosine:.4f}", f"{self.error:.2g}"]
        where = [self.variant.name, self.system, str(self.world_size)]
        return [*where, *figures, agree, self.cause.name, self.verdict]


def judge_variant(variant: Variant, single: RunRecord, ranks: Sequence[RunRecord]) -> ParallelRow:
    """Every parity check on the records of one variant."""
    results = (*gradient_parity(single, ranks), *shares_make_the_batch(single, ranks), *replicas_equal(ranks))
    right = gradients_of(single)
    apart = max((whole_apart(right, gradients_of(record)) for record in ranks), key=lambda found: found.error)
    return ParallelRow(
        variant=variant,
        system=single.spec.system,
        world_size=len(ranks),
        scale=apart.scale,
        cosine=apart.cosine,
        error=apart.error,
        replicas_agree=not any(result.red for result in results if result.check == "parity/replicas"),
        cause=find_cause(single, ranks),
        results=results,
    )


def parallel_spec(system: str, **changes: object) -> RunSpec:
    """The spec of a system in which every component of the loss trains from the first step on."""
    return RunSpec(system=system, config=PARALLEL_CONFIG.get(system, {})).with_(**changes)


def parallel_table(
    system: str | RunSpec,
    world_sizes: Sequence[int] = (2, 4),
    *,
    variants: Sequence[Variant] | None = None,
    backend: str = "gloo",
    how: Launch | None = None,
) -> list[ParallelRow]:
    """Measure variants of training `system` on each number of ranks, against one process on the same batch.

    One group of processes is started for each number of ranks, and one for the processes alone.

    Args:
        system: a registered name, or a spec with other settings, world, seed or device.
        variants: all that apply to the system by default.
        backend: gloo, which also serves ranks that share a GPU and sparse gradients; or nccl, which does neither.

    Raises:
        ChildFailed: a rank raised, died or hung.
    """
    spec = parallel_spec(system) if isinstance(system, str) else system
    name = _short(spec.system)
    variants = variants_of(name) if variants is None else variants
    alone = {_key(variant.job): variant.job.alone() for variant in variants}
    singles = run_jobs(spec, alone, world_size=1, backend=backend, how=how)
    rows = []
    for world_size in world_sizes:
        jobs = {variant.name: variant.job_for(name, world_size) for variant in variants}
        outcomes = run_jobs(spec, jobs, world_size=world_size, backend=backend, how=how)
        for variant in variants:
            (single,) = singles[_key(variant.job)].records
            rows.append(judge_variant(variant, single, outcomes[variant.name].records))
    return rows


def _short(system: str) -> str:
    """``toy`` for ``package.toy:ToySystem``, which has its table by that name."""
    return system.partition(":")[0].rpartition(".")[2]


def _key(job: RanksJob) -> str:
    """What one process alone needs to know of a job."""
    return f"{job.plant} {job.sparse} {job.optimizer} {job.dropout} {job.num_steps}"


def parallel_markdown(rows: Iterable[ParallelRow]) -> str:
    """The table for documents: a row for each variant, with scale and cosine for each number of ranks.

    Figures are those of the first system that was measured; the others are counted.
    """
    by_variant: dict[str, list[ParallelRow]] = {}
    for row in rows:
        by_variant.setdefault(row.variant.name, []).append(row)
    sizes = sorted({row.world_size for found in by_variant.values() for row in found})
    head = ["variant", *(f"scale, cosine on {size}" for size in sizes), "cause that is named", "seen in"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, found in by_variant.items():
        shown = {row.world_size: row for row in found if row.system == found[0].system}
        figures = [_figures(shown, size) for size in sizes]
        lines.append("| " + " | ".join([f"`{name}`", *figures, f"`{found[0].cause.name}`", _seen(found)]) + " |")
    return "\n".join(lines)


def _figures(shown: Mapping[int, ParallelRow], size: int) -> str:
    row = shown.get(size)
    return "" if row is None else f"{row.scale:.3g}, {row.cosine:.3f}"


def _seen(found: Sequence[ParallelRow]) -> str:
    """How many systems gave the expected verdict, and which did not."""
    wrong = sorted({row.system for row in found if row.verdict.isupper()})
    num = len({row.system for row in found})
    return f"{num - len(wrong)} of {num} systems" + (f", not in {', '.join(wrong)}" if wrong else "")
