"""What is compared with what: the benchmarks that both trees can run, and what is said of the others.

The same benchmark file serves both sides. Where the head's file does not run on the base, which had a file of its own
under that name, each side keeps its own: the benchmark moved with the code that it calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from rectest.benchmarks.child import How, Lost
from rectest.benchmarks.results import Comparison, State
from rectest.benchmarks.settings import Settings
from rectest.benchmarks.survey import Listing, Seen, listed, surveyed
from rectest.benchmarks.trees import Overlay, Tree

__all__ = ["Plan", "Subject", "planned"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A benchmark that runs on both sides."""

    name: str
    limit: float
    base: Seen
    head: Seen
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Before:
    """What the base has by itself."""

    names: frozenset[str] = frozenset()
    broken: Mapping[str, str] = field(default_factory=dict)
    """Its files of benchmarks that it cannot collect, and why: what is in them is not known."""

    problem: str = ""
    """Why nothing at all is known."""

    def expects(self, name: str) -> bool:
        """Whether the base has the benchmark, or may have it."""
        return bool(self.problem) or name in self.names or _file(name) in self.broken


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a survey of both trees gave."""

    subjects: Mapping[str, Subject]
    settled: tuple[Comparison, ...]
    """Of benchmarks that are not compared, and why."""

    notes: tuple[str, ...] = ()


def planned(
    base: Tree,
    head: Tree,
    how: How,
    *,
    settings: Settings,
    paths: Sequence[str],
    own: bool,
    say: Callable[[str], None],
    rng: Random,
) -> Plan:
    """Survey both trees, the head's benchmark files laid over the base's unless `own`.

    Raises:
        Lost: pytest could not collect in the head.
    """
    asked = [*(paths or settings.paths)]
    say("looking at the benchmarks of the head")
    listing, seen = surveyed(head, how, paths=asked, rng=rng)
    seen = {name: found for name, found in seen.items() if not settings.ignores(name)}
    say("looking at the benchmarks of the base")
    before = _before(base, how, paths=asked, rng=rng)
    runs = [name for name, found in seen.items() if not found.problem]
    on_base, swapped = _on_base(base, head, how, names=runs, before=before.names, own=own, rng=rng)
    subjects = {
        name: Subject(
            name=name,
            limit=settings.limit_of(name, own=seen[name].limit),
            base=on_base[name],
            head=seen[name],
            note=_note(on_base[name], seen[name], swapped=_file(name) in swapped),
        )
        for name in runs
        if name in on_base and not on_base[name].problem
    }
    settled = [
        *_of_head(listing, seen, settings),
        *_not_on_base([name for name in runs if name not in subjects], on_base, before),
        *_vanished(before.names, listing, settings),
        *_unknown(before, head, settings),
    ]
    return Plan(subjects=subjects, settled=tuple(settled), notes=tuple(_notes(before)))


def _before(base: Tree, how: How, *, paths: Sequence[str], rng: Random) -> _Before:
    """The benchmarks that the base has by itself."""
    present = [path for path in paths if (base.project / path.partition("::")[0]).exists()]
    if paths and not present:
        return _Before()
    try:
        # Whole files: a test that the base has not would end pytest there, and it is no error that it is new.
        found = listed(base, how, paths=list(dict.fromkeys(map(_file, present))), rng=rng)
    except Lost as e:
        return _Before(problem=str(e))
    names = frozenset(name for name in (*found.names, *found.deselected) if _is_asked(name, present))
    return _Before(names=names, broken=_by_file(found.errors))


def _is_asked(name: str, paths: Sequence[str]) -> bool:
    """Whether a benchmark is one of `paths`, where these name single tests of its file."""
    tests = [path for path in paths if "::" in path and _file(path) == _file(name)]
    whole = not tests or any("::" not in path and _contains(path, name) for path in paths)
    return whole or any(name == test or name.startswith((f"{test}::", f"{test}[")) for test in tests)


def _contains(path: str, name: str) -> bool:
    return path == "." or _file(name) == path or _file(name).startswith(f"{path.rstrip('/')}/")


def _by_file(errors: Mapping[str, str]) -> dict[str, str]:
    return {_file(name): text for name, text in errors.items()}


def _notes(before: _Before) -> Iterable[str]:
    if before.problem:
        yield f"what the base has by itself is not known, so nothing can be called vanished: {before.problem}"
    for name, text in before.broken.items():
        yield f"{name} of the base cannot be collected: {_first(text)}"


def _note(base: Seen, head: Seen, *, swapped: bool) -> str:
    if swapped:
        return "each side ran its own benchmark file"
    if base.own or head.own:
        return ""
    return "until it ended nothing of the project but tests was imported: both sides may have run the same code"


def _on_base(
    base: Tree, head: Tree, how: How, *, names: Sequence[str], before: frozenset[str], own: bool, rng: Random
) -> tuple[dict[str, Seen], set[str]]:
    """What becomes of the head's benchmarks on the base, and the files for which the base's own had to do."""
    if own:
        return _surveyed(base, how, names=[name for name in names if name in before], rng=rng), set()
    overlay = Overlay(base=base.project, head=head.project)
    overlay.lay(dict.fromkeys(map(_file, names)))
    found = _surveyed(base, how, names=names, rng=rng)
    failed = [name for name in names if name in before and (name not in found or found[name].problem)]
    swapped = {file for file in map(_file, failed) if overlay.had(file)}
    for file in swapped:
        overlay.take_back(file)
    again = [name for name in names if _file(name) in swapped]
    kept = {name: seen for name, seen in found.items() if _file(name) not in swapped}
    return {**kept, **_surveyed(base, how, names=[name for name in again if name in before], rng=rng)}, swapped


def _surveyed(tree: Tree, how: How, *, names: Sequence[str], rng: Random) -> dict[str, Seen]:
    """As `surveyed`; a file that cannot be collected is a problem of each of its benchmarks."""
    if not names:
        return {}
    files = list(dict.fromkeys(map(_file, names)))
    try:
        listing, seen = surveyed(tree, how, paths=files, names=names, rng=rng)
    except Lost as e:
        return {name: Seen(problem=str(e)) for name in names}
    errors = _by_file(listing.errors)
    missing = {
        name: Seen(problem=errors.get(_file(name), f"the {tree.side} does not collect it"))
        for name in names
        if name not in seen
    }
    return {**missing, **seen}


def _of_head(listing: Listing, seen: Mapping[str, Seen], settings: Settings) -> Iterable[Comparison]:
    """What the head was asked for and does not give."""
    for name, found in seen.items():
        if found.problem:
            yield _not_measured(name, f"on the head: {found.problem}")
    for name in listing.deselected:
        if not settings.ignores(name):
            yield _not_measured(name, "left out by a marker, an option or a conftest of the head")
    for name, text in listing.errors.items():
        if not settings.ignores(name):
            yield _not_measured(name, f"the head cannot collect it: {text}")


def _not_on_base(names: Iterable[str], on_base: Mapping[str, Seen], before: _Before) -> Iterable[Comparison]:
    for name in names:
        found = on_base.get(name, Seen(problem="the base has none"))
        problem = found.problem
        # To fail for want of what only the head has is no finding; what the base has, or may have, was not compared.
        if found.foreign or before.expects(name):
            yield _not_measured(name, f"on the base: {problem}")
        else:
            detail = f"not comparable: on the base: {_first(problem)}"
            yield Comparison(name=name, time=State.NEW, detail=detail)


def _vanished(before: frozenset[str], listing: Listing, settings: Settings) -> Iterable[Comparison]:
    # A file that the head cannot collect is red already, and says nothing of what is in it.
    broken = {_file(name) for name in listing.errors}
    for name in sorted(before.difference(listing.names, listing.deselected)):
        if settings.ignores(name) or settings.knows_removed(name) or _file(name) in broken:
            continue
        yield Comparison(
            name=name,
            time=State.VANISHED,
            detail="the base has it and the head has not; if that is meant, name it in [tool.rectest.bench] removed",
        )


def _unknown(before: _Before, head: Tree, settings: Settings) -> Iterable[Comparison]:
    """Files of the base that cannot be looked into, and that the head has no more: what vanished is not known."""
    for name, text in before.broken.items():
        if (head.project / name).exists() or settings.ignores(name) or settings.knows_removed(name):
            continue
        yield _not_measured(name, f"the head has no such file, and the base cannot collect it: {_first(text)}")


def _not_measured(name: str, detail: str) -> Comparison:
    return Comparison(name=name, time=State.NOT_MEASURED, detail=detail)


def _file(name: str) -> str:
    return name.partition("::")[0]


def _first(text: str) -> str:
    """The line of a failure that says most."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    return (errors or lines or [""])[-1]
