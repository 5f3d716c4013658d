"""The tape: digests of every stage of every step, so that two runs can be compared without keeping their tensors.

xxh3_128 over a tensor's own memory costs a few thousandths of a step and sees every bit, its place and its kind
(a sum or an xor would not notice permuted rows). Digests compare runs of one machine; what is stored in a baseline
is blake3 over them.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xxhash

from rectest.record import STAGES

__all__ = ["Digest", "Tape", "digest_bytes", "digest_random_states", "digest_tensor", "digest_tensors"]

Digest = tuple[int, int]
"""128 bits as two unsigned 64-bit numbers."""

_EMPTY: Digest = (0, 0)
_MASK = (1 << 64) - 1
_KNOWN_TO_NUMPY = frozenset({torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.bool})
"""Tensors of these types are read in place; the detour over bytes would cost half of a small tensor's digest."""


class Tape:
    """Collects digests while a run goes on; `arrays` is what the record keeps of it."""

    def __init__(self) -> None:
        self._stages: dict[str, list[Digest]] = {stage: [] for stage in STAGES}
        self._tensors: dict[str, list[list[Digest]]] = {"gradients": [], "parameters": []}
        self._names: dict[str, list[str]] = {"gradients": [], "parameters": []}

    @property
    def names(self) -> dict[str, list[str]]:
        """The tensors behind the columns of ``tape/<stage>/tensors``."""
        return {stage: list(names) for stage, names in self._names.items()}

    def mark(self, stage: str, digest: Digest) -> None:
        """Append one digest to a stage.

        Raises:
            ValueError: the stage is not one of `STAGES`.
        """
        if stage not in self._stages:
            msg = f"unknown stage {stage!r}; stages are {', '.join(STAGES)}"
            raise ValueError(msg)
        self._stages[stage].append(digest)

    def mark_tensors(self, stage: str, tensors: Iterable[tuple[str, torch.Tensor | None]]) -> None:
        """Append a digest a tensor and one over them all; an absent tensor (no gradient) has digest zero."""
        pairs = list(tensors)
        digests = [_EMPTY if tensor is None else digest_tensor(tensor) for _, tensor in pairs]
        names = [name for name, _ in pairs]
        known = self._names[stage] = self._names[stage] or names
        self._tensors[stage].append(digests if names == known else [])
        self.mark(stage, _combine(zip(names, digests, strict=True)))

    def state(self) -> dict[str, Any]:
        """All digests as plain values; `from_state` makes the same tape of them."""
        return copy.deepcopy({"stages": self._stages, "tensors": self._tensors, "names": self._names})

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Tape:
        """The tape that gave `state`."""
        made = cls()
        made._stages, made._tensors, made._names = (
            copy.deepcopy(dict(state[key])) for key in ("stages", "tensors", "names")
        )
        return made

    def arrays(self) -> dict[str, npt.NDArray[np.uint64]]:
        """``tape/<stage>`` uint64 [T, 2] and ``tape/<stage>/tensors`` uint64 [T, P, 2]; unused stages are left out.

        So are the digests a tensor where steps had different tensors: columns would mix them up.
        """
        found: dict[str, npt.NDArray[np.uint64]] = {}
        for stage, digests in self._stages.items():
            if digests:
                found[f"tape/{stage}"] = np.array(digests, dtype=np.uint64).reshape(len(digests), 2)
        for stage, rows in self._tensors.items():
            width = len(self._names[stage])
            if rows and all(len(row) == width for row in rows):
                found[f"tape/{stage}/tensors"] = np.array(rows, dtype=np.uint64).reshape(len(rows), width, 2)
        return found


def digest_bytes(data: bytes) -> Digest:
    """The digest of raw bytes."""
    return _split(xxhash.xxh3_128_intdigest(data))


def digest_tensor(tensor: torch.Tensor) -> Digest:
    """The digest of a tensor: its dtype, shape and every byte, wherever it lives."""
    value = tensor.detach()
    if value.layout != torch.strided:
        value = value.to_dense()
    value = value.cpu().contiguous()
    hasher = xxhash.xxh3_128(f"{value.dtype}{tuple(value.shape)}".encode())
    plain = value if value.dtype in _KNOWN_TO_NUMPY else value.reshape(-1).view(torch.uint8)
    hasher.update(plain.numpy().data)
    return _split(hasher.intdigest())


def digest_tensors(named: Mapping[str, Any]) -> Digest:
    """One digest over named tensors, arrays, plain values, and lists and mappings of them, in the order of their names.

    Raises:
        TypeError: a value of another kind; its text would leave out what is inside or hold an address in memory.
    """
    return _combine((str(name), _digest_value(str(name), named[name])) for name in sorted(named, key=str))


_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic)


def _digest_value(name: str, value: Any) -> Digest:
    if isinstance(value, torch.Tensor):
        return digest_tensor(value)
    if isinstance(value, np.ndarray):
        return _digest_array(name, value)
    if isinstance(value, Mapping):
        return digest_tensors(value)
    if isinstance(value, _PLAIN):
        return digest_bytes(repr(value).encode())
    if not isinstance(value, list | tuple):
        kind = type(value).__qualname__
        msg = f"{name!r} is a {kind}; give tensors, arrays, plain values, or lists and mappings of them"
        raise TypeError(msg)
    if all(isinstance(item, _PLAIN) for item in value):
        return digest_bytes(repr(value).encode())
    return _combine((str(place), _digest_value(f"{name}[{place}]", item)) for place, item in enumerate(value))


def _digest_array(name: str, array: npt.NDArray[Any]) -> Digest:
    """Equal to the digest of the tensor with the same numbers; torch is not asked, it warns of read-only arrays."""
    if array.dtype.kind in "USO":
        return _digest_value(name, array.tolist())
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    hasher = xxhash.xxh3_128(f"torch.{native.dtype.name}{array.shape}".encode())
    hasher.update(native.reshape(-1).view(np.uint8).data)
    return _split(hasher.intdigest())


def digest_random_states() -> Digest:
    """One digest over the global generators of Python, NumPy and torch (CUDA's too where it runs)."""
    hasher = xxhash.xxh3_128()
    version, words, gauss = random.getstate()
    hasher.update(np.array(words, dtype=np.uint64).data)
    hasher.update(f"{version}{gauss}".encode())
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  the global generator is what is watched
    hasher.update(f"{kind}{rest}".encode())
    hasher.update(np.ascontiguousarray(keys).data)
    hasher.update(torch.get_rng_state().numpy().data)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for state in torch.cuda.get_rng_state_all():
            hasher.update(state.numpy().data)
    return _split(hasher.intdigest())


def _combine(parts: Iterable[tuple[str, Digest]]) -> Digest:
    hasher = xxhash.xxh3_128()
    for name, (low, high) in parts:
        hasher.update(f"{name}\0".encode())
        hasher.update(low.to_bytes(8, "little") + high.to_bytes(8, "little"))
    return _split(hasher.intdigest())


def _split(value: int) -> Digest:
    return value & _MASK, value >> 64
