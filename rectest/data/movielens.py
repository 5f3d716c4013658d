"""MovieLens-100K: found in an installed or downloaded RecBole wheel, checked, cached, never shipped.

Its terms allow research use and forbid redistribution, so only the digest of its content is here. RecBole is opened
as a zip file and never imported. The one form that is cached is the text of ``ml-100k.inter``; a ``u.data`` file is
turned into the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

from rectest.data.rawlog import index_log
from rectest.data.readers import read_inter
from rectest.data.world import World
from rectest.errors import DataError

__all__ = ["ML100K_SHA256", "data_dir", "fetch_ml100k", "load_ml100k"]

ML100K_SHA256 = "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
"""Of ``ml-100k.inter`` as in the wheel: a header and 100,000 rows."""

_FILE = "ml-100k.inter"
_MEMBER = f"recbole/dataset_example/ml-100k/{_FILE}"
_REQUIREMENT = "recbole==1.2.1"
_HEADER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
_SHAPE = (943, 1682, 100_000)
_BY_HAND = f"pass the path of {_FILE}, of u.data or of a {_REQUIREMENT} wheel"
_PIP_SECONDS = 300


def data_dir() -> Path:
    """Where real data is cached: ``$RECTEST_DATA``, else ``~/.cache/rectest``."""
    chosen = os.environ.get("RECTEST_DATA")
    return Path(chosen) if chosen else Path.home() / ".cache" / "rectest"


def load_ml100k(cache_dir: Path | None = None) -> World:
    """The cached data as a world of implicit events: every rating is an event, and stays as a column.

    943 users, 1,682 items (dense indices in numeric order of the raw ids, so item i has raw id str(i)), 100,000 rows
    in file order with a time each. DataError when it is not in the cache or not the same bytes any more.
    """
    path = (cache_dir or data_dir()) / _FILE
    if not path.is_file():
        msg = "MovieLens-100K is not in the cache"
        raise DataError(msg, path=path, hint="get it with: rectest data ml-100k")
    _checked(path.read_bytes(), path)
    world = index_log(read_inter(path), name="ml-100k")
    shape = (world.num_users, world.num_items, len(world.interactions))
    if shape != _SHAPE:
        msg = f"holds {shape} users, items and rows, needed {_SHAPE}"
        raise DataError(msg, path=path)
    return world


def fetch_ml100k(path: Path | None = None, cache_dir: Path | None = None) -> Path:
    """Put the data into the cache and return its path there; a good copy in the cache is used as it is.

    With `path`, from there (a directory, ``ml-100k.inter``, ``u.data`` or a wheel). Otherwise from an installed
    RecBole, else from its wheel, downloaded with pip into a temporary directory. DataError says what failed.
    """
    target = (cache_dir or data_dir()) / _FILE
    if path is not None:
        content = _from_path(path)
    elif target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == ML100K_SHA256:
        return target
    else:
        content = _from_installed() or _from_pip()
    _checked(content, path or target)
    _write(target, content)
    return target


def _checked(content: bytes, origin: Path) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != ML100K_SHA256:
        msg = f"its SHA-256 is {found[:12]}..., needed {ML100K_SHA256[:12]}...: damaged, or another version of the data"
        raise DataError(msg, path=origin, hint="fetch it anew with: rectest data ml-100k")


def _write(target: Path, content: bytes) -> None:
    """Atomically: a reader sees the old file or the whole new one, also when we are killed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{_FILE}.")
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


def _from_path(path: Path) -> bytes:
    """The ``.inter`` bytes in a directory, file or wheel."""
    if path.is_dir():
        inside = [path / name for name in (_FILE, "u.data") if (path / name).is_file()]
        if not inside:
            msg = f"holds neither {_FILE} nor u.data"
            raise DataError(msg, path=path, hint=_BY_HAND)
        path = inside[0]
    if not path.is_file():
        msg = "does not exist"
        raise DataError(msg, path=path, hint=_BY_HAND)
    if path.suffix in (".whl", ".zip"):
        return _from_wheel(path)
    content = path.read_bytes()
    return _HEADER + content.replace(b"\r\n", b"\n") if path.name == "u.data" else content


def _from_wheel(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(_MEMBER)
    except KeyError as error:
        msg = f"has no member {_MEMBER}"
        raise DataError(msg, path=path, hint=_BY_HAND) from error
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        msg = f"is no readable wheel ({error})"
        raise DataError(msg, path=path, hint="download it again") from error


def _from_installed() -> bytes | None:
    """From an installed RecBole, by its metadata; None when there is none or it ships without the data."""
    try:
        found = Path(str(metadata.distribution("recbole").locate_file(_MEMBER)))
    except metadata.PackageNotFoundError:
        return None
    return found.read_bytes() if found.is_file() else None


def _from_pip() -> bytes:
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
