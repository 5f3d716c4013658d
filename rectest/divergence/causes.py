"""From the fault of a generator to a sentence: what happened, where, and what to change there."""

from __future__ import annotations

from rectest.divergence.finding import Cause
from rectest.divergence.sources import CREATED, ENTROPY, EXTRA, GLOBAL, UNSEEDED, VALUE, Fault
from rectest.divergence.tapes import Event, Tape

__all__ = [
    "STRONG_ENTROPY",
    "cause_of",
    "entropy_before",
    "function_of",
    "generator_text",
    "in_package",
    "is_randomness",
    "step_of",
]

_NAMES = {
    "random": "Python's global generator (random)",
    "numpy": "NumPy's global generator",
    "torch": "torch's global generator",
}
_OWN = {"random": "random.Random", "numpy": "NumPy generator", "torch": "torch.Generator"}
_SEED = {
    "random": "call random.seed(seed) at the start, or draw from a random.Random(seed) of its own",
    "numpy": "draw from a generator of its own, numpy.random.default_rng(seed), or call numpy.random.seed(seed) "
    "at the start",
    "torch": "call torch.manual_seed(seed) at the start, or pass generator=torch.Generator().manual_seed(seed)",
}
_SEED_OWN = {
    "random": "seed it: random.Random(seed)",
    "numpy": "seed it: numpy.random.default_rng(seed)",
    "torch": "seed it: torch.Generator().manual_seed(seed)",
}
STRONG_ENTROPY = ("os.urandom", "secrets", "random.SystemRandom")
"""Randomness by its name; other entropy is a clock, an id or a uuid."""

_SAME_CALL = 8
"""How many events before a seed are searched for the clock or the uuid that it was made of."""


def generator_text(name: str) -> str:
    """A generator in words.

    >>> generator_text("numpy"), generator_text("numpy@sampler.py:12#1")
    ("NumPy's global generator", 'the NumPy generator made at sampler.py:12')
    """
    library, _, place = name.partition("@")
    if place:
        site, _, number = place.partition("#")
        which = f" (number {number} made there)" if number not in ("", "1") else ""
        return f"the {_OWN.get(library, library)} made at {site}{which}"
    return _NAMES.get(name, f"the generator {name}")


def library_of(name: str) -> str:
    """``random``, ``numpy`` or ``torch``; CUDA generators are torch's."""
    library = name.partition("@")[0].partition("#")[0]
    return "torch" if library.startswith("cuda") else library


def function_of(site: str) -> str:
    """The function in a site, empty if it has none."""
    return site.rpartition(":")[2] if site.count(":") >= 2 else ""


def in_package(site: str) -> bool:
    """Whether a line belongs to an installed package, which names files and objects by chance, and not to the script.

    >>> in_package("site-packages/ray/actor.py:486:make"), in_package("train.py:3:main")
    (True, False)
    """
    return site.startswith(("site-packages/", "dist-packages/"))


def step_of(event: Event) -> int:
    """The step of an event, 0 before training."""
    return 0 if event.phase == "setup" else event.step


def cause_of(fault: Fault, read: Event | None, *, drawn_at: str, num_draws: int) -> Cause:
    """The cause in a generator's fault.

    Args:
        fault: where its stream parts.
        read: the clock or the entropy that a seed in it was made of; None if none is known.
        drawn_at: the line that draws from it.
        num_draws: how many numbers that line drew.
    """
    name, library = generator_text(fault.generator), library_of(fault.generator)
    if fault.kind == EXTRA:
        return _extra(fault, name)
    seeding = fault.kind in (CREATED, ENTROPY, VALUE)
    site = _seeded_at(fault, read) if seeding and fault.event.site else drawn_at
    pin = f"site:{site}" if seeding and fault.event.site else ""
    if not pin and fault.kind in (UNSEEDED, ENTROPY, VALUE):
        pin = f"seed:{library}"
    kind = "seed" if fault.kind in (ENTROPY, VALUE) else "generator"
    return Cause(
        kind=kind,
        what=_what(fault, name, library, read),
        site=site,
        drawn_at=drawn_at if drawn_at != site else "",
        num_draws=num_draws,
        step=step_of(fault.event),
        process=fault.process,
        advice=_advice(fault, library),
        pin=pin,
    )


