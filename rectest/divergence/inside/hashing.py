"""The hash function of a tape: xxh3 of the script's environment, else that of rectest's own, else SHA-256.

At 58 GB/s against 1.8 it decides what recording costs, so an environment without xxhash borrows the one that rectest
was installed with, where its compiled module fits the interpreter (the parent says where it lies). It is loaded under a
private name: the script itself still finds no xxhash.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any

__all__ = ["BORROWED", "algorithm", "digest_bytes", "new_hasher"]

BORROWED = "RECTEST_WHY_XXHASH"
"""Environment variable: the folder of the xxhash package that may be borrowed."""

_PRIVATE = "_rectest_xxhash"
_chosen: list[Any] = []
"""What makes a hasher, and what gives 16 bytes at one go; chosen at first use."""


def new_hasher(data: Any = b"") -> Any:
    """A hasher with ``update`` and ``hexdigest`` (32 hex digits)."""
    return (_chosen or _choose())[0](data)


def digest_bytes(data: Any) -> bytes:
    """16 bytes for anything with a buffer."""
    digest: bytes = (_chosen or _choose())[1](data)
    return digest


def algorithm() -> str:
    """Which digests stand on a tape: those of two algorithms cannot be compared."""
    return "sha256-128" if (_chosen or _choose())[0] is _Sha256 else "xxh3_128"


class _Sha256:
    """The first half of SHA-256, which processors compute in hardware, faster than blake2b."""

    def __init__(self, data: Any = b"") -> None:
        self._hasher = hashlib.sha256(data)

    def update(self, data: Any) -> None:
        self._hasher.update(data)

    def hexdigest(self) -> str:
        return self._hasher.hexdigest()[:32]


def _sha256(data: Any) -> bytes:
    return hashlib.sha256(data).digest()[:16]


def _choose() -> list[Any]:
    found: Any
    try:
        import xxhash as found
    except ImportError:
        found = _borrowed(os.environ.get(BORROWED, ""))
    _chosen[:] = [_Sha256, _sha256] if found is None else [found.xxh3_128, found.xxh3_128_digest]
    return _chosen


def _borrowed(folder: str) -> Any:
    """The package in `folder`, or None where its compiled module is for another interpreter."""
    if not folder or not os.path.exists(os.path.join(folder, f"_xxhash{EXTENSION_SUFFIXES[0]}")):
        return None
    spec = importlib.util.spec_from_file_location(
        _PRIVATE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    if spec is None or spec.loader is None:
        return None
    package = sys.modules[_PRIVATE] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(package)
        return package if len(package.xxh3_128_digest(b"")) == 16 else None
    except Exception:
        for name in [name for name in sys.modules if name.partition(".")[0] == _PRIVATE]:
            del sys.modules[name]
        return None
