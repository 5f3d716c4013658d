"""What the process reads and writes, file by file, with the content of what it reads.

Files that Python opens are seen by an audit hook, which cannot be removed and so asks for the recording each time;
files that torch and safetensors open in compiled code are seen at their Python entry. Python's own files (modules,
packages, bytecode), devices and temporary files are of no interest. Directory listings are `listings`.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import sysconfig
import tempfile
from _thread import get_ident
from typing import TYPE_CHECKING, Any

from . import listings
from .imports import when_imported
from .session import active
from .sites import call_site, shown_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from .session import Session

__all__ = ["install", "is_library", "note_file"]

WHOLE_BYTES = 64 * 1024**2
"""Of larger files the size and both ends are digested."""

ALL_BYTES = 4 * 1024**3
"""After so many digested bytes every file counts as a large one."""

_END_BYTES = 1024**2
_CODE = (".py", ".pyc", ".pyi", ".pyd", ".so", ".egg-link")
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/run/", "/usr/lib/", "/usr/share/")
_LIBRARIES = tuple({os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")})
_PACKAGES = (
    f"{os.sep}site-packages{os.sep}",
    f"{os.sep}dist-packages{os.sep}",
    f".egg-info{os.sep}",
    f".dist-info{os.sep}",
)
_TEMPORARY = re.compile(r"(^|/)(tmp|pymp-|torch_|wandb-)[a-z0-9_]{6,}")


class _Seen:
    """What has been noted of one recording."""

    def __init__(self) -> None:
        self.owner: Session | None = None
        self.files: dict[tuple[str, str], tuple[Any, str]] = {}
        """Last status (size, time of change) and digest by path and mode."""
        self.num_bytes = 0
        self.threads: set[int] = set()
        """Threads in which a file is being looked at: what that opens is not noted."""
        self.audited = False


_seen = _Seen()


def install(session: Session) -> None:
    """Watch files and listings."""
    _seen.owner, _seen.files, _seen.num_bytes = session, {}, 0
    if not _seen.audited:
        sys.addaudithook(_audit)
        _seen.audited = True
    listings.install(session)
    when_imported("torch.serialization", lambda: _watch_torch(session))
    when_imported("safetensors", lambda: _watch_safetensors(session))


def is_library(path: str) -> bool:
    """Whether a path belongs to the installation and not to the user."""
    return path.startswith((*_SYSTEM, *_LIBRARIES)) or any(place in path for place in _PACKAGES)


def note_file(path: Any, mode: str) -> None:
    """Note that a file is about to be opened; `mode` is of the letters ``r`` and ``w``."""
    session = active()
    thread = get_ident()
    if session is None or session.busy or session is not _seen.owner or thread in _seen.threads:
        return
    _seen.threads.add(thread)
    try:
        for letter in mode:
            _note(session, os.path.abspath(os.fsdecode(path)), letter)
    except (OSError, ValueError, TypeError):
        pass  # the script's own open meets the same and says so
    finally:
        _seen.threads.discard(thread)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event not in ("open", "os.rename"):
        return
    try:
        # whoever writes a file and then renames it (atomic saving) has written what it is renamed to
        path, mode, flags = args if event == "open" else (args[1], "w", 0)
        if isinstance(path, str | bytes) and not os.fsdecode(path).endswith(_CODE):
            note_file(path, _letters(mode, flags or 0))
    except Exception:
        return  # also at the very end of the process, when modules are being taken apart


def _letters(mode: str | None, flags: int) -> str:
    writes = bool(flags & (os.O_WRONLY | os.O_RDWR)) or any(letter in (mode or "") for letter in "wax+")
    reads = not flags & (os.O_WRONLY | os.O_TRUNC | os.O_EXCL) and not any(letter in (mode or "") for letter in "wax")
    return "r" * reads + "w" * writes


def _note(session: Session, path: str, mode: str) -> None:
    if is_library(path) or path.startswith(os.path.join(session.config.tape, "")) or _is_temporary(session, path):
        return
    if mode == "w":
        if (path, mode) not in _seen.files:
            _seen.files[path, mode] = (None, "")
            session.event("file", shown_path(path), site=call_site(own=True), info={"mode": "w"})
        return
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        return
    state = (status.st_size, status.st_mtime_ns, status.st_ino)
    known = _seen.files.get((path, mode), (None, ""))
    if known[0] == state:
        return
    digest = _digest(path, status.st_size)
    _seen.files[path, mode] = (state, digest)
    if digest != known[1]:
        info = {"mode": "r", "size": status.st_size}
        session.event("file", shown_path(path), digest, site=call_site(own=True), info=info)


def _is_temporary(session: Session, path: str) -> bool:
    """Files of `tempfile`: their names are drawn anew each time and nobody finds them again."""
    # not `gettempdir`: the script may be inside it, holding its lock, when it opens a file to see whether it can
    found = tempfile.tempdir or next(filter(None, map(os.environ.get, ("TMPDIR", "TEMP", "TMP"))), "/tmp")
    place = os.path.join(os.path.abspath(os.fsdecode(found)), "")
    if not path.startswith(place) or path.startswith(os.path.join(session.config.root or os.getcwd(), "")):
        return False
    return _TEMPORARY.search(path[len(place) :]) is not None


def _digest(path: str, size: int) -> str:
    import hashlib

    hasher = hashlib.blake2b(str(size).encode(), digest_size=16)
    whole = size <= WHOLE_BYTES and _seen.num_bytes <= ALL_BYTES
    with open(path, "rb", buffering=0) as file:
        if whole:
            _seen.num_bytes += size
            while block := file.read(_END_BYTES):
                hasher.update(block)
        else:
            hasher.update(file.read(_END_BYTES))
            file.seek(max(0, size - _END_BYTES))
            hasher.update(file.read(_END_BYTES))
    return hasher.hexdigest()


def _watch_torch(session: Session) -> None:
    """`torch.save` writes archives in compiled code."""
    serialization = sys.modules["torch.serialization"]
    writer = getattr(serialization, "_open_zipfile_writer_file", None)
    if writer is not None and active() is session:
        _note_first_argument(session, writer, "__init__", "w", skip=1)


def _watch_safetensors(session: Session) -> None:
    """Both directions are compiled; the names are bound by importers, so this works if it comes before them."""
    package = sys.modules["safetensors"]
    if active() is not session:
        return
    for name, mode in (("safe_open", "r"), ("serialize_file", "w")):
        if hasattr(package, name):
            _note_first_argument(session, package, name, mode, skip=0 if mode == "r" else 1)


def _note_first_argument(session: Session, owner: Any, name: str, mode: str, *, skip: int) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    def opened(*args: Any, **kwargs: Any) -> Any:
        path = args[skip] if len(args) > skip else kwargs.get("filename", kwargs.get("name"))
        if isinstance(path, str | os.PathLike):
            note_file(path, mode)
        return original(*args, **kwargs)

    session.patches.set(owner, name, opened)
