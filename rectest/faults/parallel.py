"""Faults and controls of data-parallel training: every way in which report 003 combines gradients, really measured.

The report's headline, gradients reduced twice, is here as a control, in the reading of its text and in the form of
its code: both give exactly the gradient of one process. Its repair is here as a fault, and so are the classics. A row
is measured on real processes, for any system; the table is what the report should have looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.checks.gradients import Apart, whole_apart
from rectest.checks.parity import gradient_parity, replicas_equal
from rectest.checks.result import CheckResult
from rectest.record import RunRecord, RunSpec
from rectest.systems.gram_c.runner import PLAIN, REPORT_003, Reduction
from rectest.training.launch import Launch
from rectest.training.ranks import RanksJob, run_jobs, run_ranks

__all__ = ["VARIANTS", "ParallelRow", "Variant", "judge_variant", "parallel_table"]

_ACCUMULATION = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One way of training on several ranks, right or wrong."""

    name: str
    about: str
    """One sentence: what is done, and why it is right or wrong."""

    reduction: Reduction
    turns_red: tuple[str, ...] = ()
    """The checks that must fail, each of them; none for a control, on which all must stay green."""

    num_micro: int | None = None
    """Micro-batches that each step really has, where that is not what the reduction is configured for."""

    own_init: bool = False
    uneven: bool = False
    """Whether the first rank gets three times as many rows as each of the others."""

    @property
    def is_control(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.turns_red

    def job(self, world_size: int) -> RanksJob:
        """What the ranks do."""
        shares = (3, *[1] * (world_size - 1)) if self.uneven else None
        return RanksJob(reduction=self.reduction, num_micro=self.num_micro, own_init=self.own_init, shares=shares)


_GRADIENT = ("parity/gradient",)
_SCALE = ("parity/gradient", "parity/scale")
_DIRECTION = ("parity/gradient", "parity/direction")

VARIANTS = (
    Variant(name="ddp", about="Plain DistributedDataParallel, as documented.", reduction=PLAIN),
    Variant(
        name="ddp_divided_sum",
        about="Report 003 as its text reads: DDP averages, the loss is divided by W, a manual SUM multiplies by W.",
        reduction=Reduction(divide_loss_by_world=True, manual_reduce="sum"),
    ),
    Variant(
        name="report_003",
        about="Report 003 as its code runs: .module never averages, so loss / W and one manual SUM are the average.",
        reduction=REPORT_003,
    ),
    Variant(
        name="ddp_redundant_mean",
        about="A manual average after DDP's own: all ranks have the same gradient already.",
        reduction=Reduction(manual_reduce="mean"),
    ),
    Variant(
        name="accumulation",
        about="DDP without synchronisation but at the last micro-batch.",
        reduction=Reduction(accumulation=_ACCUMULATION),
    ),
    Variant(
        name="accumulation_synchronised",
        about="DDP synchronises after every micro-batch: slower, and the same, since an average of averages is one.",
        reduction=Reduction(accumulation=_ACCUMULATION, reduce_every="micro_step"),
    ),
    Variant(
        name="report_003_accumulation",
        about="Report 003's code with accumulation: its SUM stands outside the loop over micro-batches.",
        reduction=Reduction(
            forward="module", divide_loss_by_world=True, manual_reduce="sum", accumulation=_ACCUMULATION
        ),
    ),
    Variant(
        name="tail_counted",
        about="The last step of an epoch has fewer micro-batches, and is divided by as many.",
        reduction=Reduction(accumulation=_ACCUMULATION),
        num_micro=_ACCUMULATION - 1,
    ),
    Variant(
        name="own_init_broadcast",
        about="Each rank draws other first weights, and DDP replaces them by those of the first rank.",
        reduction=PLAIN,
        own_init=True,
    ),
    Variant(
        name="uneven_shares",
        about="Ranks have different numbers of rows, and each weighs by its loss terms.",
        reduction=PLAIN,
        uneven=True,
    ),
    Variant(
        name="loss_over_world",
        about="The loss is divided by W although DDP averages: the learning rate is divided by W.",
        reduction=Reduction(divide_loss_by_world=True),
        turns_red=_SCALE,
    ),
    Variant(
        name="ddp_sum",
        about="A manual SUM after DDP's average: W times the gradient.",
        reduction=Reduction(manual_reduce="sum"),
        turns_red=_SCALE,
    ),
    Variant(
        name="module_sum",
        about="A manual SUM of gradients whose loss was not divided: W times the gradient.",
        reduction=Reduction(forward="module", manual_reduce="sum"),
        turns_red=_SCALE,
    ),
    Variant(
        name="never_reduced",
        about="Report 003's repair: no division, no SUM, but still .module, so that every rank trains its own model.",
        reduction=Reduction(forward="module"),
        turns_red=(*_DIRECTION, "parity/replicas"),
    ),
    Variant(
        name="reduced_inside_accumulation",
        about="The SUM moved into the loop over micro-batches: earlier ones are summed again at each.",
        reduction=Reduction(
            forward="module",
            divide_loss_by_world=True,
            manual_reduce="sum",
            accumulation=_ACCUMULATION,
            reduce_every="micro_step",
        ),
        turns_red=(*_SCALE, "parity/direction"),
    ),
    Variant(
        name="tail_by_full_count",
        about="The last step of an epoch has fewer micro-batches, and is divided by the configured number.",
        reduction=Reduction(accumulation=_ACCUMULATION, divide_by="configured"),
        num_micro=_ACCUMULATION - 1,
        turns_red=_SCALE,
    ),
    Variant(
        name="replicas_start_apart",
        about="No DDP: each rank draws other first weights, and only gradients are averaged.",
        reduction=Reduction(forward="bare", manual_reduce="mean"),
        own_init=True,
        turns_red=(*_GRADIENT, "parity/replicas"),
    ),
    Variant(
        name="uneven_shares_unweighed",
        about="Ranks have different numbers of rows, and all weigh the same.",
        reduction=Reduction(weigh_shares=False),
        uneven=True,
        turns_red=_DIRECTION,
    ),
)
"""Controls first, then faults."""


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
        """``green`` (a control that passes), ``caught``, ``HOLE`` or ``ALARM``."""
        if self.variant.is_control:
            return "ALARM" if self.false_alarms else "green"
        return "HOLE" if self.holes else "caught"

    @property
    def cause(self) -> str:
        """What the checks take for the reason; empty where nothing is red."""
        return next((result.detail for result in self.results if result.red), "")

    def cells(self) -> list[str]:
        """The row as text: name, ranks, scale, cosine, relative error, whether replicas agree, verdict."""
        agree = "yes" if self.replicas_agree else "NO"
        figures = [f"{self.scale:.4g}", f"{self.cosine:.4f}", f"{self.error:.2g}"]
        return [self.variant.name, str(self.world_size), *figures, agree, self.verdict]


def judge_variant(variant: Variant, single: RunRecord, ranks: Sequence[RunRecord]) -> ParallelRow:
    """Every parity check on the records of one variant."""
    results = (*gradient_parity(single, ranks), *replicas_equal(ranks))
    apart: Apart = max((_apart(single, record) for record in ranks), key=lambda found: found.error)
    return ParallelRow(
        variant=variant,
        system=single.spec.system,
        world_size=len(ranks),
        scale=apart.scale,
        cosine=apart.cosine,
        error=apart.error,
        replicas_agree=not any(result.red for result in results if result.check == "parity/replicas"),
        results=results,
    )


def _apart(single: RunRecord, rank: RunRecord) -> Apart:
    return whole_apart(_gradients(single), _gradients(rank))


def _gradients(record: RunRecord) -> dict[str, npt.NDArray[np.float64]]:
    return {name: record[f"grad/{name}"].astype(np.float64) for name in record.names("grad/")}


def parallel_table(
    system: str | RunSpec,
    world_sizes: Sequence[int] = (2, 4),
    *,
    variants: Sequence[Variant] = VARIANTS,
    how: Launch | None = None,
) -> list[ParallelRow]:
    """Measure variants of training `system` on each number of ranks, against one process on the same batch.

    One group of processes is started for each number of ranks, and one process alone.

    Args:
        system: a registered name, or a spec with other settings, world, seed or device.

    Raises:
        ChildFailed: a rank raised, died or hung.
    """
    spec = RunSpec(system=system) if isinstance(system, str) else system
    single = run_ranks(spec, world_size=1, how=how).records[0]
    rows = []
    for world_size in world_sizes:
        jobs = {variant.name: variant.job(world_size) for variant in variants}
        outcomes = run_jobs(spec, jobs, world_size=world_size, how=how)
        rows += [judge_variant(variant, single, outcomes[variant.name].records) for variant in variants]
    return rows
