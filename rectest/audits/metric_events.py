"""Metrics out of TensorBoard event files, and which file of a log folder holds them.

TensorBoard is an extra; it is imported when an event file is read and not before.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from rectest.audits.metric_grid import Entry, Read, collected
from rectest.audits.metric_names import looks_like_a_metric, name_of
from rectest.errors import DataError, RectestError

__all__ = ["file_of_folder", "is_events", "read_events"]

_EVENTS = "events.out.tfevents"


def is_events(path: Path) -> bool:
    """Whether a file is called like an event file."""
    return _EVENTS in path.name


def file_of_folder(folder: Path) -> Path:
    """The file with the metrics of a log folder: ``metrics.csv``, else its event file.

    ``lightning_logs`` with one ``version_*`` is looked into; with several the user must name one.

    Raises:
        DataError: there is none, or more than one.
    """
    found = _files(folder)
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    while not found and inner:
        found = sorted(file for path in inner for file in _files(path))
        inner = sorted(path for each in inner for path in each.iterdir() if path.is_dir())
    if len(found) != 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found[:5])
        problem = f"it holds {len(found)} logs ({names})" if found else "it holds no metrics.csv and no event file"
        raise DataError(problem, path=folder, hint="name the file, or the folder of one run")
    return found[0]


def _files(folder: Path) -> list[Path]:
    table = folder / "metrics.csv"
    return [table] if table.is_file() else sorted(path for path in folder.iterdir() if is_events(path))


def read_events(path: Path) -> Read:
    """The scalars of an event file, a table for each step.

    Raises:
        RectestError: TensorBoard is not installed.
        DataError: the file has no event, or is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        except ImportError as e:
            msg = f"{path} is an event file, and TensorBoard is not installed: pip install 'rectest[tensorboard]'"
            raise RectestError(msg) from e
        accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
        try:
            accumulator.Reload()
            tags = accumulator.Tags()
            scalars = [(tag, list(accumulator.Scalars(tag))) for tag in tags["scalars"]]
        except Exception as e:
            problem = f"it cannot be read as TensorBoard events: {e}"
            raise DataError(problem, path=path) from e
    if not scalars:
        raise DataError("it holds no scalar", path=path, hint="was it cut off, or written by another run?")
    left_out = tuple(tag for tag, _ in scalars if name_of(tag) is None and looks_like_a_metric(tag))
    return collected(_entries(scalars), group="") + Read(left_out=left_out)


def _entries(scalars: list[tuple[str, list[object]]]) -> Iterator[Entry]:
    for tag, events in scalars:
        name = name_of(tag)
        for event in events if name is not None and name.measure else ():
            step, value = event.step, event.value  # type: ignore[attr-defined]
            if name is not None:
                yield Entry(name=name, k=None, text=repr(float(value)), label=f"step {step}", series=True)
