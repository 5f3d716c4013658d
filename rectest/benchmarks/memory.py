"""Whether a call needs more memory on the head than on the base, looked at twice before it is said.

How memory is taken is for the measured process (`inside/call.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from rectest.benchmarks.child import How, Lost
from rectest.benchmarks.compare import fatter
from rectest.benchmarks.plan import Subject
from rectest.benchmarks.results import State
from rectest.benchmarks.settings import Settings
from rectest.benchmarks.survey import Seen, surveyed
from rectest.benchmarks.trees import Tree

__all__ = ["memory_state", "seen_twice"]

_KINDS = ("peak_bytes", "device_peak_bytes")


def memory_state(subject: Subject, settings: Settings) -> State | None:
    """Whether a call needs more memory on the head, on the host or on a device; None where neither is known."""
    host = subject.base.peak_bytes, subject.head.peak_bytes
    device = subject.base.device_peak_bytes, subject.head.device_peak_bytes
    if device != (None, None):
        # Where one side uses no device, it needs nothing there; that is known, and the other's is more.
        device = device[0] or 0, device[1] or 0
    found = [
        fatter(base, head, limit=settings.memory_limit, least_bytes=settings.memory_least)
        for base, head in (host, device)
    ]
    return next((state for state in (State.FATTER, State.LEANER, State.PASS) if state in found), None)


def seen_twice(
    subjects: Mapping[str, Subject], trees: Sequence[Tree], how: How, *, settings: Settings, rng: Random
) -> dict[str, Subject]:
    """The subjects, with the least memory of two processes for those that are not alike in one.

    What a process does once and for all may fall into the calls that were looked at, in one of two processes.
    """
    names = [name for name, subject in subjects.items() if memory_state(subject, settings) not in (None, State.PASS)]
    if not names:
        return dict(subjects)
    files = list(dict.fromkeys(name.partition("::")[0] for name in names))
    again: dict[str, Mapping[str, Seen]] = {}
    for tree in trees:
        try:
            again[tree.side] = surveyed(tree, how, paths=files, names=names, rng=rng)[1]
        except Lost:
            again[tree.side] = {}
    return {
        name: replace(
            subject,
            base=_least(subject.base, again["base"].get(name)),
            head=_least(subject.head, again["head"].get(name)),
        )
        for name, subject in subjects.items()
    }


def _least(first: Seen, second: Seen | None) -> Seen:
    if second is None:
        return first
    host, device = (
        min((value for seen in (first, second) if (value := getattr(seen, kind)) is not None), default=None)
        for kind in _KINDS
    )
    return replace(first, peak_bytes=host, device_peak_bytes=device)
