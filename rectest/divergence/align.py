"""Two tapes of one process side by side: the first event of computation that differs.

Steps are compared one by one and in program order. What belongs to evaluation is compared apart, because the runs may
evaluate at other times. This module says where tapes part, not why: see `rectest.divergence.suspects`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rectest.divergence.inside.tape import TABLES
from rectest.divergence.pairs import COMPUTATION, Pair, Parts, differs, is_integer
from rectest.divergence.tapes import Event, Tape

__all__ = ["Symptom", "earliest", "find_symptom"]

_UPDATE = ("gradient", "optimizer", "parameter")


@dataclass(frozen=True, kw_only=True, slots=True)
class Symptom:
    """The first difference of two tapes."""

    process: str
    step: int
    """From 1; 0 for what the model starts from."""

    kind: str
    """One of `COMPUTATION`."""

    name: str
    """The first tensor or field that differs, as a reader would name it."""

    first: Event | None
    second: Event | None
    """The events themselves; None where a run has none at that place."""

    places: tuple[int, int]
    """Where both runs stand: places in the tapes' events."""

    since: tuple[int, int]
    """Places of the last event of computation before it, which is equal; -1 if there is none."""

    names: tuple[str, ...] = ()
    """All tensors of the table, or fields of the step's batch or input, that differ."""

    num_names: int = 0
    """How many tensors or fields there are."""

    equal_fields: tuple[str, ...] = ()
    """Integer fields of the step's batch and input that do not differ and change from step to step."""

    evaluation: bool = False
    """Whether it is in evaluation only."""

    @property
    def order(self) -> tuple[int, int]:
        """By which symptoms of several processes are compared: step and stage."""
        return self.step, COMPUTATION.index(self.kind)

    @property
    def one_sided(self) -> bool:
        """Whether one run did something at that place that the other did not."""
        return self.first is None or self.second is None or self.first.name != self.second.name


def find_symptom(pair: Pair) -> Symptom | None:
    """The first difference in training; if there is none, the first in evaluations that both runs made."""
    return _init(pair) or _training(pair) or _evaluation(pair)


def _init(pair: Pair) -> Symptom | None:
    places = [{tape.events[p].name: p for p in reversed(parts.init)} for tape, parts in _sides(pair)]
    for name, one in places[0].items():
        two = places[1].get(name)
        if two is not None and differs(pair.first.events[one], pair.second.events[two]):
            return _symptom(pair, 0, (one, two), since=(-1, -1))
    return None


def _sides(pair: Pair) -> Iterator[tuple[Tape, Parts]]:
    return zip((pair.first, pair.second), pair.parts, strict=True)


def _training(pair: Pair) -> Symptom | None:
    last = (-1, -1)
    common = min(pair.num_steps)
    for step in sorted(pair.parts[0].training.keys() & pair.parts[1].training.keys()):
        one, two = (parts.training[step] for parts in pair.parts)
        found = _walk(pair, step, one, two, since=last, structure=step <= common)
        if found is not None:
            return found
        last = one[-1], two[-1]
    return None


def _evaluation(pair: Pair) -> Symptom | None:
    for step in sorted(pair.parts[0].evaluation.keys() & pair.parts[1].evaluation.keys()):
        one, two = (parts.evaluation[step] for parts in pair.parts)
        found = _walk(pair, step, one, two, since=(-1, -1), structure=False, evaluation=True)
        if found is not None:
            return found
    return None


def _walk(
    pair: Pair,
    step: int,
    one: list[int],
    two: list[int],
    *,
    since: tuple[int, int],
    structure: bool,
    evaluation: bool = False,
) -> Symptom | None:
    """The first difference of one step; `structure` says whether events that only one run has count."""
    first, second = pair.first.events, pair.second.events
    for p, q in zip(one, two, strict=False):
        a, b = first[p], second[q]
        if a.kind != b.kind or a.name != b.name:
            break
        if differs(a, b) and (a.kind != "rng" or _was_equal(pair, step, a.name)):
            return _symptom(pair, step, (p, q), since=since, evaluation=evaluation)
        since = p, q
    else:
        if len(one) == len(two):
            return None
    if not structure or _same_update(pair, step):
        return None
    k = next((k for k in range(min(len(one), len(two))) if _key(first[one[k]]) != _key(second[two[k]])), None)
    k = min(len(one), len(two)) if k is None else k
    places = (one[k] if k < len(one) else one[-1] + 1), (two[k] if k < len(two) else two[-1] + 1)
    return _symptom(pair, step, places, since=since, present=(k < len(one), k < len(two)))


def _key(event: Event) -> tuple[str, str]:
    return event.kind, event.name


