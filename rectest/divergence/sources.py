"""The streams of random numbers of two tapes side by side: where each generator parts, and by whose doing.

A generator parts because it was never seeded, was made or reseeded from entropy or from another value, or because
somebody drew another amount from it before. A draw from an equal state with another result is no fault of the
generator: what it draws *from* differs, and the source is upstream.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from rectest.divergence.tapes import Event, Tape

__all__ = ["EXTRA", "GLOBAL", "INTEGER_DRAWS", "MOVED", "POPULATION", "SEEDING", "Fault", "Stream", "faults"]

UNSEEDED, CREATED, ENTROPY, VALUE = "unseeded", "created", "entropy", "value"
EXTRA, MOVED, POPULATION = "extra", "moved", "population"
SEEDING = (UNSEEDED, CREATED, ENTROPY, VALUE)
"""Faults that explain themselves: the state came from entropy, or from another seed."""

GLOBAL = ("random", "numpy", "torch")
"""Global generators, which start from OS entropy."""

INTEGER_DRAWS = (
    "randint",
    "randint_like",
    "integers",
    "random_integers",
    "randrange",
    "choice",
    "choices",
    "sample",
    "shuffle",
    "permutation",
    "permuted",
    "randperm",
    "multinomial",
    "getrandbits",
    "random_",
)
"""Draws of ids, orders and examples, by the last part of their names."""

_LOOK_AHEAD = 200
"""How many draws that only one run made are looked through for the next common one."""

Stream = list[tuple[int, Event]]
"""Draws and seeds of one generator with their places in the tape."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """The first place at which the stream of one generator parts."""

    generator: str
    kind: str
    """One of `SEEDING`, or `EXTRA`, `MOVED` (no watched call explains it), `POPULATION`."""

    process: str
    event: Event
    """What did it: the seed, the extra draw, or the first draw from another state."""

    place: int
    """Where that is in the tape of the run that has it."""

    other: Event | None = None
    """The same in the other run; None if it has none."""

    run: int = 0
    """Which run the event belongs to: 0 or 1."""

    uses: Stream = field(default_factory=list)
    """Draws from there on that differ, in the run named by `run`."""

    count: int = 0
    """For `EXTRA`: by how many numbers the runs differ there."""

    seeded_later: str = ""
    """For `UNSEEDED`: the line that seeds it, too late."""


def faults(
    first: Tape, second: Tape, *, limits: tuple[int, int], process: str, parents: tuple[Tape, Tape] | None = None
) -> list[Fault]:
    """Where each generator of a process parts before two places of its tapes.

    Args:
        first: the tape of the first run.
        second: the tape of the second run.
        limits: events from these places on do not count.
        process: its name.
        parents: for a child process: the tapes of its parent, whose generators a fork inherits.
    """
    one, two = _streams(first, limits[0]), _streams(second, limits[1])
    is_child = parents is not None
    for streams, parent in zip((one, two), parents or (), strict=False):
        for name, seed in _last_seeds(parent).items():
            if name in streams:
                streams[name].insert(0, (-1, seed))
    found = (
        _Walk(generator, process, (one.get(generator, []), two.get(generator, [])), is_child=is_child).part()
        for generator in dict.fromkeys([*one, *two])
    )
    return sorted((fault for fault in found if fault is not None), key=lambda fault: fault.place)


def _last_seeds(tape: Tape) -> dict[str, Event]:
    return {event.name: event for event in tape.of("seed")}


def _streams(tape: Tape, limit: int) -> dict[str, Stream]:
    found: dict[str, Stream] = {}
    for place, event in enumerate(tape.events):
        if place >= limit:
            break
        if event.kind == "draw":
            found.setdefault(str(event.info.get("generator", "")), []).append((place, event))
        elif event.kind == "seed":
            found.setdefault(event.name, []).append((place, event))
    return found


def _key(event: Event) -> tuple[str, str, str, int, str]:
    return event.kind, event.name, event.site, event.step, event.phase


class _Walk:
    """Two streams of one generator, walked side by side until they part."""

    def __init__(self, generator: str, process: str, streams: tuple[Stream, Stream], *, is_child: bool) -> None:
        self.generator, self.process, self.streams, self.is_child = generator, process, streams, is_child
        self.at = [0, 0]
        self.seed: tuple[int, Event, Event] | None = None
        """The last seed, if the runs gave another one, with its place in the first run."""
        self.was_seeded = False
        self.pending: Fault | None = None
        """Another amount or another result, whose state after it has not been seen yet."""
        self.population: Fault | None = None
        self.last: Fault | None = None
        """The draw just before, if it had another result from an equal state."""

    def part(self) -> Fault | None:
        """Where they part; a worker that was only stopped at another time does not."""
        one, two = self.streams
        while self.at[0] < len(one) and self.at[1] < len(two):
            (place, a), (_, b) = one[self.at[0]], two[self.at[1]]
            if _key(a) != _key(b):
                if self.is_child or not self._skip():
                    break
                continue
            if a.kind == "seed":
                self._seeded(place, a, b)
            elif a.info.get("state", "") != b.info.get("state", ""):
                return self._parted(place, a, b)
            else:
                self._equal_state(place, a, b)
            self.at = [self.at[0] + 1, self.at[1] + 1]
        return self.pending or self.population or (None if self.is_child else self._tail())

    def _fault(self, kind: str, place: int, event: Event, **more: Any) -> Fault:
        return Fault(generator=self.generator, process=self.process, kind=kind, place=place, event=event, **more)

    def _skip(self) -> bool:
        """Pass over what one run alone did; False if the runs do not meet again."""
        rest = [stream[at : at + _LOOK_AHEAD] for stream, at in zip(self.streams, self.at, strict=True)]
        run, num = _ahead(*rest)
        place, event = rest[run][0]
        count = _count(rest[run][: num or 1], event)
        if self.pending is None:
            self.pending = self._fault(
                EXTRA, place, event, run=run, count=count, uses=self.streams[run][self.at[run] :]
            )
        self.at[run] += num
        return num > 0

    def _seeded(self, place: int, a: Event, b: Event) -> None:
        same = a.digest == b.digest and a.info.get("value") == b.info.get("value")
        self.seed = None if same else (place, a, b)
        self.was_seeded, self.pending, self.population, self.last = True, None, None, None

    def _equal_state(self, place: int, a: Event, b: Event) -> None:
        self.pending = self.last = None  # whoever drew more before has put the state back
        counts = int(a.info.get("count", 0)), int(b.info.get("count", 0))
        if counts[0] != counts[1]:
            rest = self.streams[0][self.at[0] :]
            self.pending = self._fault(EXTRA, place, a, other=b, count=abs(counts[0] - counts[1]), uses=rest)
        elif a.digest != b.digest:
            self.last = self._fault(POPULATION, place, a, other=b, uses=self.streams[0][self.at[0] :])
            self.population = self.population or self.last

    def _parted(self, place: int, a: Event, b: Event) -> Fault:
        one, two = (stream[at:] for stream, at in zip(self.streams, self.at, strict=True))
        if self.pending is None and self.last is not None and self.seed is None:
            self.pending = replace(self.last, kind=EXTRA)  # its results differ, and so does what it took
        found = self.pending or self.population or self._origin(place, a, b)
        uses = found.uses if found.run else _differing(one, two)
        return replace(found, uses=uses, seeded_later=_later_seed(one) if found.kind == UNSEEDED else "")

    def _origin(self, place: int, event: Event, other: Event) -> Fault:
        """Why a generator stands in another state at its next draw."""
        if self.seed is None:
            unseeded = not self.was_seeded and self.generator in GLOBAL
            return self._fault(UNSEEDED if unseeded else MOVED, place, event, other=other)
        where, seed, other_seed = self.seed
        kind = _seed_kind(seed, other_seed)
        if kind == UNSEEDED:
            return self._fault(kind, place, event, other=other)
        return self._fault(kind, where, seed, other=other_seed)

    def _tail(self) -> Fault | None:
        """What one run still drew when the other had ended its draws."""
        for run in (0, 1):
            draws = [(place, event) for place, event in self.streams[run][self.at[run] :] if event.kind == "draw"]
            if draws:
                place, event = draws[0]
                return self._fault(EXTRA, place, event, run=run, count=_count(draws, event), uses=draws)
        return None


def _ahead(one: Stream, two: Stream) -> tuple[int, int]:
    """Which run went on alone, and by how many events; 0 events if the streams do not meet again."""
    a, b = _key(one[0][1]), _key(two[0][1])
    for skip in range(1, _LOOK_AHEAD):
        if skip < len(one) and _key(one[skip][1]) == b:
            return 0, skip
        if skip < len(two) and _key(two[skip][1]) == a:
            return 1, skip
    return (0, 0) if a[3] <= b[3] else (1, 0)


def _count(stream: Stream, event: Event) -> int:
    alike = (e for _, e in stream if e.kind == "draw" and e.site == event.site and e.name == event.name)
    return sum(int(e.info.get("count", 0)) for e in alike)


def _seed_kind(event: Event, other: Event) -> str:
    if event.info.get("value") is not None and other.info.get("value") is not None:
        return VALUE
    return {"import": UNSEEDED, "created": CREATED}.get(str(event.info.get("how")), ENTROPY)


def _differing(one: Stream, two: Stream) -> Stream:
    """Draws of the first run whose results differ from the other's, or which the other has not."""
    theirs: dict[tuple[str, str, str, int, str], list[str]] = {}
    for _, event in two:
        theirs.setdefault(_key(event), []).append(event.digest)
    draws = [(place, event) for place, event in one if event.kind == "draw"]
    return [(place, event) for place, event in draws if event.digest not in theirs.get(_key(event), ())]


def _later_seed(stream: Stream) -> str:
    return next((e.site for _, e in stream if e.kind == "seed" and e.info.get("value") is not None), "")
