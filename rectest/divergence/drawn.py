"""Suspects that are random numbers: generators, and entropy that is read directly.

A source counts by how directly its numbers can have reached the symptom: drawn between the last event that was equal
and the first that is not, then in the same step, then before training. A source that has differed in earlier steps and
changed nothing there is an unlikely one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rectest.divergence import upstream
from rectest.divergence.align import Symptom
from rectest.divergence.case import ARITHMETIC, DATA, Case, Suspect
from rectest.divergence.causes import (
    STRONG_ENTROPY,
    cause_of,
    in_package,
    is_global,
    is_randomness,
    library_of,
    step_of,
)
from rectest.divergence.finding import Cause
from rectest.divergence.sources import EXTRA, INTEGER_DRAWS, MOVED, POPULATION, SEEDING, Fault, Stream
from rectest.divergence.tapes import Event, Tape

__all__ = ["entropy", "entropy_cause", "generators", "is_package_name", "num_draws", "unwatched"]

_SINGLE = ("random", "randint", "randrange", "uniform", "choice", "getrandbits", "gauss")
"""Draws of Python's generators that give one number."""


def generators(case: Case) -> Iterator[Suspect]:
    symptom = case.symptom
    for fault in case.faults:
        if fault.kind == POPULATION or symptom is None or not fault.uses:
            continue
        if _misses(symptom, fault):
            continue
        tape = case.tapes_of(fault.process)[fault.run]
        if is_package_name(fault, tape):
            continue
        distance, use = _distance(case, symptom, fault.uses, fault.run, fault.process)
        num = num_draws(tape, use)
        cause = cause_of(fault, case.read_for(fault), drawn_at=use.site, num_draws=num)
        yield Suspect(rank=_rank(case, symptom, fault, use, distance), cause=cause, fault=fault, at=use)


def _misses(symptom: Symptom, fault: Fault) -> bool:
    """Whether a generator cannot have reached the symptom: another one, or only evaluation drew from it since."""
    if symptom.kind == "rng":
        return fault.generator != symptom.name
    return (
        fault.kind == EXTRA
        and not symptom.evaluation
        and all(event.phase == "eval" for _, event in fault.uses if event.kind == "draw")
    )


def num_draws(tape: Tape, use: Event) -> int:
    """How often a line draws from a generator in the whole run."""
    generator = use.info.get("generator")
    same = (e for e in tape.of("draw") if e.site == use.site and e.info.get("generator") == generator)
    return sum(int(e.info.get("count", 0)) for e in same)


def _distance(case: Case, symptom: Symptom, uses: Stream, run: int, process: str) -> tuple[float, Event]:
    """How far the nearest use is from the symptom, and that use."""
    if process != case.pair.process:
        data = symptom.kind in DATA
        return (1.5 if data else 5.0), uses[0][1]
    classes = [(_class(symptom, place, event, run), event) for place, event in uses if event.kind == "draw"]
    if not classes:
        return 6.0, uses[0][1]
    best = min(value for value, _ in classes)
    use = next(event for value, event in classes if value == best)
    early = any(e.site == use.site and e.phase == "train" and e.step < symptom.step for _, e in uses)
    return best + (2.0 if early else 0.0), use


def _class(symptom: Symptom, place: int, event: Event, run: int) -> float:
    evaluation = event.phase == "eval" and not symptom.evaluation
    if evaluation:
        return 4.0
    if place > symptom.since[run]:
        return 0.0
    if event.step == max(1, symptom.step):
        return 1.0
    return 2.0 if event.phase == "setup" else 3.0


def _rank(case: Case, symptom: Symptom, fault: Fault, use: Event, distance: float) -> float:
    rank = 10.0 + distance + _reach(symptom, distance) + 0.2 * _affinity(symptom, fault, use)
    rank += 22.0 if _is_a_name(fault, case.tapes_of(fault.process)[fault.run]) else 0.0
    if fault.kind in SEEDING:
        inherited = fault.kind == "value" and fault.process != case.pair.process
        return rank + (8.0 if inherited else 0.0)
    moved = 0.15 + (4.0 if fault.kind == MOVED else 0.0)
    in_training = fault.event.kind == "draw" and fault.event.phase != "eval"
    by_chance = fault.kind == EXTRA and in_training and symptom.kind in (*DATA, "init")
    return rank + moved + (18.0 if by_chance and case.at_start else 0.0)


def _reach(symptom: Symptom, distance: float) -> float:
    """Numbers that were drawn earlier hardly reach arithmetic whose inputs are equal."""
    if symptom.kind not in ARITHMETIC:
        return 0.0
    return 20.0 if distance >= 2 or (distance >= 1 and symptom.kind not in ("forward", "loss")) else 0.0


