"""Where baselines lie and how they are read and replaced: ``<root>/<env_class>/<system>[@<world>].json``.

A folder of candidates is a store with another root. Writing is atomic and happens under one lock per root, so that
neither a killed process nor two writers at once can lose what was there. The sidecar is written first, under a name
that its content gives; the JSON that names it is the one switch from old to new. Whether something may be written at
all is decided in `update`, and what a recording becomes beside the one before it in `history`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from rectest.baseline.schema import Baseline, SidecarRef
from rectest.baseline.sidecar import RESTORE, Sidecar, parse_sidecar, render_sidecar
from rectest.baseline.text import parse_baseline, render_baseline
from rectest.errors import BaselineError, CorruptBaseline, NoBaseline, UpdateRefused
from rectest.record import atomic_write

__all__ = ["BaselineStore", "Combine", "StoredName", "merge", "read_baseline", "same_ensemble"]

LOCK_TIMEOUT = 60.0
"""Seconds that a writer waits for another one; a write takes milliseconds."""

Combine = Callable[[Baseline | None, Baseline], Baseline]
"""What is to be stored, of what is stored (None where nothing is or where it cannot be read) and what is new."""

_SYSTEM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class StoredName:
    """What a baseline file is called: the three things its path says."""

    env_class: str
    system: str
    world: str = ""
    """Empty for the system's default world."""

    def __post_init__(self) -> None:
        for kind, text, pattern in (
            ("environment class", self.env_class, _FOLDER),
            ("system", self.system, _SYSTEM),
            ("world", self.world or "default", _FOLDER),
        ):
            if not pattern.fullmatch(text):
                msg = f"{kind} {text!r} cannot name a baseline file: letters, digits, and _ . - only"
                raise ValueError(msg)

    @property
    def path(self) -> Path:
        """Path under the root; ``module:attribute`` is written with a plus, which no file system refuses."""
        stem = self.system.replace(":", "+") + (f"@{self.world}" if self.world else "")
        return Path(self.env_class) / f"{stem}.json"

    @classmethod
    def of_path(cls, path: Path) -> StoredName:
        """The inverse of `path`, from a path of which the last two parts count."""
        system, _, world = path.name.removesuffix(".json").partition("@")
        return cls(env_class=path.parent.name, system=system.replace("+", ":"), world=world)


