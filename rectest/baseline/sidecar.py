"""The bulk of a baseline, beside its JSON: curves, the first losses of each seed and its twin, values of users.

A sidecar is named after its content, so that a baseline and its sidecar are replaced in one step: the JSON that names
it. Nothing in it is judged by itself; `paired` and the report read it.
"""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.features import window
from rectest.baseline.schema import SidecarRef
from rectest.errors import CorruptBaseline
from rectest.record import RunRecord, array_digest

__all__ = [
    "PREFIX_STEPS",
    "RESTORE",
    "Sidecar",
    "build_sidecar",
    "gradient_norms",
    "parse_sidecar",
    "prefix_digest",
    "render_sidecar",
]

PREFIX_STEPS = 50
"""First steps whose losses are compared pair by pair: rounding has not grown yet, anything else shows at once."""

MAX_BYTES = 1 << 28
"""Most bytes that a sidecar may unpack to: a thousand times what recordings are, and no danger to a machine."""

RESTORE = "restore it from version control together with its baseline, or record both anew"

_UNREADABLE = (
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    UserWarning,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What `zipfile` and `numpy` raise of bytes that are no archive of arrays, as found by damaging one at random."""

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """Arrays by key.

    ``seeds`` int64 [n0]; ``prefix/loss`` and ``prefix/twin`` float64 [n0, steps] (NaN where a run was shorter);
    ``init/first`` float64 [n0, m]; ``curve/steps`` int64 [E] and ``curve/<split>/<measure>`` float64 [n0, E] (NaN where
    a run stopped earlier); ``curve/loss`` float32 [n0, T]; ``users/<split>/<measure>`` uint8 [n0, users], how many of
    the late evaluations were a hit, for measures that are counts of hits; ``gradient/norm`` and ``gradient/twin``
    float64 [n0, parameters], lengths of the first step's gradients.
    """

    arrays: Mapping[str, Array] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> Array:
        return self.arrays[key]

    def row(self, seed: int) -> int | None:
        """The row of a seed in every array, or None where it is not among them."""
        found = np.flatnonzero(self.arrays["seeds"] == seed)
        return int(found[0]) if found.size else None

    def names(self, prefix: str) -> list[str]:
        """What follows `prefix` in the keys."""
        return sorted(key.removeprefix(prefix) for key in self.arrays if key.startswith(prefix))


def build_sidecar(records: Sequence[RunRecord], twins: Sequence[RunRecord] = ()) -> Sidecar:
    """The bulk of clean runs, one per seed and in the order of the ensemble, and of their rounding twins."""
    arrays: dict[str, Array] = {"seeds": np.array([record.spec.seed for record in records], np.int64)}
    losses = [np.asarray(record.arrays.get("loss/total", ()), np.float64) for record in records]
    if all(loss.size for loss in losses):
        arrays["prefix/loss"] = _padded([loss[:PREFIX_STEPS] for loss in losses])
        arrays["curve/loss"] = _padded(losses).astype(np.float32)
    if twins and "prefix/loss" in arrays:
        first = [np.asarray(twin["loss/total"], np.float64)[:PREFIX_STEPS] for twin in twins]
        arrays["prefix/twin"] = _padded(first, width=arrays["prefix/loss"].shape[1])
    starts = [record.arrays["init/first"] for record in records if "init/first" in record]
    if len(starts) == len(records) and len({start.shape for start in starts}) == 1:
        arrays["init/first"] = np.stack(starts)
    return Sidecar(arrays={**arrays, **_curves(records), **_users(records), **_gradients(records, twins)})


def prefix_digest(record: RunRecord, stage: str) -> str | None:
    """Digest of what a stage of the tape (``batch``, ``negatives``) was at the first steps; None without that stage."""
    key = f"tape/{stage}"
    if key not in record:
        return None
    return array_digest({key: record[key][:PREFIX_STEPS]})


def render_sidecar(sidecar: Sidecar, stem: str) -> tuple[bytes, SidecarRef]:
    """The bytes of the file and the reference that the JSON keeps; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    ordered = dict(sorted(sidecar.arrays.items()))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in ordered.items():
            # A date of its own would make equal content differ.
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    digest = array_digest(ordered)
    return buffer.getvalue(), SidecarRef(file=f"{stem}.{digest.removeprefix('blake3:')[:12]}.npz", digest=digest)


def parse_sidecar(content: bytes, ref: SidecarRef, *, path: Path) -> Sidecar:
    """The inverse of `render_sidecar`; nothing is unpickled.

    Raises:
        CorruptBaseline: not a readable archive, or not the content that the baseline names.
    """
    try:
        arrays = _arrays(content)
    except _UNREADABLE as e:
        raise CorruptBaseline(path, f"not a readable sidecar ({e})", hint=RESTORE) from e
    obtained = array_digest(dict(sorted(arrays.items())))
    if obtained != ref.digest:
        problem = f"its content has the digest {obtained}, the baseline names {ref.digest}"
        raise CorruptBaseline(path, problem, hint=RESTORE)
    return Sidecar(arrays=arrays)


def _arrays(content: bytes) -> dict[str, Array]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            msg = f"it unpacks to {size} bytes, more than any sidecar has"
            raise ValueError(msg)
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            msg = f"{name} is no array"
            raise TypeError(msg)
    return arrays


def _curves(records: Sequence[RunRecord]) -> dict[str, Array]:
    """Evaluations of every measure that all runs have; the steps are those of the run with most evaluations."""
    longest = max(records, key=lambda record: len(record.arrays.get("eval/steps", ())))
    found: dict[str, Array] = {"curve/steps": np.asarray(longest.arrays.get("eval/steps", ()), np.int64)}
    for name in longest.names("metric/valid/"):
        key = f"metric/valid/{name}"
        if all(key in record for record in records):
            found[f"curve/valid/{name}"] = _padded([record[key] for record in records])
    return found


def _users(records: Sequence[RunRecord]) -> dict[str, Array]:
    """Hits per user over the late evaluations, where each value is zero or one and fits into a byte."""
    found: dict[str, Array] = {}
    for name in records[0].names("users/"):
        key = f"users/{name}"
        rows = [record[key] for record in records if key in record]
        if len(rows) != len(records) or len({row.shape[1] for row in rows}) != 1:
            continue
        late = [row[window("late", len(row))] for row in rows]
        counts = np.stack([np.nan_to_num(row).sum(axis=0) for row in late])
        if all(np.isin(row[~np.isnan(row)], (0, 1)).all() for row in late) and counts.max() < 256:
            found[key] = counts.astype(np.uint8)
    return found


def gradient_norms(record: RunRecord) -> NDArray[np.float64]:
    """[parameters] lengths of the first step's gradients, in the order of the parameters' names."""
    found = [np.linalg.norm(record[f"grad/{name}"].astype(np.float64)) for name in record.names("grad/")]
    return np.array(found, np.float64)


def _gradients(records: Sequence[RunRecord], twins: Sequence[RunRecord]) -> dict[str, Array]:
    """Nothing where runs recorded no gradients, or not those of the same parameters, or have no twins."""
    names = {tuple(record.names("grad/")) for record in (*records, *twins)}
    if len(names) != 1 or names == {()} or not twins:
        return {}
    kinds = {"gradient/norm": records, "gradient/twin": twins}
    return {key: np.stack([gradient_norms(run) for run in runs]) for key, runs in kinds.items()}


def _padded(rows: Sequence[Array], *, width: int | None = None) -> NDArray[np.float64]:
    """[rows, longest] float64, NaN where a row is shorter."""
    longest = max(len(row) for row in rows) if width is None else width
    found = np.full((len(rows), longest), np.nan)
    for place, row in enumerate(rows):
        found[place, : len(row)] = row[:longest]
    return found
