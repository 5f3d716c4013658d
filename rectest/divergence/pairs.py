"""Two tapes of one process, step by step: which events are computed, and which of them belong to training.

Comparing them is `rectest.divergence.align`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rectest.divergence.inside.tape import TABLES
from rectest.divergence.tapes import Event, Tape

__all__ = ["COMPUTATION", "Pair", "Parts", "differs", "is_integer"]

COMPUTATION = (
    "init",
    "batch",
    "weights",
    "input",
    "forward",
    "loss",
    "local_gradient",
    "reduce",
    "gradient",
    "optimizer",
    "parameter",
    "rng",
)
"""Kinds of events that are computed, in the order in which a step passes through them."""

_BY_PHASE = ("batch", "input", "forward", "reduce")
"""Kinds that evaluation has, too."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Places of a tape's events of computation, by step."""

    training: dict[int, list[int]] = field(default_factory=dict)
    evaluation: dict[int, list[int]] = field(default_factory=dict)
    init: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two tapes of one process."""

    process: str
    first: Tape
    second: Tape

    @cached_property
    def parts(self) -> tuple[Parts, Parts]:
        """Both tapes by step."""
        return _parts(self.first), _parts(self.second)

    @cached_property
    def num_steps(self) -> tuple[int, int]:
        """Completed optimizer steps of both."""
        return self.first.num_steps, self.second.num_steps

    def events(self, step: int, kind: str) -> tuple[list[Event], list[Event]]:
        """Training events of a kind in a step, in both runs."""
        return _of_step(self.first, self.parts[0], step, kind), _of_step(self.second, self.parts[1], step, kind)

    def digests(self, kind: str, name: str) -> tuple[list[str], list[str]]:
        """The contents of a field in the order in which they came in training, in both runs."""
        return _digests(self.first, self.parts[0], kind, name), _digests(self.second, self.parts[1], kind, name)

    @cached_property
    def controlled(self) -> dict[str, int]:
        """By generator, the first step at whose end its state was equal in both runs; 0 if it was seeded alike."""
        seeded = [_seeds(self.first), _seeds(self.second)]
        found = {name: 0 for name in seeded[0] if seeded[1].get(name) == seeded[0][name] and seeded[0][name]}
        for step in self.parts[0].training:
            for name, (one, two) in self.states(step).items():
                if one == two:
                    found.setdefault(name, step)
        return found

    def states(self, step: int) -> dict[str, tuple[str, str]]:
        """By generator, digests of its state at the end of a step in both runs."""
        one, two = ({event.name: event.digest for event in events} for events in self.events(step, "rng"))
        return {name: (one[name], two[name]) for name in one if name in two}


def _of_step(tape: Tape, parts: Parts, step: int, kind: str) -> list[Event]:
    places = parts.init if kind == "init" else parts.training.get(step, ())
    return [tape.events[place] for place in places if tape.events[place].kind == kind]


def _digests(tape: Tape, parts: Parts, kind: str, name: str) -> list[str]:
    events = (tape.events[place] for places in parts.training.values() for place in places)
    return [event.digest for event in events if event.kind == kind and event.name == name]


def _seeds(tape: Tape) -> dict[str, str]:
    """By generator, the digest of the value it was seeded with last before training, empty for OS entropy."""
    seeds = (event for event in tape.of("seed") if event.phase == "setup" or event.step == 1)
    return {event.name: "" if event.info.get("value") is None else event.digest for event in seeds}


def differs(first: Event, second: Event) -> bool:
    """Whether two events of the same name have other content."""
    if first.digest != second.digest:
        return True
    return first.kind in TABLES and first.info.get("each") != second.info.get("each")


def is_integer(event: Event) -> bool:
    """Whether a field holds whole numbers; unknown counts as yes."""
    dtype = str(event.info.get("dtype", "int"))
    return "int" in dtype or dtype == "list"


def _parts(tape: Tape) -> Parts:
    parts = Parts()
    in_training = _phases(tape.events)
    computed = frozenset(COMPUTATION)
    for place, event in enumerate(tape.events):
        if event.kind not in computed:
            continue
        if event.kind == "init":
            parts.init.append(place)
        else:
            side = parts.evaluation if event.kind in _BY_PHASE and not in_training[place] else parts.training
            side.setdefault(event.step, []).append(place)
    return parts


def _phases(events: Sequence[Event]) -> list[bool]:
    """Whether each event belongs to training.

    A model that was left in evaluation mode still trains: the call before a backward is training. A batch is fetched
    before the model is called, often under another mode: loaders that never feed a training call belong to evaluation.
    """
    training = [event.phase != "eval" for event in events]
    feeding: set[str] = set()
    loaders: list[int] = []
    pending = in_inputs = False
    following = ""
    for place in range(len(events) - 1, -1, -1):
        event = events[place]
        kind = event.kind
        if kind == "loss":
            pending, in_inputs = True, False
        elif kind in ("input", "forward"):
            if in_inputs and kind == "forward":
                pending = in_inputs = False
            in_inputs = in_inputs or (pending and kind == "input")
            training[place] = training[place] or pending
            following = "train" if training[place] else "eval"
        elif kind == "parameter":
            following, pending, in_inputs = "", False, False
        elif kind == "batch":
            loaders.append(place)
            if following != "eval" and training[place]:
                feeding.add(_loader(event))
            pending = pending and not in_inputs
    for place in loaders:
        training[place] = training[place] and _loader(events[place]) in feeding
    return training


def _loader(event: Event) -> str:
    return event.name.partition(".")[0]
