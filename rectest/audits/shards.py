"""Which files are the parts of one table: a list, a folder, ``x-00001-of-00004``, or a ``.index.json``.

Owns file names and their order. What the files hold is read elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from rectest.errors import DataError

__all__ = ["natural_key", "part_paths"]

ONE_OF_MANY = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<total>\d+)(?P<suffix>\.\w+)")
INDEX = ".index.json"


def part_paths(path: str | Path | Sequence[str | Path], *, suffixes: Sequence[str]) -> list[Path]:
    """The files to read, in natural order (``part-2`` before ``part-10``).

    Raises:
        DataError: a file or a part is missing, a folder holds no series, or it is a distributed checkpoint.
    """
    if not isinstance(path, str | Path):
        if not path:
            raise DataError("no file was given")
        return sorted((_existing(Path(part), suffixes) for part in path), key=natural_key)
    path = Path(path)
    if path.is_dir():
        return _parts_of_folder(path, suffixes)
    if path.name.endswith(INDEX):
        return _parts_of_index(path, suffixes)
    if match := ONE_OF_MANY.fullmatch(path.name):
        return _siblings(path, match, suffixes)
    return [_existing(path, suffixes)]


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sorts numbers in a path by their value.

    >>> sorted([Path("p10.npy"), Path("p9.npy")], key=natural_key)[0].name
    'p9.npy'
    """
    pieces = re.split(r"(\d+)", str(path))
    return tuple((1, int(piece), piece) if piece.isdecimal() else (0, 0, piece) for piece in pieces)


def _existing(path: Path, suffixes: Sequence[str]) -> Path:
    if path.is_dir():
        msg = "it is a folder, and a list of parts names files"
        raise DataError(msg, path=path)
    if not path.exists():
        raise DataError("there is no such file", path=path)
    if path.suffix.lower() not in suffixes:
        msg = f"{path.suffix or 'no suffix'} is no table; known are {', '.join(suffixes)}"
        raise DataError(msg, path=path)
    return path


def _siblings(path: Path, match: re.Match[str], suffixes: Sequence[str]) -> list[Path]:
    """All parts of the series that this file says it is one of; part 1 may be numbered 0."""
    total, width = int(match["total"]), len(match["number"])
    names = {
        first: [
            f"{match['stem']}-{n:0{width}}-of-{match['total']}{match['suffix']}" for n in range(first, first + total)
        ]
        for first in (1, 0)
    }
    chosen = names[0] if path.with_name(names[0][0]).exists() else names[1]
    missing = [name for name in chosen if not path.with_name(name).exists()]
    if missing:
        problem = f"{len(missing)} of {total} parts are missing, the first is {missing[0]}"
        hint = "name the parts that are there, or rename a copy of one to audit it alone"
        raise DataError(problem, path=path, hint=hint)
    return [_existing(path.with_name(name), suffixes) for name in chosen]


def _parts_of_index(path: Path, suffixes: Sequence[str]) -> list[Path]:
    try:
        files = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except OSError as error:
        msg = f"cannot be read ({error.strerror or error})"
        raise DataError(msg, path=path) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        msg = "it is no index of shards: a JSON object with a weight_map is needed"
        raise DataError(msg, path=path) from None
    if not files or not all(isinstance(name, str) and Path(name).name == name for name in files):
        msg = "its weight_map does not name files beside it"
        raise DataError(msg, path=path)
    return sorted((_existing(path.with_name(name), suffixes) for name in files), key=natural_key)


def _parts_of_folder(path: Path, suffixes: Sequence[str]) -> list[Path]:
    try:
        entries = sorted(path.iterdir(), key=natural_key)
    except OSError as error:
        msg = f"cannot be read ({error.strerror or error})"
        raise DataError(msg, path=path) from None
    if any(entry.name == ".metadata" for entry in entries):
        hint = f"convert it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {path} table.pt"
        msg = "it is a distributed checkpoint, whose index is a pickle"
        raise DataError(msg, path=path, hint=hint)
    indices = [entry for entry in entries if entry.name.endswith(INDEX)]
    if len(indices) == 1:
        return _parts_of_index(indices[0], suffixes)
    files = [entry for entry in entries if entry.is_file() and entry.suffix.lower() in suffixes]
    series = {re.sub(r"\d+", "#", file.name) for file in files}
    if len(series) != 1:
        found = ", ".join(sorted(series)[:5]) or "none"
        msg = f"a folder must hold the parts of one table; found {found}"
        raise DataError(msg, path=path, hint="name the files")
    _require_no_gap(files)
    return files


def _require_no_gap(files: Sequence[Path]) -> None:
    """The numbers that vary from name to name must count up one by one."""
    numbers = [[int(text) for text in re.findall(r"\d+", file.name)] for file in files]
    varying = [place for place in range(len(numbers[0])) if len({row[place] for row in numbers}) > 1]
    if len(varying) != 1:
        return
    counted = [row[varying[0]] for row in numbers]
    for file, before, number in zip(files[1:], counted, counted[1:], strict=False):
        if number != before + 1:
            msg = f"part {before + 1} is missing before it"
            raise DataError(msg, path=file)
