"""MovieLens-100K: found in an installed or downloaded RecBole wheel, checked, cached, never shipped.

Its terms allow research use and forbid redistribution, so only the digests of its content are here. RecBole is opened
as a zip file and never imported. What is cached is the text of ``ml-100k.inter`` and, for the words of the items, of
``ml-100k.item``; the older ``u.data`` and ``u.item`` are turned into the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from rectest.data.movielens_words import item_text_of_uitem, read_film_words
from rectest.data.rawlog import index_log
from rectest.data.readers import read_inter
from rectest.data.world import World
from rectest.errors import DataError

__all__ = [
    "ML100K_ITEM_SHA256",
    "ML100K_SHA256",
    "WORDS_HINT",
    "data_dir",
    "fetch_ml100k",
    "film_file",
    "load_ml100k",
]

ML100K_SHA256 = "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
"""Of ``ml-100k.inter`` as in the wheel: a header and 100,000 rows."""

ML100K_ITEM_SHA256 = "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"
"""Of ``ml-100k.item`` as in the wheel: a header and 1,682 films."""

WORDS_HINT = "get the words of its films with: rectest data ml-100k"

_FILE = "ml-100k.inter"
_ITEM_FILE = "ml-100k.item"
_FOLDER = "recbole/dataset_example/ml-100k/"
_REQUIREMENT = "recbole==1.2.1"
_HEADER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
_SHAPE = (943, 1682, 100_000)
_BY_HAND = f"pass the path of {_FILE}, of u.data or of a {_REQUIREMENT} wheel"
_PIP_SECONDS = 300

_Contents = dict[str, bytes]
"""What a source holds, by the name in the cache: always the events, perhaps the films."""


def data_dir() -> Path:
    """Where real data is cached: ``$RECTEST_DATA``, else ``~/.cache/rectest``."""
    chosen = os.environ.get("RECTEST_DATA")
    return Path(chosen) if chosen else Path.home() / ".cache" / "rectest"


def load_ml100k(cache_dir: Path | None = None) -> World:
    """The cached data as a world of implicit events: every rating is an event, and stays as a column.

    943 users, 1,682 items (dense indices in numeric order of the raw ids, so item i has raw id str(i)), 100,000 rows
    in file order with a time each. Words of the items are there when the films are in the cache too (see
    `movielens_words`); the source says when they are not. DataError when the events are not in the cache or a file is
    not the same bytes any more.
    """
    folder = cache_dir or data_dir()
    path = folder / _FILE
    if not path.is_file():
        msg = "MovieLens-100K is not in the cache"
        raise DataError(msg, path=path, hint="get it with: rectest data ml-100k")
    _checked(path.read_bytes(), path)
    world = index_log(read_inter(path), name="ml-100k")
    shape = (world.num_users, world.num_items, len(world.interactions))
    if shape != _SHAPE:
        msg = f"holds {shape} users, items and rows, needed {_SHAPE}"
        raise DataError(msg, path=path)
    return _with_words(world, folder / _ITEM_FILE)


def _with_words(world: World, path: Path) -> World:
    if not path.is_file():
        return replace(world, source=f"{world.source}; no words of its films are cached, {WORDS_HINT}")
    _checked(path.read_bytes(), path)
    words = read_film_words(path)
    absent = [raw for raw in world.items.raws if raw not in words]
    if absent:
        msg = f"has no row for {len(absent)} of the films, {absent[0]} the first, needed all"
        raise DataError(msg, path=path)
    return replace(world, item_words=((), *(words[raw] for raw in world.items.raws)))


def fetch_ml100k(path: Path | None = None, cache_dir: Path | None = None) -> Path:
    """Put the data into the cache and return the path of its events there; good copies in the cache are used as is.

    With `path`, from there: a directory, a wheel, or one file, ``ml-100k.inter`` or ``u.data``. Otherwise from an
    installed RecBole, else from its wheel, downloaded with pip into a temporary directory. The films, from which the
    items' words come, are cached beside the events where the source has them. DataError says what failed; what was
    in the cache before stays.
    """
    folder = cache_dir or data_dir()
    if path is not None:
        contents = _from_path(path)
    elif all(_is_good(folder / name) for name in (_FILE, _ITEM_FILE)):
        return folder / _FILE
    else:
        contents = _from_installed() or _from_pip()
    for name, content in contents.items():
        _checked(content, folder / name, origin=path)
    for name, content in contents.items():
        _write(folder / name, content)
    return folder / _FILE


def film_file(events: Path) -> Path | None:
    """The cached films beside the cached events, or None where there are none."""
    path = events.with_name(_ITEM_FILE)
    return path if path.is_file() else None


def _needed(name: str) -> str:
    return ML100K_ITEM_SHA256 if name == _ITEM_FILE else ML100K_SHA256


def _is_good(path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == _needed(path.name)


def _checked(content: bytes, target: Path, *, origin: Path | None = None) -> None:
    """DataError unless these are the bytes that the cached file `target` must have; it names where they came from."""
    found, needed = hashlib.sha256(content).hexdigest(), _needed(target.name)
    if found != needed:
        what = f"the SHA-256 of its {target.name}" if origin is not None else "its SHA-256"
        msg = f"{what} is {found[:12]}..., needed {needed[:12]}...: damaged, or another version of the data"
        raise DataError(msg, path=origin or target, hint="fetch it anew with: rectest data ml-100k")


def _write(target: Path, content: bytes) -> None:
    """Atomically: a reader sees the old file or the whole new one, also when we are killed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        msg = f"cannot be written ({error.strerror or error})"
        raise DataError(msg, path=target, hint="choose another cache directory with RECTEST_DATA") from error


