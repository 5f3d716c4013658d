"""Ways of training on several ranks, right and wrong: the controls and the faults of `rectest.faults.parallel`.

Report 003's headline, gradients reduced twice, is here as a control, in the reading of its text and in the form of
its code: both give exactly the gradient of one process. Its repair is here as a fault, and so are the classics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rectest.training.ranks import RanksJob
from rectest.training.reduction import REPORT_003, Reduction

__all__ = ["TABLES", "VARIANTS", "Variant", "variants_of"]

_ACCUMULATION = 4
_COUPLED = "rectest.faults.coupled:"
_PLANTED = ("adaptive_sasrec", "comirec")

TABLES = {
    "adaptive_sasrec": "item_embedding.weight",
    "comirec": "item.weight",
    "gear": "item_embedding.weight",
    "gram_c": "token_embedding.weight",
    "ur4rec": "sasrec.item_embedding.weight",
    "toy": "last.weight",
}
"""By system, the table that is treated apart where one is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One way of training on several ranks, right or wrong."""

    name: str
    about: str
    """One sentence: what is done, and why it is right or wrong."""

    job: RanksJob
    cause: str = "right"
    """The cause that must be named, one of `rectest.checks.cause`; ``right`` for a control."""

    turns_red: tuple[str, ...] = ()
    """The checks that must fail, each of them; none for a control, on which all must stay green."""

    uneven: bool = False
    """Whether the first rank gets three times as many rows as each of the others."""

    table_apart: bool = False
    """Whether the reduction leaves out the system's table of `TABLES`."""

    systems: tuple[str, ...] = ()
    """The systems in which this can be planted; empty for all."""

    @property
    def is_control(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.turns_red

    def job_for(self, system: str, world_size: int) -> RanksJob:
        """What the ranks do."""
        job = replace(self.job, shares=(3, *[1] * (world_size - 1))) if self.uneven else self.job
        if self.table_apart:
            job = replace(job, reduction=replace(job.reduction, not_reduced=(TABLES[system],)))
        return job


def variants_of(system: str) -> tuple[Variant, ...]:
    """The variants that apply to a system."""
    return tuple(variant for variant in VARIANTS if not variant.systems or system in variant.systems)


_GRADIENT = ("parity/gradient",)
_SCALE = ("parity/gradient", "parity/scale")
_DIRECTION = ("parity/gradient", "parity/direction")
_APART = (*_DIRECTION, "parity/replicas")
_UNEVEN_TERMS = ("adaptive_sasrec", "gear", "ur4rec")


def _reduced(**settings: object) -> RanksJob:
    return RanksJob(reduction=Reduction(**settings))  # type: ignore[arg-type]


_CONTROLS = (
    Variant(name="ddp", about="Plain DistributedDataParallel, as documented.", job=RanksJob()),
    Variant(
        name="all_reduce",
        about="No DDP: one manual average of every gradient, from the same first weights.",
        job=_reduced(forward="bare", manual_reduce="mean"),
    ),
    Variant(
        name="ddp_divided_sum",
        about="Report 003 as its text reads: DDP averages, the loss is divided by W, a manual SUM multiplies by W.",
        job=_reduced(divide_loss_by_world=True, manual_reduce="sum"),
    ),
    Variant(
        name="report_003",
        about="Report 003 as its code runs: .module never averages, so loss / W and one manual SUM are the average.",
        job=RanksJob(reduction=REPORT_003),
    ),
    Variant(
        name="ddp_redundant_mean",
        about="A manual average after DDP's own: all ranks have the same gradient already.",
        job=_reduced(manual_reduce="mean"),
    ),
    Variant(
        name="accumulation",
        about="DDP without synchronisation but at the last micro-batch.",
        job=_reduced(accumulation=_ACCUMULATION),
    ),
    Variant(
        name="accumulation_synchronised",
        about="DDP synchronises after every micro-batch: slower, and the same, since an average of averages is one.",
        job=_reduced(accumulation=_ACCUMULATION, reduce_every="micro_step"),
    ),
    Variant(
        name="report_003_accumulation",
        about="Report 003's code with accumulation: its SUM stands outside the loop over micro-batches.",
        job=RanksJob(reduction=replace(REPORT_003, accumulation=_ACCUMULATION)),
    ),
    Variant(
        name="tail_counted",
        about="The last step of an epoch has fewer micro-batches, and is divided by as many.",
        job=RanksJob(reduction=Reduction(accumulation=_ACCUMULATION), num_micro=_ACCUMULATION - 1),
    ),
    Variant(
        name="own_init_broadcast",
        about="Each rank draws other first weights, and DDP replaces them by those of the first rank.",
        job=RanksJob(own_init=True),
    ),
    Variant(
        name="uneven_shares",
        about="Ranks have different numbers of rows, and each weighs by its loss terms.",
        job=RanksJob(),
        uneven=True,
    ),
    Variant(
        name="sparse_tables",
        about="Tables that are only looked up get sparse gradients, of shares of different size, accumulated.",
        job=RanksJob(reduction=Reduction(accumulation=2), sparse=True, optimizer="sgd"),
        uneven=True,
    ),
    Variant(
        name="clipped_after",
        about="The reduced gradient is clipped, by the same factor everywhere; parity looks before that.",
        job=_reduced(clip_norm=1e-3),
    ),
    Variant(
        name="in_batch_gathered",
        about="Items of all ranks are each other's negatives, gathered with their gradient.",
        job=RanksJob(plant=_COUPLED + "in_batch_gathered"),
        systems=_PLANTED,
    ),
    Variant(
        name="table_times_one",
        about="One table's gradient passes through a hook that multiplies by 1.",
        job=RanksJob(plant=_COUPLED + "table_times_one"),
        systems=_PLANTED,
    ),
    Variant(
        name="batch_norm_synchronised",
        about="Batch normalisation over the rows of all ranks.",
        job=RanksJob(plant=_COUPLED + "batch_norm_synchronised"),
        systems=_PLANTED,
    ),
)

_FAULTS = (
    Variant(
        name="loss_over_world",
        about="The loss is divided by W although DDP averages: the learning rate is divided by W.",
        job=_reduced(divide_loss_by_world=True),
        cause="divided_by_world",
        turns_red=_SCALE,
    ),
    Variant(
        name="ddp_sum",
        about="A manual SUM after DDP's average: W times the gradient.",
        job=_reduced(manual_reduce="sum"),
        cause="summed_not_averaged",
        turns_red=_SCALE,
    ),
    Variant(
        name="module_sum",
        about="A manual SUM of gradients whose loss was not divided: W times the gradient.",
        job=_reduced(forward="module", manual_reduce="sum"),
        cause="summed_not_averaged",
        turns_red=_SCALE,
    ),
    Variant(
        name="never_reduced",
        about="Report 003's repair: no division, no SUM, but still .module, so that every rank trains its own model.",
        job=_reduced(forward="module"),
        cause="never_reduced",
        turns_red=_APART,
    ),
    Variant(
        name="table_never_reduced",
        about="The manual average leaves out one table.",
        job=_reduced(forward="bare", manual_reduce="mean"),
        table_apart=True,
        cause="never_reduced",
        turns_red=(*_GRADIENT, "parity/replicas"),
    ),
    Variant(
        name="reduced_inside_accumulation",
        about="The SUM moved into the loop over micro-batches: earlier ones are summed again at each.",
        job=RanksJob(reduction=replace(REPORT_003, accumulation=_ACCUMULATION, reduce_every="micro_step")),
        cause="reduced_inside_accumulation",
        turns_red=(*_SCALE, "parity/direction"),
    ),
    Variant(
        name="accumulation_wiped",
        about="Gradients are zeroed before every micro-batch: only the last one counts.",
        job=_reduced(accumulation=_ACCUMULATION, wipe_between=True),
        cause="accumulation_wiped",
        turns_red=_DIRECTION,
    ),
    Variant(
        name="tail_by_full_count",
        about="The last step of an epoch has fewer micro-batches, and is divided by the configured number.",
        job=RanksJob(
            reduction=Reduction(accumulation=_ACCUMULATION, divide_by="configured"), num_micro=_ACCUMULATION - 1
        ),
        cause="accumulation_divisor",
        turns_red=_SCALE,
    ),
    Variant(
        name="replicas_start_apart",
        about="No DDP: each rank draws other first weights, and only gradients are averaged.",
        job=RanksJob(reduction=Reduction(forward="bare", manual_reduce="mean"), own_init=True),
        cause="replicas_apart",
        turns_red=(*_GRADIENT, "parity/replicas"),
    ),
    Variant(
        name="uneven_shares_unweighed",
        about="Ranks have different numbers of rows, and all weigh the same.",
        job=_reduced(weigh_shares=False),
        uneven=True,
        cause="uneven_shards",
        turns_red=_DIRECTION,
    ),
    Variant(
        name="mean_of_means",
        about="Ranks have equally many rows but not equally many loss terms, and all weigh the same.",
        job=_reduced(weigh_shares=False),
        cause="mean_of_means",
        turns_red=_GRADIENT,
        systems=_UNEVEN_TERMS,
    ),
    Variant(
        name="clip_before_reduction",
        about="Each rank clips its own gradient, and then they are averaged.",
        job=_reduced(forward="bare", manual_reduce="mean", clip_local=1e-3),
        cause="clipped_before_reduction",
        turns_red=_SCALE,
    ),
    Variant(
        name="same_rows_everywhere",
        about="The sampler does not know its rank: all train on the rows of the first.",
        job=RanksJob(same_rows=True),
        cause="wrong_rows",
        turns_red=(*_DIRECTION, "parity/shares"),
    ),
    Variant(
        name="negatives_per_rank",
        about="Each rank draws its own negatives, so that they depend on the number of ranks.",
        job=RanksJob(plant=_COUPLED + "negatives_per_rank"),
        cause="negatives_apart",
        turns_red=(*_DIRECTION, "parity/shares"),
        systems=_PLANTED,
    ),
    Variant(
        name="table_scaled",
        about="One table's gradient is divided by W once more than the rest.",
        job=RanksJob(plant=_COUPLED + "table_scaled"),
        cause="table_scaled",
        turns_red=_GRADIENT,
        systems=_PLANTED,
    ),
    Variant(
        name="frozen_on_ranks",
        about="One table does not require a gradient where there are several ranks.",
        job=RanksJob(plant=_COUPLED + "frozen_on_ranks"),
        cause="frozen_or_unused",
        turns_red=_GRADIENT,
        systems=_PLANTED,
    ),
    Variant(
        name="table_unused_on_ranks",
        about="One table's output is detached where there are several ranks.",
        job=RanksJob(plant=_COUPLED + "table_unused_on_ranks"),
        cause="frozen_or_unused",
        turns_red=_GRADIENT,
        systems=_PLANTED,
    ),
    Variant(
        name="in_batch_detached",
        about="Negatives gathered from other ranks carry no gradient back.",
        job=RanksJob(plant=_COUPLED + "in_batch_detached"),
        cause="gathered_detached",
        turns_red=_GRADIENT,
        systems=_PLANTED,
    ),
    Variant(
        name="in_batch_own_rows",
        about="In-batch negatives are those of the rank's own rows only.",
        job=RanksJob(plant=_COUPLED + "in_batch_own_rows"),
        cause="rows_coupled",
        turns_red=_GRADIENT,
        systems=_PLANTED,
    ),
    Variant(
        name="batch_norm_per_rank",
        about="Batch normalisation over the rank's own rows, with running statistics of its own.",
        job=RanksJob(plant=_COUPLED + "batch_norm_per_rank"),
        cause="buffers_not_shared",
        turns_red=(*_GRADIENT, "parity/buffers"),
        systems=_PLANTED,
    ),
)

VARIANTS = (*_CONTROLS, *_FAULTS)
"""Controls first, then faults."""
