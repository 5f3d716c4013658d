"""`Fault`: one planted way in which training goes wrong, and the checks that must notice it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rectest.record import RunSpec

__all__ = ["Fault"]

_PLANT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A fault that can be planted in a system: ``RunSpec(system=fault.system, plant=fault.plant)``."""

    name: str
    plant: str
    """``module:function``; the function takes the healthy system and returns the faulty one."""

    system: str
    """The registered name of the system it is made for."""

    turns_red: tuple[str, ...]
    """The checks (``embeddings/padding_row``) or families of checks (``baseline`` for any ``baseline/...``) that must
    fail on it, each of them alone; an empty tuple would be a fault that nothing notices."""

    about: str
    """One sentence: what is wrong and where it happened."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """What is switched on for the fault to matter, as in ``RunSpec.config``. The clean system under the same settings
    is what the faulty one is compared with, and must be green itself."""

    def __post_init__(self) -> None:
        if not _PLANT.fullmatch(self.plant):
            msg = f"fault {self.name!r}: plant must look like module:function, got {self.plant!r}"
            raise ValueError(msg)
        if not self.turns_red:
            msg = f"fault {self.name!r}: turns_red must name at least one check"
            raise ValueError(msg)
        for key in ("name", "system", "about"):
            if not getattr(self, key):
                msg = f"fault {self.name!r}: {key} must not be empty"
                raise ValueError(msg)

    @property
    def spec(self) -> RunSpec:
        """The faulty training at the system's defaults, but for `settings`."""
        return RunSpec(system=self.system, plant=self.plant, config=self.settings)
