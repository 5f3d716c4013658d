"""Sources of difference that are no generators: orders, listings, files, queues, environments, kernels.

Each function lists what differs between two runs before a place; how likely it is the cause is for `suspects`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rectest.divergence.causes import step_of
from rectest.divergence.finding import Cause
from rectest.divergence.tapes import Event, Tape

__all__ = ["Leftover", "changed_files", "differing", "environment", "hash_seeds", "leftovers", "listings", "orders"]

Limits = tuple[int, int]

_IGNORED = ("hash_seed", "argv", "prefix", "executable", "pid", "capture_error", "PYTHONHASHSEED", "PYTHONPATH")
_THREADS = ("threads", "interop", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_CHECKPOINT_WORDS = re.compile(
    r"checkpoint|ckpt|resume|snapshot|(^|[/_.-])(last|best|latest|state|model)([/_.-]|$)", re.I
)
_CHECKPOINT_ENDS = (".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".h5", ".model")


def differing(tapes: tuple[Tape, Tape], limits: Limits, kind: str) -> Iterator[tuple[int, Event, Event]]:
    """Events of a kind, paired by name and line in their order, whose content differs; the place is the first run's."""
    theirs: dict[tuple[str, str], list[Event]] = {}
    for event in tapes[1].events[: limits[1]]:
        if event.kind == kind:
            theirs.setdefault((event.name, event.site), []).append(event)
    for place, event in enumerate(tapes[0].events[: limits[0]]):
        if event.kind == kind and (waiting := theirs.get((event.name, event.site))):
            other = waiting.pop(0)
            if other.digest != event.digest:
                yield place, event, other


def orders(tapes: tuple[Tape, Tape], limits: Limits) -> Iterator[tuple[int, Cause]]:
    """Sets of strings that were iterated in another order."""
    seen: set[str] = set()
    for place, event, _ in differing(tapes, limits, "order"):
        if event.site not in seen:
            seen.add(event.site)
            yield place, hash_order(event, f"{event.name} is iterated in an order that changes with PYTHONHASHSEED")


def hash_order(event: Event | None, what: str, *, advice: str = "sort it: sorted(set(items))") -> Cause:
    """The cause for an order or a value that hashing decides."""
    site, step = (event.site, step_of(event)) if event else ("", 0)
    return Cause(kind="hash_order", what=what, site=site, step=step, advice=advice, pin="hash")


def hash_seeds(tapes: tuple[Tape, Tape]) -> tuple[Any, Any]:
    """PYTHONHASHSEED of both runs, None if unknown."""
    found = [
        next((e.info["hash_seed"] for e in tape.of("environment") if "hash_seed" in e.info), None) for tape in tapes
    ]
    return found[0], found[1]


def listings(tapes: tuple[Tape, Tape], limits: Limits) -> Iterator[tuple[int, bool, Cause]]:
    """Directories whose names came in another order, and whether files were then opened in another order, too."""
    seen: set[str] = set()
    for place, event, _ in differing(tapes, limits, "listing"):
        if event.site in seen or event.info.get("sorted_after"):
            continue
        seen.add(event.site)
        opened = [_opened(tape, limit, event.name) for tape, limit in zip(tapes, limits, strict=True)]
        cause = Cause(
            kind="listing",
            what=f"the names in {event.name} are used in the order in which the file system lists them",
            site=event.site,
            step=step_of(event),
            advice="sort them: sorted(os.listdir(folder)), sorted(folder.glob(pattern))",
            pin="listing",
        )
        yield place, opened[0] != opened[1] or not opened[0], cause


