"""The causes of a symptom, the likeliest first; and, for runs that do not part, what differed and reached nothing.

Files, orders and queues are judged here, random numbers in `drawn`, arithmetic in `computed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rectest.divergence import upstream
from rectest.divergence.case import DATA, Case, Suspect
from rectest.divergence.causes import cause_of, in_package, step_of
from rectest.divergence.computed import arithmetic, environment
from rectest.divergence.drawn import entropy, entropy_cause, generators, is_package_name, num_draws, unwatched
from rectest.divergence.finding import Cause
from rectest.divergence.sources import POPULATION, SEEDING
from rectest.divergence.tapes import Event

__all__ = ["harmless", "suspects"]

_MOST_CAUSES = 6
_MOST_HARMLESS = 20
_CLEAR, _VAGUE, _FAR = 20.0, 30.0, 40.0
"""With a clear suspect, vague ones are not named; far ones only if there is no other."""


def suspects(case: Case) -> list[Suspect]:
    """Possible causes of a symptom, the likeliest first."""
    numbers = [*generators(case), *entropy(case)]
    found = [
        *numbers,
        *_files(case, told=any(_tells(suspect, case) for suspect in numbers)),
        *_orders(case),
        *_queues(case),
        *environment(case),
        *arithmetic(case),
        *unwatched(case),
    ]
    found.sort(key=lambda suspect: suspect.rank)
    limit = _FAR if not found or found[0].rank >= _CLEAR else _VAGUE
    near = [suspect for suspect in found if suspect.rank < limit] or found
    return list({(s.cause.kind, s.cause.site, s.cause.what): s for s in reversed(near)}.values())[::-1][:_MOST_CAUSES]


def _tells(suspect: Suspect, case: Case) -> bool:
    """Whether a generator of the training process explains itself: nothing that was read needs to."""
    fault = suspect.fault
    own = fault is not None and fault.kind in SEEDING and fault.process == case.pair.process
    return own and suspect.rank < _CLEAR


def _files(case: Case, *, told: bool) -> Iterator[Suspect]:
    symptom = case.symptom
    if symptom is None or symptom.kind == "rng":
        return
    runs = case.first.tapes, case.second.tapes
    left = upstream.leftovers(runs, case.pair.process, case.limits)
    for leftover in left:
        near = leftover.place > symptom.since[leftover.run] or case.at_start
        rank = (9.0 if not told else 14.0) if leftover.written else 35.0
        if leftover.checkpoint and leftover.written:
            rank -= 0.5
        yield Suspect(rank=rank + (0 if near else 15.0), cause=leftover.cause, leftover=leftover)
    known = {leftover.cause.what.split(" reads ")[-1].split(",")[0] for leftover in left}
    for place, cause in upstream.changed_files(runs, case.pair.process, case.limits, known):
        near = place > symptom.since[0] or case.at_start
        yield Suspect(rank=23.0 if near else 38.0, cause=cause)


def _orders(case: Case) -> Iterator[Suspect]:
    symptom = case.symptom
    if symptom is None or symptom.kind == "rng":
        return
    far = 0.0 if symptom.kind in (*DATA, "init") and (case.at_start or _population(case)) else 15.0
    for place, cause in upstream.orders(case.tapes, case.limits):
        yield Suspect(rank=20.0 + far + (0.5 if place <= symptom.since[0] else 0.0), cause=cause)
    for _, followed, cause in upstream.listings(case.tapes, case.limits):
        yield Suspect(rank=(21.0 if followed else 33.0) + far, cause=cause)
    one, two = upstream.hash_seeds(case.tapes)
    if one == two:
        return
    hashes = [event for _, event, _ in upstream.differing(case.tapes, case.limits, "hash")]
    hashed = min(hashes, key=lambda event: in_package(event.site), default=None)
    if hashed is not None:
        what = "hash() of a string is another number in every process"
        cause = upstream.hash_order(hashed, what, advice="use a digest: zlib.crc32(text.encode()), hashlib.blake2b")
        yield Suspect(rank=(32.0 if in_package(hashed.site) else 22.0) + far, cause=cause)
    if symptom.kind in (*DATA, "init"):
        what = f"strings hash differently (PYTHONHASHSEED {one} and {two}), so sets of strings iterate in another order"
        advice = "sort what comes out of a set of strings before ids are assigned: sorted(set(items))"
        drawn = next((fault.event.site for fault in case.faults if fault.kind == POPULATION), "")
        cause = replace(upstream.hash_order(None, what, advice=advice), drawn_at=drawn)
        yield Suspect(rank=(19.0 if _renamed(case) else 30.0) + far, cause=cause)


def _renamed(case: Case) -> bool:
    """Whether the first step has the same examples under other ids: some of its fields are equal, and say something."""
    symptom = case.symptom
    equal = symptom is not None and case.at_start and symptom.kind == "batch" and len(symptom.equal_fields) > 1
    return equal and symptom is not None and len(symptom.names) > 1


def _population(case: Case) -> bool:
    """Whether an equal draw had another result: what is drawn from differs."""
    return any(fault.kind == POPULATION for fault in case.faults)


def _queues(case: Case) -> Iterator[Suspect]:
    symptom = case.symptom
    if symptom is None or symptom.kind not in DATA:
        return
    many = (e for _, e, _ in upstream.differing(case.tapes, case.limits, "queue") if e.info.get("producers", 2) != 1)
    event = next(many, None)
    started = [e for e in case.tapes[0].events[: case.limits[0]] if e.kind == "process"]
    # a program that a package asks for something feeds nobody
    children = [e for e in started if e.info.get("how") != "Popen"] or started
    if event is None and case.overlap > 0.5 and len(children) > 1:
        event = children[0]
    if event is not None:
        yield Suspect(rank=15.0 if case.overlap > 0.5 else 16.0, cause=_queue(event, len(children)))


def _queue(event: Event, num_children: int) -> Cause:
    number = event.info.get("producers") or num_children or "several"
    return Cause(
        kind="queue",
        what=f"{number} processes hand over their work as it comes, and who is first is a matter of chance",
        site=event.site,
        step=step_of(event),
        advice="give every producer a queue of its own and read them in turn, or use one producer",
        pin="queue",
    )


def harmless(case: Case) -> tuple[Cause, ...]:
    """Sources that differ between two runs that agree."""
    found = []
    for fault in case.faults:
        tape = case.tapes_of(fault.process)[fault.run]
        if fault.uses and fault.kind != POPULATION and not is_package_name(fault, tape):
            use = fault.uses[0][1]
            num = num_draws(tape, use)
            found.append(cause_of(fault, case.read_for(fault), drawn_at=use.site, num_draws=num))
    entropy = {(e.name, e.site): e for _, e, _ in upstream.differing(case.tapes, case.limits, "entropy")}
    found += [entropy_cause(event, 1) for event in entropy.values()]
    found += [cause for _, cause in upstream.orders(case.tapes, case.limits)]
    found += [cause for _, _, cause in upstream.listings(case.tapes, case.limits)]
    runs, process = (case.first.tapes, case.second.tapes), case.pair.process
    found += [leftover.cause for leftover in upstream.leftovers(runs, process, case.limits)]
    found += [cause for _, cause in upstream.changed_files(runs, process, case.limits, set())]
    found += upstream.environment(case.tapes, case.limits)
    return tuple(dict.fromkeys(found))[:_MOST_HARMLESS]
