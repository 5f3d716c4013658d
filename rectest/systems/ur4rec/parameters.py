"""How many parameters the configuration of report 001 has: by formula, and by building the very same modules.

The report logged 27,168,644 of which 4,455,428 train. The formula reproduces both to the digit, which proves that
nothing of the report's model is missing here (what `UserMemory`'s gate looks at is our choice among layouts of the
same size). The two learned loss weights are not among them: in the report they were part of no model and no optimizer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rectest.seeding import SeedPlan
from rectest.systems.ur4rec.config import UR4RecConfig
from rectest.systems.ur4rec.model import UR4Rec

__all__ = ["MINI_LM", "ParameterCount", "built_count", "formula_count", "report_config"]

MINI_LM = 22_713_216
"""Parameters of the frozen sentence encoder all-MiniLM-L6-v2 (6 layers of width 384, 30,522 words, 512 positions)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterCount:
    """Trainable parameters by part."""

    sasrec: int
    mixture: int
    memory: int
    text_projection: int
    item_table: int

    @property
    def trainable(self) -> int:
        """All of them, without the two loss weights."""
        return self.sasrec + self.mixture + self.memory + self.text_projection + self.item_table

    @property
    def total(self) -> int:
        """With the frozen text encoder."""
        return self.trainable + MINI_LM


def formula_count(
    *, num_items: int, size: int, max_length: int = 50, num_blocks: int = 2, num_proxies: int = 4, text_size: int = 384
) -> ParameterCount:
    """The sizes by arithmetic: a linear layer from a to b has a b + b, a LayerNorm of d has 2 d.

    >>> count = formula_count(num_items=1659, size=256)
    >>> count.trainable, count.total
    (4455428, 27168644)
    """
    square, norm = size * size + size, 2 * size
    block = 4 * square + 2 * square + 2 * norm
    expert = 4 * square + norm + (size * 2 * size + 2 * size) + (2 * size * size + size)
    router = 2 * 4 * size + (4 * size * size + size) + (3 * size + 3)
    cell, gate = 6 * size * size + 6 * size, (3 * size * size + size) + (size + 1)
    table = (num_items + 1) * size
    return ParameterCount(
        sasrec=table + max_length * size + num_blocks * block + norm,
        mixture=3 * expert + router + 4 * square + num_proxies * size + norm,
        memory=cell + gate,
        text_projection=text_size * size + size + norm,
        item_table=table,
    )


def report_config(*, size: int = 256) -> UR4RecConfig:
    """Report 001's sizes; 128 is what its conservative remedy asks for."""
    return UR4RecConfig(
        embedding_size=size,
        max_length=50,
        num_blocks=2,
        num_heads=4,
        retriever_heads=8 if size == 256 else 4,
        text_size=384,
    )


def built_count(config: UR4RecConfig, *, num_items: int, num_users: int = 1) -> ParameterCount:
    """The sizes by building the modules and counting."""
    model = UR4Rec(
        config,
        item_text_VT=torch.zeros(num_items + 1, config.text_size),
        user_text_UT=torch.zeros(num_users, config.text_size),
        seeds=SeedPlan(root=0),
    )
    parts = {
        "sasrec": "sasrec.",
        "mixture": "retriever.mixture.",
        "memory": "retriever.memory.",
        "text_projection": "retriever.project",
        "item_table": "retriever.item_table.",
    }
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return ParameterCount(
        **{part: sum(size for name, size in sizes.items() if name.startswith(prefix)) for part, prefix in parts.items()}
    )
