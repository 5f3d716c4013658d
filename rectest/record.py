"""`RunSpec` and `RunRecord`: the waist of the hourglass, all that ever leaves training.

A spec says what to train. A record is NumPy arrays under documented keys plus plain values; judges see nothing
else. Saving is bit-exact (safetensors with a JSON header, never pickle) and atomic.

Array keys: ``eval/steps``; ``metric/<split>/<measure>``; ``loss/<component>``; ``ranks/<split>/<column>``;
``grad/<parameter>``; ``table/<name>``, ``table_init/<name>``; ``rows/<name>``; ``popularity/<space>``;
``counter/<name>``; ``tape/<stage>`` and ``tape/<stage>/tensors``; ``idmap/<name>``; ``used/<map>/<phase>``;
``init/first`` (the first values of each fresh parameter); ``users/<split>/<measure>`` [evaluations, users];
``floor/popularity/<metric>``. What a rank among several has besides is in `rectest.training.ranks.RanksOutcome`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.environment import Environment
from rectest.errors import RecordError

__all__ = ["SCHEMA", "STAGES", "RunRecord", "RunSpec", "array_digest", "atomic_write"]

SCHEMA = 1
STAGES = ("id_map", "init", "batch", "negatives", "loss", "gradients", "parameters", "rng")
"""Stages of the tape in the order in which one step passes through them."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpec:
    """What to train, completely: two equal specs in one environment must give equal bits."""

    system: str
    """A registered name (``comirec``) or ``module:attribute`` of the user's own system or training function."""

    world: str = ""
    """A world's name; empty means the system's default world."""

    seed: int = 0
    steps: int | None = None
    """Training steps; None means the system's default."""

    eval_every: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings that differ from the system's defaults, as plain JSON values."""

    device: str = "cpu"
    threads: int = 1
    deterministic: bool = True
    plant: str = ""
    """``module:function`` that turns the system into a faulty one; several, applied in turn, with commas between them;
    empty for the clean system."""

    replica: int = 0
    """Number of the repetition: it never reaches the training, it only makes a second run of the same spec."""

    interrupted_at: int = 0
    """Step after which the training process ends and another one resumes from its checkpoint; 0 for never. Like
    `replica` it must not change a bit of what comes out."""

    def __post_init__(self) -> None:
        if not self.system:
            msg = "a run spec needs the name of a system"
            raise ValueError(msg)
        lowest = {"seed": 0, "threads": 1, "replica": 0, "interrupted_at": 0, "steps": 1, "eval_every": 1}
        for name, low in lowest.items():
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
                msg = f"{name} must be an integer of at least {low}, got {value!r}"
                raise ValueError(msg)
        if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", self.device):
            msg = f"device must be cpu, cuda or cuda:N, got {self.device!r}"
            raise ValueError(msg)
        try:
            plain = json.loads(json.dumps(dict(self.config), sort_keys=True, allow_nan=False))
        except (TypeError, ValueError) as e:
            msg = f"config must hold plain JSON values: {e}"
            raise ValueError(msg) from e
        object.__setattr__(self, "config", plain)

    @property
    def key(self) -> str:
        """Sixteen hex digits that name this spec in caches and file names."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def describe(self) -> str:
        """One line for people: ``comirec on taste-small, seed 0``, and what differs from the defaults."""
        parts = [self.system + (f" on {self.world}" if self.world else ""), f"seed {self.seed}"]
        if self.config:
            parts.append(", ".join(f"{key}={value}" for key, value in sorted(self.config.items())))
        if self.plant:
            parts.append(f"planted {self.plant}")
        if self.replica:
            parts.append(f"repetition {self.replica}")
        if self.interrupted_at:
            parts.append(f"interrupted at step {self.interrupted_at}")
        return ", ".join(parts)

    def with_(self, **changes: Any) -> RunSpec:
        """The same spec with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunSpec:
        """The inverse of `to_dict`; an unknown field is a `RecordError`."""
        try:
            return cls(**values)
        except TypeError as e:
            msg = f"a run spec that this version does not understand ({e})"
            raise RecordError(msg) from e


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What one training run left: arrays by key, plain facts, and the environment that made them."""

    spec: RunSpec
    environment: Environment
    arrays: Mapping[str, Array]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Array:
        """The array under `key`; a missing one is a `RecordError` that lists its neighbours."""
        if key not in self.arrays:
            stem = key.rpartition("/")[0]
            near = sorted(k for k in self.arrays if k.startswith(stem)) or sorted(self.arrays)
            msg = f"record of {self.spec.describe()} has no {key!r}; it has {', '.join(near[:12])}"
            raise RecordError(msg)
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def names(self, prefix: str) -> list[str]:
        """What follows `prefix` in the keys, e.g. ``names("table/") == ["item"]``."""
        return sorted(k.removeprefix(prefix) for k in self.arrays if k.startswith(prefix))

    def metrics(self, split: str) -> dict[str, Array]:
        """Measure to its values over the evaluations of `split`."""
        return {name: self[f"metric/{split}/{name}"] for name in self.names(f"metric/{split}/")}

    def final(self, metric: str) -> float:
        """The last value of ``<split>/<measure>``, e.g. ``final("test/recall@10")``."""
        values = self[f"metric/{metric}"]
        if values.size == 0:
            msg = f"record of {self.spec.describe()} has no evaluation of {metric!r}"
            raise RecordError(msg)
        return float(values[-1])

    def with_arrays(self, **changes: Array | None) -> RunRecord:
        """A copy with arrays replaced, added, or (None) dropped; ``__`` in a keyword stands for ``/``."""
        arrays = dict(self.arrays)
        for name, value in changes.items():
            key = name.replace("__", "/")
            if value is None:
                arrays.pop(key, None)
            else:
                arrays[key] = value
        return replace(self, arrays=arrays)

    def digest(self, *prefixes: str) -> str:
        """blake3 over the arrays whose keys start with one of `prefixes`; over all of them without any."""
        chosen = sorted(k for k in self.arrays if not prefixes or k.startswith(prefixes))
        if not chosen:
            msg = f"nothing to digest under {prefixes}"
            raise RecordError(msg)
        return array_digest((key, self.arrays[key]) for key in chosen)

    def save(self, path: str | Path) -> Path:
        """Write the record in one atomic step; a killed process leaves the old file or none."""
        from safetensors.numpy import save

        tensors, text = {}, {}
        for key, value in self.arrays.items():
            if value.dtype.kind in "US":
                text[key] = [str(v) for v in value.tolist()]
            else:
                tensors[key] = np.ascontiguousarray(value).reshape(value.shape)
        header = {
            "schema": SCHEMA,
            "spec": self.spec.to_dict(),
            "environment": self.environment.to_dict(),
            "facts": _encode(self.facts),
            "text": text,
        }
        return atomic_write(Path(path), save(tensors, metadata={"rectest": json.dumps(header, sort_keys=True)}))

    @classmethod
    def load(cls, path: str | Path) -> RunRecord:
        """Read what `save` wrote, bit for bit.

        Raises:
            RecordError: the file is absent, damaged, or of another schema.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                raw = (file.metadata() or {}).get("rectest")
                arrays: dict[str, Array] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except FileNotFoundError as e:
            msg = "no such record"
            raise RecordError(msg, path=path) from e
        except (SafetensorError, OSError, ValueError) as e:
            msg = f"not a readable record ({e})"
            raise RecordError(msg, path=path) from e
        return cls._assemble(path, raw, arrays)

    @classmethod
    def _assemble(cls, path: str | Path, raw: str | None, arrays: dict[str, Array]) -> RunRecord:
        try:
            header = json.loads(raw or "")
        except ValueError as e:
            msg = "a safetensors file, but not a rectest record"
            raise RecordError(msg, path=path) from e
        schema = header.get("schema") if isinstance(header, dict) else None
        if schema != SCHEMA:
            msg = f"record schema {schema!r}, this version reads {SCHEMA}; train again"
            raise RecordError(msg, path=path)
        try:
            arrays.update({key: np.array(values, dtype=np.str_) for key, values in header["text"].items()})
            return cls(
                spec=RunSpec.from_dict(header["spec"]),
                environment=Environment.from_dict(header["environment"]),
                arrays=arrays,
                facts=_decode(header["facts"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            msg = f"a damaged header ({e!r}); train again"
            raise RecordError(msg, path=path) from e


def array_digest(named: Iterator[tuple[str, Array]] | Mapping[str, Array]) -> str:
    """blake3 over names, dtypes, shapes and bytes; it resists forging, so it may stand in a stored baseline."""
    from blake3 import blake3

    hasher = blake3()
    for name, value in named.items() if isinstance(named, Mapping) else named:
        hasher.update(f"{name}|{value.dtype.str}|{value.shape}|".encode())
        hasher.update(np.ascontiguousarray(value).tobytes())
    return f"blake3:{hasher.hexdigest()[:32]}"


def atomic_write(path: Path, content: bytes) -> Path:
    """Write beside `path` and rename over it, so that readers see the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _encode(value: Any) -> Any:
    """JSON has no NaN: non-finite floats become tagged strings, so that they come back as what they were."""
    if isinstance(value, Mapping):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"__float__": repr(value)}
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value
