"""The tape: digests of every stage of every step, so that two runs can be compared without keeping their tensors.

xxh3_128 over a tensor's own memory costs a few thousandths of a step and sees every bit, its place and its kind
(a sum or an xor would not notice permuted rows). Digests compare runs of one machine; what is stored in a baseline
is blake3 over them.
"""

from __future__ import annotations

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
        if not self._names[stage]:
            self._names[stage] = names
        self._tensors[stage].append(digests)
        self.mark(stage, _combine(zip(names, digests, strict=True)))

    def arrays(self) -> dict[str, npt.NDArray[np.uint64]]:
        """``tape/<stage>`` uint64 [T, 2] and ``tape/<stage>/tensors`` uint64 [T, P, 2]; unused stages are left out."""
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
    if value.numel():
        hasher.update(value.reshape(-1).view(torch.uint8).numpy())
    return _split(hasher.intdigest())


def digest_tensors(named: Mapping[str, Any]) -> Digest:
    """One digest over named tensors, arrays or plain values, in the order of their names."""
    parts = []
    for name in sorted(named):
        value = named[name]
        if isinstance(value, torch.Tensor):
            parts.append((name, digest_tensor(value)))
        elif isinstance(value, np.ndarray) and value.dtype.kind not in "USO":
            parts.append((name, digest_tensor(torch.from_numpy(np.ascontiguousarray(value)))))
        else:
            parts.append((name, digest_bytes(repr(value).encode())))
    return _combine(parts)


def digest_random_states() -> Digest:
    """One digest over the global generators of Python, NumPy and torch (CUDA's too where it runs)."""
    hasher = xxhash.xxh3_128()
    version, words, gauss = random.getstate()
    hasher.update(np.array(words, dtype=np.uint64))
    hasher.update(f"{version}{gauss}".encode())
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  the global generator is what is watched
    hasher.update(f"{kind}{rest}".encode())
    hasher.update(np.ascontiguousarray(keys))
    hasher.update(torch.get_rng_state().numpy())
    if torch.cuda.is_initialized():
        for state in torch.cuda.get_rng_state_all():
            hasher.update(state.numpy())
    return _split(hasher.intdigest())


def _combine(parts: Iterable[tuple[str, Digest]]) -> Digest:
    hasher = xxhash.xxh3_128()
    for name, (low, high) in parts:
        hasher.update(f"{name}\0".encode())
        hasher.update(low.to_bytes(8, "little") + high.to_bytes(8, "little"))
    return _split(hasher.intdigest())


def _split(value: int) -> Digest:
    return value & _MASK, value >> 64