@dataclass(frozen=True, slots=True)
class BaselineStore:
    """The baselines under one root folder, which need not exist yet."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    def path_for(self, system: str, env_class: str, world: str = "") -> Path:
        """The file for a system; `world` is empty for its default world."""
        return self.root / StoredName(env_class=env_class, system=system, world=world).path

    def load(self, system: str, env_class: str, world: str = "") -> Baseline:
        """The stored baseline.

        Raises:
            NoBaseline: there is no such file.
            CorruptBaseline: it cannot be read, or is the baseline of something else.
        """
        path = self.path_for(system, env_class, world)
        if not path.exists():
            raise NoBaseline(system + (f" on {world}" if world else ""), env_class, path)
        return read_baseline(path)

    def entries(self) -> list[StoredName]:
        """Names of all stored baselines, sorted; files are not opened.

        Raises:
            CorruptBaseline: a JSON file whose name no baseline can have.
        """
        found = []
        for path in sorted(self.root.glob("*/[!.]*.json")):
            try:
                found.append(StoredName.of_path(path))
            except ValueError as e:
                raise CorruptBaseline(path, str(e), hint="rename or remove it") from e
        return sorted(found)

    def read(self, name: StoredName) -> Baseline:
        """The baseline of one of `entries`."""
        return self.load(name.system, name.env_class, name.world)

    def sidecar(self, baseline: Baseline) -> Sidecar | None:
        """The bulk of a baseline of this store, or None where it has none.

        Raises:
            CorruptBaseline: the file that it names is missing, damaged, or another one.
        """
        ref = baseline.sidecar
        if ref is None:
            return None
        path = self.path_for(baseline.system, baseline.env_class, baseline.world).with_name(ref.file)
        try:
            content = path.read_bytes()
        except OSError as e:
            problem = f"the sidecar cannot be read ({e.strerror or e})"
            raise CorruptBaseline(path, problem, hint=RESTORE) from e
        sidecar = parse_sidecar(content, ref, path=path)
        _require_of(baseline, sidecar, path)
        return sidecar

    def read_whole(self, name: StoredName) -> tuple[Baseline, Sidecar | None]:
        """A baseline and its bulk, of one recording even while another one is being written.

        Raises:
            CorruptBaseline: as `load` and `sidecar`.
        """
        baseline = self.read(name)
        try:
            return baseline, self.sidecar(baseline)
        except CorruptBaseline:
            # A writer removes the sidecar of the recording that it replaced; then there is a newer one to read.
            newer = self.read(name)
            if newer.sidecar == baseline.sidecar:
                raise
            return newer, self.sidecar(newer)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other writer out; a writer that holds the lock may `save` inside.

        Raises:
            BaselineError: another process holds it for longer than `LOCK_TIMEOUT`, or the folder cannot be written.
        """
        path = (self.root / ".lock").absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=LOCK_TIMEOUT, is_singleton=True)
            lock.acquire()
        except Timeout as e:
            msg = f"another process has been writing to {self.root} for {LOCK_TIMEOUT:g} s; nothing was written"
            raise BaselineError(msg) from e
        except OSError as e:
            msg = f"{path} cannot be written ({e.strerror or e}); nothing was written"
            raise BaselineError(msg) from e
        try:
            yield
        finally:
            lock.release()

    def save(
        self,
        baseline: Baseline,
        *,
        sidecar: Sidecar | None = None,
        replace: bool = False,
        extends: Baseline | None = None,
        combine: Combine | None = None,
    ) -> Path:
        """Write `baseline` in one atomic step under the lock of the root.

        Args:
            baseline: What to write.
            sidecar: Its bulk; without one the sidecar that `baseline` names must lie in this store already.
            replace: Write even over a file that cannot be read.
            extends: What `baseline` was made from by adding exact entries; it must still be what is on disk.
            combine: What to write where something is stored, `merge` by default; called under the lock.

        Raises:
            CorruptBaseline: the file on disk cannot be read, and `replace` is off.
            UpdateRefused: somebody recorded anew since `extends` was read, or a sidecar is named that is not there.
            BaselineError: the files cannot be written; what was stored is as it was.
        """
        path = self.path_for(baseline.system, baseline.env_class, baseline.world)
        with self.lock():
            old = _stored(path, replace=replace)
            if extends is not None and old is not None and not same_ensemble(old, extends):
                msg = f"{path} was recorded anew by another process meanwhile; run the gate again"
                raise UpdateRefused(msg)
            baseline = (combine or _merged)(old, baseline)
            if sidecar is None:
                self._require_sidecar(baseline)
            try:
                return _write(path, baseline, sidecar)
            except OSError as e:
                msg = f"{path} cannot be written ({e.strerror or e}); what was stored is as it was"
                raise BaselineError(msg) from e

    def _require_sidecar(self, baseline: Baseline) -> None:
        try:
            self.sidecar(baseline)
        except CorruptBaseline as e:
            msg = f"the baseline of {baseline.name} names a sidecar that is not in this store: {e}"
            raise UpdateRefused(msg) from e


def _stored(path: Path, *, replace: bool) -> Baseline | None:
    """What is on disk, or None where nothing is or where it cannot be read and may be replaced."""
    if not path.exists():
        return None
    try:
        return read_baseline(path)
    except CorruptBaseline:
        if replace:
            return None
        raise


def _write(path: Path, baseline: Baseline, sidecar: Sidecar | None) -> Path:
    """Bulk first, then the JSON that names it, then away with what is named no more."""
    if sidecar is None:
        atomic_write(path, render_baseline(baseline))
    else:
        content, ref = render_sidecar(sidecar, path.stem)
        baseline, bulk = baseline.model_copy(update={"sidecar": ref}), path.with_name(ref.file)
        _require_of(baseline, sidecar, bulk)
        known = bulk.exists()
        try:
            atomic_write(bulk, content)
            atomic_write(path, render_baseline(baseline))
        except BaseException:
            if not known:
                bulk.unlink(missing_ok=True)
            raise
    _remove_stale(path, baseline.sidecar)
    return path


