"""`SeedPlan`: one root seed, any number of named child streams that never disturb each other.

Report 000 blamed an "unseeded" iterator; what its code really had was one shared stream, in which one extra draw
anywhere moves every later batch. Here each purpose owns a stream that is derived from its *name* alone: not from
the order in which streams are made, not from the number of ranks, not from `PYTHONHASHSEED`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

__all__ = ["SeedPlan"]

_DOMAIN = b"rectest.seeding/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedPlan:
    """A root seed and a path of names; every path is an independent stream.

    >>> plan = SeedPlan(root=42)
    >>> first = plan.rng("batches").integers(0, 100, 3)
    >>> _ = plan.rng("negatives").random(1000)
    >>> bool((plan.rng("batches").integers(0, 100, 3) == first).all())
    True
    >>> plan.child("init").seed("layer") == plan.seed("init/layer")
    True
    """

    root: int
    path: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.root, bool) or not isinstance(self.root, int):
            msg = f"the root seed must be an integer, got {self.root!r}"
            raise TypeError(msg)
        if not 0 <= self.root < 2**63:
            msg = f"the root seed must be in 0..2**63-1, got {self.root}"
            raise ValueError(msg)

    def child(self, name: str) -> SeedPlan:
        """The plan below `name`; `plan.child("a").child("b")` and `plan.child("a/b")` are the same plan."""
        return SeedPlan(root=self.root, path=self._join(name))

    def for_rank(self, rank: int) -> SeedPlan:
        """The streams that one rank may draw from alone (dropout); everything else must not depend on the rank."""
        if rank < 0:
            msg = f"rank must be at least 0, got {rank}"
            raise ValueError(msg)
        return self.child(f"rank={rank}")

    def seed(self, name: str) -> int:
        """A seed in 0..2**63-1 for `torch.Generator.manual_seed` and others that take one integer."""
        return int.from_bytes(self._digest(self._join(name))[:8], "little") >> 1

    def rng(self, name: str) -> np.random.Generator:
        """A fresh NumPy generator at the start of the stream `name`."""
        entropy = int.from_bytes(self._digest(self._join(name)), "little")
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))

    def _join(self, name: str) -> str:
        if not name or name != name.strip("/") or "//" in name:
            msg = f"a stream needs a name like 'negatives' or 'init/items', got {name!r}"
            raise ValueError(msg)
        return f"{self.path}/{name}" if self.path else name

    def _digest(self, path: str) -> bytes:
        message = self.root.to_bytes(8, "little") + path.encode()
        return hashlib.blake2b(message, digest_size=16, person=_DOMAIN[:16]).digest()
