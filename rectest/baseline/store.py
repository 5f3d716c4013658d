"""Where baselines lie and how they are read and replaced: ``<root>/<env_class>/<system>[@<world>].json``.

A folder of candidates is a store with another root. Writing is atomic and happens under one lock per root, so that
neither a killed process nor two writers at once can lose what was there. The sidecar is written first, under a name
that its content gives; the JSON that names it is the one switch from old to new. Whether something may be written at
all is decided in `update`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rectest.baseline.schema import Baseline, SidecarRef
from rectest.baseline.sidecar import Sidecar, parse_sidecar, render_sidecar
from rectest.baseline.text import parse_baseline, render_baseline
from rectest.errors import CorruptBaseline, NoBaseline, UpdateRefused
from rectest.record import atomic_write

__all__ = ["BaselineStore", "StoredName", "merge", "read_baseline"]

LOCK_TIMEOUT = 60.0
"""Seconds that a writer waits for another one; a write takes milliseconds."""

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
            hint = "restore it from version control together with its baseline, or record both anew"
            raise CorruptBaseline(path, f"the sidecar cannot be read ({e.strerror or e})", hint=hint) from e
        return parse_sidecar(content, ref, path=path)

    def save(
        self,
        baseline: Baseline,
        *,
        sidecar: Sidecar | None = None,
        replace: bool = False,
        extends: Baseline | None = None,
    ) -> Path:
        """Write `baseline` in one atomic step under the lock of the root.

        Exact entries of other fingerprints and seeds that are on disk are kept while settings, world and ensemble
        are the same; otherwise they are bits of other code and go.

        Args:
            baseline: What to write.
            sidecar: Its bulk; without one the sidecar that `baseline` names must lie in this store already.
            replace: Write even over a file that cannot be read, and merge nothing.
            extends: What `baseline` was made from by adding exact entries; it must still be what is on disk.

        Raises:
            CorruptBaseline: the file on disk cannot be read, and `replace` is off.
            UpdateRefused: somebody recorded anew since `extends` was read.
        """
        path = self.path_for(baseline.system, baseline.env_class, baseline.world)
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".lock", timeout=LOCK_TIMEOUT):
            if path.exists() and not replace:
                old = read_baseline(path)
                if extends is not None and not _same_training(old, extends):
                    msg = f"{path} was recorded anew by another process meanwhile; run the gate again"
                    raise UpdateRefused(msg)
                baseline = merge(old, baseline)
            if sidecar is not None:
                content, ref = render_sidecar(sidecar, path.stem)
                atomic_write(path.with_name(ref.file), content)
                baseline = baseline.model_copy(update={"sidecar": ref})
            written = atomic_write(path, render_baseline(baseline))
            _remove_stale(path, baseline.sidecar)
            return written


def _remove_stale(path: Path, ref: SidecarRef | None) -> None:
    """Remove sidecars of a baseline that it no longer names, those of killed writers among them."""
    pattern = re.compile(re.escape(path.stem) + r"\.[0-9a-f]{12}\.npz")
    for other in path.parent.iterdir():
        if pattern.fullmatch(other.name) and (ref is None or other.name != ref.file):
            other.unlink(missing_ok=True)


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
    return baseline


def merge(old: Baseline, new: Baseline) -> Baseline:
    """`new`, with the exact entries of `old` that are still about the same training."""
    if not _same_training(old, new):
        return new
    exact = {**old.exact, **new.exact}
    for fingerprint in old.exact.keys() & new.exact.keys():
        seeds = {**old.exact[fingerprint].seeds, **new.exact[fingerprint].seeds}
        exact[fingerprint] = new.exact[fingerprint].model_copy(update={"seeds": seeds})
    return new.model_copy(update={"exact": exact})


def _same_training(old: Baseline, new: Baseline) -> bool:
    return (old.spec, old.world_digest, old.ensemble) == (new.spec, new.world_digest, new.ensemble)