def _remove_stale(path: Path, ref: SidecarRef | None) -> None:
    """Remove sidecars that a baseline no longer names, and what killed writers left; the lock is held.

    What cannot be removed does no harm and is tried again at the next write.
    """
    stem = re.escape(path.stem)
    bulk = re.compile(rf"{stem}\.[0-9a-f]{{12}}\.npz")
    half = re.compile(rf"\.{stem}\.(json|[0-9a-f]{{12}}\.npz)\.\w+\.part")
    kept = None if ref is None else ref.file
    for other in path.parent.iterdir():
        if other.name != kept and (bulk.fullmatch(other.name) or half.fullmatch(other.name)):
            with contextlib.suppress(OSError):
                other.unlink()


def _require_of(baseline: Baseline, sidecar: Sidecar, path: Path) -> None:
    """Whether bulk is of the seeds of a baseline; a digest alone only says that the file is the one that was named."""
    seeds = baseline.ensemble.seeds
    if "seeds" not in sidecar or not np.array_equal(sidecar["seeds"], seeds):
        found = sidecar["seeds"].tolist() if "seeds" in sidecar else "no seeds at all"
        problem = f"the sidecar is of seeds {found}, its baseline of {list(seeds)}"
        raise CorruptBaseline(path, problem, hint=RESTORE)
    for name, array in sidecar.arrays.items():
        if name != "curve/steps" and array.shape[:1] != (len(seeds),):
            problem = f"{name} of the sidecar has the shape {array.shape}, needed a row for each of {len(seeds)} seeds"
            raise CorruptBaseline(path, problem, hint=RESTORE)


def read_baseline(path: str | Path) -> Baseline:
    """The baseline in one file, whose content must be what its name says.

    Raises:
        CorruptBaseline: unreadable, invalid, or of another system, world or environment class.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as e:
        raise CorruptBaseline(path, f"cannot be read ({e.strerror or e})") from e
    baseline = parse_baseline(content, path=path)
    name = StoredName.of_path(path)
    for key in ("system", "world", "env_class"):
        inside, outside = getattr(baseline, key), getattr(name, key)
        if inside != outside:
            raise CorruptBaseline(path, f"$.{key}: is {inside!r}, but the file's place says {outside!r}")
    if baseline.sidecar is not None and not baseline.sidecar.file.startswith(f"{path.stem}."):
        problem = f"$.sidecar.file: {baseline.sidecar.file!r} is the sidecar of another baseline"
        raise CorruptBaseline(path, problem)
    return baseline


def merge(old: Baseline, new: Baseline) -> Baseline:
    """`new`, with the exact entries of `old` that are still about the same training, and its sidecar if it has none.

    Other bits for a seed of one environment mean that the code computes something else, even where no feature moved:
    then no bits of `old` are about this training.
    """
    if not same_ensemble(old, new) or _bits_differ(old, new):
        return new
    exact = {**old.exact, **new.exact}
    for fingerprint in old.exact.keys() & new.exact.keys():
        seeds = {**old.exact[fingerprint].seeds, **new.exact[fingerprint].seeds}
        exact[fingerprint] = new.exact[fingerprint].model_copy(update={"seeds": seeds})
    return new.model_copy(update={"exact": exact, "sidecar": new.sidecar or old.sidecar})


def same_ensemble(old: Baseline, new: Baseline) -> bool:
    """Whether two baselines are the same recording, apart from bits of further environments."""
    return (old.spec, old.world_digest, old.ensemble) == (new.spec, new.world_digest, new.ensemble)


def _merged(old: Baseline | None, new: Baseline) -> Baseline:
    return new if old is None else merge(old, new)


def _bits_differ(old: Baseline, new: Baseline) -> bool:
    pairs = [(old.exact[name].seeds, new.exact[name].seeds) for name in old.exact.keys() & new.exact.keys()]
    return any(one[seed] != other[seed] for one, other in pairs for seed in one.keys() & other.keys())