def _affinity(symptom: Symptom, fault: Fault, use: Event) -> float:
    """How well a kind of draw fits the symptom: 0 well, 1 hardly."""
    library, integer = library_of(fault.generator), use.name.rpartition(".")[2] in INTEGER_DRAWS
    if symptom.kind in DATA:
        return 0.0 if integer else 1.0
    return {"torch": 0.0, "numpy": 0.5}.get(library, 1.0)


def _is_a_name(fault: Fault, tape: Tape) -> bool:
    """One or two single numbers in the whole run are rather a name or a port than data."""
    same = [e for e in tape.of("draw") if e.info.get("generator") == fault.generator]
    if any(e.name.rpartition(".")[2] not in _SINGLE or library_of(fault.generator) != "random" for e in same):
        return False
    return fault.kind in SEEDING and sum(int(e.info.get("count", 0)) for e in same) <= 2


def is_package_name(fault: Fault, tape: Tape) -> bool:
    """Whether an installed package draws a name for itself, as it does in every run of every script that imports it.

    SymPy, which torch imports, draws one at its import: named as a suspect, it would stand in half of all answers.
    """
    sites = [fault.event.site, *(event.site for _, event in fault.uses)]
    return "@" in fault.generator and all(map(in_package, sites)) and _is_a_name(fault, tape)


def entropy(case: Case) -> Iterator[Suspect]:
    symptom = case.symptom
    if symptom is None:
        return
    seeds = {fault.event.site for fault in case.faults if fault.kind in SEEDING}
    seeds |= {read.site for fault in case.faults if (read := _read_for(case, fault)) is not None}
    groups: dict[tuple[str, str], Stream] = {}
    for place, event, _ in upstream.differing(case.tapes, case.limits, "entropy"):
        groups.setdefault((event.name, event.site), []).append((place, event))
    for (name, site), uses in groups.items():
        if site in seeds and site:
            continue
        often = max(int(event.info.get("count", 0) or 0) for _, event in uses) > 2
        own = not in_package(site)
        strong = name.startswith(STRONG_ENTROPY) or (often and own and name.startswith("uuid"))
        value = min(_class(symptom, place, event, 0) for place, event in uses)
        early = any(event.phase == "train" and event.step < symptom.step for _, event in uses)
        value += 2.0 if early else 0.0
        rank = (10.6 if strong else 50.0) + value + _reach(symptom, value)
        in_setup = all(event.phase == "setup" for _, event in uses)
        rank += 15.0 if strong and not own and (value >= 2 or in_setup) else 0.0
        yield Suspect(rank=rank, cause=entropy_cause(uses[0][1], len(uses)), at=uses[0][1])
    yield from _entropy_elsewhere(case, symptom, seeds)


def _entropy_elsewhere(case: Case, symptom: Symptom, known: set[str]) -> Iterator[Suspect]:
    """Entropy that another process reads, such as a worker that makes batches."""
    rank = 10.6 + (1.5 if symptom.kind in DATA else 25.0)
    for process, tapes, limits in case.others():
        events = [event for _, event, _ in upstream.differing(tapes, limits, "entropy")]
        for event in {event.site: event for event in reversed(events)}.values():
            if is_randomness(event) and event.site not in known:
                num = sum(e.site == event.site for e in events)
                yield Suspect(rank=rank, cause=replace(entropy_cause(event, num), process=process), at=event)


def _read_for(case: Case, fault: Fault) -> Event | None:
    return case.read_for(fault) if fault.kind in SEEDING else None


def entropy_cause(event: Event, count: int) -> Cause:
    return Cause(
        kind="entropy",
        what=f"{event.name} is read, which is another value in every run",
        site=event.site,
        num_draws=max(count, int(event.info.get("count", 0) or 0)),
        step=step_of(event),
        advice="take the number from a seeded generator: numpy.random.default_rng(seed)",
        pin=f"site:{event.site}" if event.site else "",
    )


def unwatched(case: Case) -> Iterator[Suspect]:
    """Without draws on the tape: generators whose states differ at the end of the first step."""
    symptom = case.symptom
    if symptom is None or any(True for _ in case.tapes[0].of("draw", "seed")):
        return
    for generator, (one, two) in case.pair.states(1).items():
        if one != two:
            what = f"the generator {generator} is in another state at the end of step 1"
            advice = "seed it; record again without --fast to see the line"
            pin = f"seed:{generator}" if is_global(generator) else ""
            cause = Cause(kind="generator", what=what, advice=advice, pin=pin, process=symptom.process)
            yield Suspect(rank=25.0 if generator == "torch" else 25.5, cause=cause)