def _was_equal(pair: Pair, step: int, generator: str) -> bool:
    """Whether a generator ever was in the same state in both runs before the end of a step."""
    return pair.controlled.get(generator, step) < step


def _same_update(pair: Pair, step: int) -> bool:
    """Whether the step changed the model in the same way in both runs, whatever else one of them computed."""
    for kind in _UPDATE:
        one, two = pair.events(step, kind)
        if [e.name for e in one] != [e.name for e in two] or any(map(differs, one, two)):
            return False
    return bool(pair.events(step, "parameter")[0])


def _symptom(
    pair: Pair,
    step: int,
    places: tuple[int, int],
    *,
    since: tuple[int, int],
    present: tuple[bool, bool] = (True, True),
    evaluation: bool = False,
) -> Symptom:
    first = pair.first.events[places[0]] if present[0] else None
    second = pair.second.events[places[1]] if present[1] else None
    event = min((e for e in (first, second) if e is not None), key=lambda e: COMPUTATION.index(e.kind))
    # an argument that was computed from parameters: the script calls parts of its model one by one
    kind = "forward" if event.kind == "input" and event.info.get("grad") else event.kind
    names, number, equal = _names(pair, step, event, first, second, places, evaluation=evaluation or kind != event.kind)
    name = f"{event.name}: {names[0]}" if names and event.kind in TABLES and event.kind != "init" else event.name
    if event.kind in ("init", "gradient", "local_gradient", "parameter", "weights") and names:
        name = names[0]
    return Symptom(
        process=pair.process,
        step=step,
        kind=kind,
        name=name,
        first=first,
        second=second,
        places=places,
        since=since,
        names=names,
        num_names=number,
        equal_fields=equal,
        evaluation=evaluation,
    )


def _names(
    pair: Pair,
    step: int,
    event: Event,
    first: Event | None,
    second: Event | None,
    places: tuple[int, int],
    *,
    evaluation: bool,
) -> tuple[tuple[str, ...], int, tuple[str, ...]]:
    """What differs, out of how many, and which integer fields stay equal."""
    if event.kind in TABLES and first is not None and second is not None and first.kind == second.kind:
        one, two = first.tensors, second.tensors
        names = [*one, *(name for name in two if name not in one)]
        return tuple(name for name in names if one.get(name) != two.get(name)), len(names), ()
    if event.kind not in ("batch", "input") or evaluation:
        return (event.name,), 1, ()
    return _fields(pair, step, event, places)


def _fields(
    pair: Pair, step: int, event: Event, places: tuple[int, int]
) -> tuple[tuple[str, ...], int, tuple[str, ...]]:
    kinds = ("batch",) if event.kind == "batch" else ("batch", "input")
    sides = zip(_sides(pair), places, strict=True)
    one, two = (_fed(tape, parts, step, until=place) for (tape, parts), place in sides)
    compared = [(a, b) for a, b in zip(one, two, strict=False) if a.name == b.name and a.kind in kinds]
    unequal = dict.fromkeys(a.name for a, b in compared if differs(a, b))
    number = len({a.name for a, _ in compared if a.kind == event.kind})
    # in the step's later calls, too: a model that is called for negatives first gets the examples in the second call
    calls = [call for kind in kinds for call in zip(*pair.events(step, kind), strict=False)]
    moved = {a.name for a, b in calls if a.name == b.name and differs(a, b)}
    equal = (a.name for a, _ in compared if a.name not in moved and is_integer(a) and _changes(pair, a.kind, a.name))
    return tuple(unequal), number, tuple(dict.fromkeys(equal))


def _fed(tape: Tape, parts: Parts, step: int, *, until: int) -> list[Event]:
    """What a step was fed until something is computed from the field at `until`: what comes then is computed from it.

    A place and not a name, because a pairwise loss calls the model twice and the same argument may differ the second
    time only.
    """
    found: list[Event] = []
    for place in parts.training.get(step, ()):
        item = tape.events[place]
        if item.kind in ("batch", "input"):
            found.append(item)
        elif place > until:
            break
    return found


def _changes(pair: Pair, kind: str, name: str) -> bool:
    """Whether a field has other content from step to step (a mask of ones says nothing)."""
    digests = pair.digests(kind, name)[0]
    return len(set(digests)) > 1 or len(digests) == 1


def earliest(symptoms: Iterable[Symptom | None]) -> Symptom | None:
    """The earliest of several processes; training counts before evaluation."""
    found = [symptom for symptom in symptoms if symptom is not None]
    return min(found, key=lambda s: (s.evaluation, *s.order, s.process), default=None)
