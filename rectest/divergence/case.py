"""What the search for a cause works on: two runs, the symptom, and suspects with a rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from rectest.divergence.align import Symptom
from rectest.divergence.causes import entropy_before, is_randomness
from rectest.divergence.finding import Cause
from rectest.divergence.pairs import Pair
from rectest.divergence.sources import VALUE, Fault, faults
from rectest.divergence.tapes import Event, Run, Tape
from rectest.divergence.upstream import Leftover, differing

__all__ = ["ARITHMETIC", "DATA", "Case", "Suspect"]

DATA = ("batch", "input")
ARITHMETIC = ("weights", "forward", "loss", "local_gradient", "reduce", "gradient", "optimizer", "parameter")
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A possible cause."""

    rank: float
    """Lower is likelier."""

    cause: Cause
    fault: Fault | None = None
    leftover: Leftover | None = None
    setting: bool = False
    """Whether the environments differ."""

    at: Event | None = None
    """The draw that carries it to the symptom."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Two runs and the symptom of one process."""

    first: Run
    second: Run
    pair: Pair
    symptom: Symptom | None

    @property
    def tapes(self) -> tuple[Tape, Tape]:
        """Of the process in which the symptom is seen."""
        return self.pair.first, self.pair.second

    @property
    def limits(self) -> tuple[int, int]:
        """What comes from these places on is a consequence."""
        return self.symptom.places if self.symptom else (_NO_LIMIT, _NO_LIMIT)

    @cached_property
    def faults(self) -> list[Fault]:
        """Generators of all processes that part before the symptom."""
        found = faults(*self.tapes, limits=self.limits, process=self.pair.process)
        for process, tapes, limits in self.others():
            found += faults(*tapes, limits=limits, process=process, parents=self._parents(tapes))
        return found

    def others(self) -> Iterator[tuple[str, tuple[Tape, Tape], tuple[int, int]]]:
        """The other processes that both runs have, their tapes, and the places where these go beyond the symptom."""
        for process in sorted(self.first.tapes.keys() & self.second.tapes.keys() - {self.pair.process}):
            tapes = self.tapes_of(process)
            yield process, tapes, (_until(tapes[0], self.symptom), _until(tapes[1], self.symptom))

    def read_for(self, fault: Fault) -> Event | None:
        """The clock or the entropy that the seed in a fault was made of, by its process or by who started that."""
        tape = self.tapes_of(fault.process)[0]
        read = entropy_before(tape, fault.place, fault.event.site)
        if read is not None or fault.kind != VALUE:
            return read
        first = self._first_of_row(fault)
        read = entropy_before(tape, first, tape.events[first].site) if 0 <= first < fault.place else None
        parent = self.first.tapes.get(str(tape.header.get("parent", "")))
        if read is not None or parent is None:
            return read or self._only_source(fault)
        started = next((n for n, e in enumerate(parent.events) if (e.kind, e.name) == ("process", fault.process)), 0)
        return entropy_before(parent, started, parent.events[started].site) if started else None

    def _first_of_row(self, fault: Fault) -> int:
        """Where the row of seeds begins that all have another value, up to that of a fault: they have one source."""
        tapes = self.tapes_of(fault.process)
        other = {place for place, _, _ in differing(tapes, (fault.place + 1, _NO_LIMIT), "seed")}
        first = -1
        for place, event in enumerate(tapes[0].events[: fault.place + 1]):
            if event.kind == "seed" and event.info.get("value") is not None:
                first = -1 if place not in other else place if first < 0 else first
        return first

    def _only_source(self, fault: Fault) -> Event | None:
        """Randomness that the script's own lines read before a seed that nothing else explains, if in one line."""
        limits = fault.place, _NO_LIMIT
        read = [e for _, e, _ in differing(self.tapes_of(fault.process), limits, "entropy") if is_randomness(e)]
        return read[-1] if len({event.site for event in read}) == 1 else None

    def _parents(self, tapes: tuple[Tape, Tape]) -> tuple[Tape, Tape] | None:
        names = [str(tape.header.get("parent", "")) for tape in tapes]
        one, two = self.first.tapes.get(names[0]), self.second.tapes.get(names[1])
        return None if one is None or two is None else (one, two)

    @cached_property
    def overlap(self) -> float:
        """Of the batches that differ at their place, the share that comes in both runs; 0 for other symptoms."""
        return _overlap(self.pair, self.symptom) if self.symptom else 0.0

    def tapes_of(self, process: str) -> tuple[Tape, Tape]:
        """The tapes of one process in both runs."""
        return self.first.tapes[process], self.second.tapes[process]

    @property
    def at_start(self) -> bool:
        """Whether the runs part before or in the first step."""
        return self.symptom is not None and self.symptom.step <= 1


def _until(tape: Tape, symptom: Symptom | None) -> int:
    """Where a tape of another process goes beyond the step of the symptom."""
    if symptom is None:
        return _NO_LIMIT
    step = max(1, symptom.step)
    return next((place for place, event in enumerate(tape.events) if event.step > step), _NO_LIMIT)


def _overlap(pair: Pair, symptom: Symptom) -> float:
    """Of the batches that differ at their place, the share that comes in both runs at another place.

    Judged by the field with the most contents: flags repeat by chance.
    """
    if symptom.kind not in DATA or symptom.evaluation or symptom.first is None:
        return 0.0
    sides = [pair.digests(symptom.kind, name) for name in symptom.names]
    one, two = max(sides, key=lambda side: len(set(side[0])), default=([], []))
    moved = [(a, b) for a, b in zip(one, two, strict=False) if a != b]
    if len(moved) < 2:
        return 0.0
    return (Counter(a for a, _ in moved) & Counter(b for _, b in moved)).total() / len(moved)