def _opened(tape: Tape, limit: int, folder: str) -> list[str]:
    inside = "" if folder in (".", "") else folder.rstrip("/") + "/"
    return [e.name for e in tape.events[:limit] if e.kind == "file" and e.name.startswith(inside)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """A file that one run read and the other had written, or did not have."""

    cause: Cause
    place: int
    """Where it was read, in the tape of the run that read it."""

    run: int
    written: bool
    """Whether the other run is known to have written it."""

    checkpoint: bool
    """Whether its name says that it is a checkpoint."""

    maybe_checkpoint: bool
    """Whether its suffix allows for one."""


def leftovers(runs: tuple[Mapping[str, Tape], Mapping[str, Tape]], process: str, limits: Limits) -> list[Leftover]:
    """Files read in one run only, or read with the content that the other run left."""
    tapes = runs[0][process], runs[1][process]
    reads = [_reads(tape, limit) for tape, limit in zip(tapes, limits, strict=True)]
    written = [{e.name for t in run.values() for e in t.of("file") if _writes(e)} for run in runs]
    found = []
    for run in (1, 0):
        for name, (place, event) in reads[run].items():
            other = reads[1 - run].get(name)
            by_other = name in written[1 - run]
            if _made_anew(runs[run], process, name) is not None:
                continue
            if (other is None) if not by_other else (other is None or (run == 1 and other[1].digest != event.digest)):
                found.append(_leftover(place, event, run, written=by_other))
    return sorted(found, key=lambda leftover: (not leftover.written, leftover.place))


def _made_anew(run: Mapping[str, Tape], process: str, name: str) -> Event | None:
    """Where a file is written in the very run that reads it, by a preparation: a process that does not train."""
    others = (tape for key, tape in run.items() if key != process and not tape.num_steps)
    return next((event for tape in others for event in tape.of("file") if event.name == name and _writes(event)), None)


def _reads(tape: Tape, limit: int) -> dict[str, tuple[int, Event]]:
    """First reads of files that the process had not written itself."""
    own: set[str] = set()
    found: dict[str, tuple[int, Event]] = {}
    for place, event in enumerate(tape.events[:limit]):
        if event.kind == "file":
            if _writes(event):
                own.add(event.name)
            elif event.name not in own:
                found.setdefault(event.name, (place, event))
    return found


def _writes(event: Event) -> bool:
    return event.info.get("mode") == "w"


def _leftover(place: int, event: Event, run: int, *, written: bool) -> Leftover:
    which, other = ("first", "second")[run], ("first", "second")[1 - run]
    source = f"which the {other} run had written" if written else f"which the {other} run does not read"
    cause = Cause(
        kind="file",
        what=f"the {which} run reads {event.name}, {source}",
        site=event.site,
        step=step_of(event),
        advice="start every run from an empty output folder, and read such a file only when asked to",
        pin="pristine" if written else "",
    )
    words = _CHECKPOINT_WORDS.search(event.name) is not None
    suffix = event.name.lower().endswith(_CHECKPOINT_ENDS)
    return Leftover(cause=cause, place=place, run=run, written=written, checkpoint=words, maybe_checkpoint=suffix)


def changed_files(
    runs: tuple[Mapping[str, Tape], Mapping[str, Tape]], process: str, limits: Limits, known: set[str]
) -> Iterator[tuple[int, Cause]]:
    """Files that both runs read with other content; `known` are those explained otherwise."""
    reads = [_reads(run[process], limit) for run, limit in zip(runs, limits, strict=True)]
    for name, (place, event) in reads[0].items():
        other = reads[1].get(name)
        if other is None or other[1].digest == event.digest or name in known:
            continue
        maker = _made_anew(runs[1], process, name)
        what = f"{name} has other content in the second run"
        if maker is None:
            advice, pin = "give both runs the same file", "pristine"
            yield place, Cause(kind="file", what=what, site=event.site, step=step_of(event), advice=advice, pin=pin)
        else:
            what, advice = f"{what}; each run writes it here", "make this script write the same in every run"
            yield place, Cause(kind="file", what=what, site=maker.site, drawn_at=event.site, advice=advice)


def environment(tapes: tuple[Tape, Tape], limits: Limits) -> list[Cause]:
    """Settings, versions and threads that differ when the runs part."""
    one, two = (_settings(tape, limit) for tape, limit in zip(tapes, limits, strict=True))
    found = []
    for key in one:
        if key in two and one[key] != two[key]:
            threads = key in _THREADS
            found.append(
                Cause(
                    kind="threads" if threads else "environment",
                    what=f"{key} is {one[key]} in the first run and {two[key]} in the second",
                    advice="run with equal numbers of threads: torch.set_num_threads(1), OMP_NUM_THREADS=1"
                    if threads
                    else f"run both with the same {key}",
                    pin="threads" if threads else "",
                )
            )
    return sorted(found, key=lambda cause: cause.kind != "threads")


def _settings(tape: Tape, limit: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for event in tape.events[:limit]:
        if event.kind == "environment":
            for key, value in event.info.items():
                found.update(value if isinstance(value, dict) else {key: value})
    return {key: value for key, value in found.items() if key not in _IGNORED and not key.startswith("RECTEST")}


def setting(tape: Tape, limit: int, key: str) -> Any:
    """The value of one setting when the runs part, None if unknown."""
    return _settings(tape, limit).get(key)
