"""`Runs`: the trainings that claims ask for, each spec trained once, in children, however many claims need it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rectest.claims.claim import NotHere
from rectest.errors import ChildFailed
from rectest.record import RunRecord, RunSpec

if TYPE_CHECKING:
    from rectest.faults.parallel import ParallelRow

__all__ = ["HASH_SEED_STRIDE", "Runs", "in_children", "on_ranks"]

HASH_SEED_STRIDE = 20_011
"""A repetition runs under another `PYTHONHASHSEED`, so that what depends on the order of a set shows."""

Outcome = RunRecord | ChildFailed
TrainAll = Callable[[Sequence[RunSpec]], Sequence[Outcome]]
MeasureRanks = Callable[[str, int, Sequence[str]], "Sequence[ParallelRow]"]
"""From a system, a number of ranks and names of variants to what was measured of each."""


class Runs:
    """Records by spec. `train_all` trains what is missing; without it, nothing is trained.

    `measure_ranks` trains the first steps on several processes that exchange gradients.
    """

    def __init__(self, train_all: TrainAll | None = None, measure_ranks: MeasureRanks | None = None) -> None:
        self._train_all = train_all
        self._measure_ranks = measure_ranks
        self._outcomes: dict[str, Outcome] = {}
        self._rows: dict[str, ParallelRow] = {}

    @property
    def num_trained(self) -> int:
        """Distinct specs trained so far."""
        return len(self._outcomes)

    def prepare(self, specs: Iterable[RunSpec]) -> None:
        """Train all of them that are missing; failures are kept and raised by `train`.

        Raises:
            NotHere: training was left out.
        """
        missing = {spec.key: spec for spec in specs if spec.key not in self._outcomes}
        if not missing:
            return
        if self._train_all is None:
            msg = f"it needs {len(missing)} trainings, which were left out"
            raise NotHere(msg)
        self._outcomes.update(zip(missing, self._train_all(list(missing.values())), strict=True))

    def train(self, specs: Sequence[RunSpec]) -> list[RunRecord]:
        """The records of these specs in order.

        Raises:
            NotHere: training was left out.
            ChildFailed: one of the trainings failed.
        """
        self.prepare(specs)
        found = [self._outcomes[spec.key] for spec in specs]
        for outcome in found:
            if isinstance(outcome, ChildFailed):
                raise outcome
        return [outcome for outcome in found if isinstance(outcome, RunRecord)]

    def ranks(self, system: str, num_ranks: int, variants: Sequence[str]) -> list[ParallelRow]:
        """What is measured of ways to combine gradients, in the order of their names, each measured once.

        Raises:
            NotHere: training was left out.
            ChildFailed: a rank raised, died or hung.
        """
        keys = {f"{system}/{num_ranks}/{name}": name for name in variants}
        missing = {key: name for key, name in keys.items() if key not in self._rows}
        if missing:
            if self._measure_ranks is None:
                msg = "it needs training on several processes, which was left out"
                raise NotHere(msg)
            rows = self._measure_ranks(system, num_ranks, list(missing.values()))
            self._rows.update(zip(missing, rows, strict=True))
        return [self._rows[key] for key in keys]


def in_children(
    *, processes: int, sys_path: Sequence[str], done: Callable[[RunSpec, Outcome], None] | None = None
) -> TrainAll:
    """Train in fresh processes, `processes` at a time."""
    from rectest.training.launch import Launch, launch_many

    def how(spec: RunSpec) -> Launch:
        return Launch(hash_seed=spec.replica * HASH_SEED_STRIDE, sys_path=sys_path)

    def train_all(specs: Sequence[RunSpec]) -> Sequence[Outcome]:
        return launch_many(specs, how=how, processes=processes, done=done)

    return train_all


def on_ranks(*, sys_path: Sequence[str]) -> MeasureRanks:
    """Measure on real processes, by `rectest.faults.parallel`."""

    def measure(system: str, num_ranks: int, names: Sequence[str]) -> Sequence[ParallelRow]:
        from rectest.faults.parallel import parallel_table
        from rectest.faults.variants import VARIANTS
        from rectest.training.launch import Launch

        known = {variant.name: variant for variant in VARIANTS}
        return parallel_table(
            system, (num_ranks,), variants=[known[name] for name in names], how=Launch(sys_path=sys_path)
        )

    return measure