def _from_path(path: Path) -> _Contents:
    """What a directory, a file or a wheel holds."""
    if path.is_dir():
        return _from_folder(path)
    if not path.is_file():
        msg = "does not exist"
        raise DataError(msg, path=path, hint=_BY_HAND)
    return _from_wheel(path) if path.suffix in (".whl", ".zip") else {_FILE: _events(path)}


def _from_folder(folder: Path) -> _Contents:
    inside = [folder / name for name in (_FILE, "u.data") if (folder / name).is_file()]
    if not inside:
        msg = f"holds neither {_FILE} nor u.data"
        raise DataError(msg, path=folder, hint=_BY_HAND)
    contents = {_FILE: _events(inside[0])}
    if (folder / _ITEM_FILE).is_file():
        contents[_ITEM_FILE] = (folder / _ITEM_FILE).read_bytes()
    elif (folder / "u.item").is_file():
        contents[_ITEM_FILE] = item_text_of_uitem(folder / "u.item")
    return contents


def _events(path: Path) -> bytes:
    content = path.read_bytes()
    return _HEADER + content.replace(b"\r\n", b"\n") if path.name == "u.data" else content


def _from_wheel(path: Path) -> _Contents:
    try:
        with zipfile.ZipFile(path) as wheel:
            members = {_FILE, *(name for name in (_ITEM_FILE,) if _FOLDER + name in wheel.namelist())}
            return {name: wheel.read(_FOLDER + name) for name in sorted(members)}
    except KeyError as error:
        msg = f"has no member {_FOLDER + _FILE}"
        raise DataError(msg, path=path, hint=_BY_HAND) from error
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        msg = f"is no readable wheel ({error})"
        raise DataError(msg, path=path, hint="download it again") from error


def _from_installed() -> _Contents | None:
    """From an installed RecBole, by its metadata; None when there is none or it ships without the data."""
    try:
        folder = Path(str(metadata.distribution("recbole").locate_file(_FOLDER)))
    except metadata.PackageNotFoundError:
        return None
    return _from_folder(folder) if (folder / _FILE).is_file() else None


def _from_pip() -> _Contents:
    with tempfile.TemporaryDirectory(prefix="rectest-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--quiet", "--dest", folder, _REQUIREMENT]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            msg = f"pip could not download {_REQUIREMENT} ({error})"
            raise DataError(msg, hint=f"when offline, {_BY_HAND}") from error
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            msg = f"pip could not download {_REQUIREMENT} ({reason})"
            raise DataError(msg, hint=f"when offline, {_BY_HAND}")
        return _from_wheel(wheels[0])
