"""`Environment`: what a run's bits depend on, as a fingerprint, and the coarser class that its statistics depend on.

Bits are comparable only between equal fingerprints. Distributions over seeds are comparable inside one class
(``cpu``, ``cuda-sm90``). Which torch was used and which device is told to this module; it never imports torch.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rectest.errors import RecordError

__all__ = ["Environment", "cpu_model"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """Everything known to change the bits of a training run, and nothing that is known not to."""

    device: str
    """``cpu`` or ``cuda``."""

    device_name: str
    """The processor (vendor, family, model) or the GPU's name."""

    compute_capability: str = ""
    """``9.0`` for an H100; empty on a CPU."""

    arch: str
    isa: str
    """The vector instructions that torch dispatches to, e.g. ``AVX512``: kernels sum in another order under another."""

    threads: int
    """Intra-op threads: with two, the same sum is split in two and rounds otherwise."""

    python: str
    numpy: str
    torch: str
    blas: str = ""
    cuda: str = ""
    cudnn: str = ""
    flags: dict[str, str] = field(default_factory=dict)
    """Determinism switches in force: ``deterministic``, ``tf32``, ``cublas_workspace``."""

    @property
    def env_class(self) -> str:
        """The name of the class inside which distributions over seeds are compared, and of the baseline folder."""
        if self.device == "cuda":
            return f"cuda-sm{self.compute_capability.replace('.', '')}"
        return self.device

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits over all fields: bits are compared between equal fingerprints only."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def differences(self, other: Environment) -> dict[str, tuple[object, object]]:
        """The fields in which two environments differ, with both values."""
        mine, theirs = self.to_dict(), other.to_dict()
        return {key: (mine[key], theirs[key]) for key in mine if mine[key] != theirs[key]}

    def describe(self) -> str:
        """One line for people."""
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        where = f"{self.device_name}, {self.isa.lower()}" if self.device == "cpu" else self.device_name
        return f"{self.env_class} ({where}, {threads}, torch {self.torch}, python {self.python})"

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> Environment:
        """The inverse of `to_dict`.

        Raises:
            RecordError: a field is missing or unknown (written by another version).
        """
        try:
            return cls(**values)  # type: ignore[arg-type]
        except TypeError as e:
            msg = f"an environment that this version does not understand ({e})"
            raise RecordError(msg) from e


def cpu_model() -> str:
    """Vendor, family and model of the processor; BLAS libraries choose kernels by them.

    The marketing name is left out on purpose: virtual machines of one kind report several.
    """
    path = Path("/proc/cpuinfo")
    if sys.platform == "linux" and path.exists():
        text = path.read_text(errors="replace")
        keys = ("vendor_id", "cpu family", "model")
        found = [re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE) for key in keys]
        if all(found):
            return "-".join(match.group(1).strip() for match in found if match)
    return platform.processor() or platform.machine()