def _seeded_at(fault: Fault, read: Event | None) -> str:
    """The line where the seed's value enters: of the clock that was read for it, if a function was called with it."""
    return read.site if fault.kind == VALUE and read is not None and read.site else fault.event.site


def _what(fault: Fault, name: str, library: str, read: Event | None) -> str:
    if fault.kind == UNSEEDED:
        if fault.seeded_later:
            return f"{name} is drawn from before it is seeded (at {fault.seeded_later})"
        return f"{name} is never seeded: it starts from the operating system's entropy"
    if fault.kind == CREATED:
        return f"a {_OWN.get(library, library)} is made without a seed"
    source = f", read from {read.name}" if read else ""
    if fault.kind == ENTROPY:
        return f"{name} is reseeded from the operating system's entropy{source}"
    if fault.kind == VALUE:
        one, two = fault.event.info.get("value"), fault.other.info.get("value") if fault.other else None
        if one == fault.event.digest:
            return f"{name} starts from a state that was copied or restored from elsewhere, and that differs"
        return f"{name} is seeded with {one} and {two}{source}"
    return f"{name} had been moved by another amount, by a call that is not watched"


def _advice(fault: Fault, library: str) -> str:
    if fault.kind == CREATED:
        return _SEED_OWN.get(library, "seed it")
    if fault.kind in (ENTROPY, VALUE):
        return "seed it with a number that is the same in every run, not with a clock, an id or entropy"
    if fault.kind == UNSEEDED and fault.seeded_later:
        return f"seed it before this line: move {fault.seeded_later} up"
    return _SEED.get(library, "seed it")


def _extra(fault: Fault, name: str) -> Cause:
    event, function = fault.event, function_of(fault.event.site)
    place = f" in {function}" if function and function != "<module>" else ""
    only = f"only in the {('first', 'second')[fault.run]} run"
    if event.kind == "seed":
        return _extra_seed(fault, f"{name} is seeded or restored{place}, {only}")
    if fault.other is not None and not fault.count:
        what = f"{event.name}{place} takes another amount from {name} in each run"
    elif fault.other is not None:
        what = f"{event.info.get('count', 0)} and {fault.other.info.get('count', 0)} draws from {name}{place}"
    else:
        number = "1 draw" if fault.count == 1 else f"{fault.count} draws"
        what = f"{number} from {name}{place}, {only}"
    return Cause(
        kind="extra_draws",
        what=what,
        site=event.site,
        num_draws=fault.count,
        step=step_of(event),
        process=fault.process,
        advice="give this line a generator of its own, or save the state before it and restore it afterwards",
    )


def _extra_seed(fault: Fault, what: str) -> Cause:
    event = fault.event
    return Cause(
        kind="seed",
        what=what,
        site=event.site,
        step=step_of(event),
        process=fault.process,
        advice="seed it in every run alike, with the same number",
        pin=f"site:{event.site}" if event.site else "",
    )


def entropy_before(tape: Tape, place: int, site: str) -> Event | None:
    """The clock or the entropy that was read for the seed at a place.

    It was read in the same function just before, or by whoever called it: nothing but seeds came in between.
    """
    only_seeds = True
    for event in reversed(tape.events[max(0, place - _SAME_CALL) : max(place, 0)]):
        if event.kind == "entropy" and (only_seeds or _same_function(event.site, site)):
            return event
        only_seeds = only_seeds and event.kind in ("seed", "entropy")
    return None


def _same_function(one: str, two: str) -> bool:
    return bool(one) and (one.partition(":")[0], function_of(one)) == (two.partition(":")[0], function_of(two))


def is_randomness(event: Event) -> bool:
    """Whether the script's own lines read randomness: a clock, an id or a uuid is rarely what training draws from."""
    return event.name.startswith(STRONG_ENTROPY) and not in_package(event.site)


def is_global(name: str) -> bool:
    """Whether a generator is one that the whole process shares."""
    return name in GLOBAL or name.startswith("cuda")
