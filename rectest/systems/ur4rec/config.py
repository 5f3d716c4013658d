"""The settings of the system and their ranges. The defaults are the healthy system at a size for small worlds.

Report 001's own sizes are in `parameters`, its three configurations in `presets`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rectest.systems.protocol import TrainConfig

__all__ = ["STAGES", "UR4RecConfig"]

STAGES = ("pretrain_sasrec", "pretrain_retriever", "joint_finetune", "end_to_end")
"""Every stage there is, in the order of the report."""


@dataclass(frozen=True, kw_only=True)
class UR4RecConfig(TrainConfig):
    """Four stages, memory on, both components on one scale."""

    steps: int = 180
    eval_every: int = 60
    batch_size: int = 64
    learning_rate: float = 1e-2
    """Of SASRec; everything else has `retriever_learning_rate`."""

    retriever_learning_rate: float = 1e-2
    weight_decay: float = 0.01
    """Of matrices; tables, biases and norms do not decay."""

    warmup_steps: int = 20
    cosine_steps: int | None = None
    """Half a period of the cosine; None ties it to the run. The report's 1000 lets the rate rise again after it."""

    clip_norm: float = 1.0
    stages: tuple[str, ...] = STAGES
    stage_shares: tuple[float, ...] = (0.35, 0.25, 0.15, 0.25)
    """Share of the steps that each stage lasts."""

    split: Literal["leave_two_out", "ratio"] = "leave_two_out"
    """``ratio`` is the report's: the last items of the first 80 %, of the first 90 % and of all are the targets."""

    targets: Literal["all", "last"] = "all"
    """``last``: one target per user and epoch, as in the report. ``all``: every position."""

    num_negatives: int = 3
    num_picked: int = 5
    """Newest training items of a user that the retriever is trained on, with ``targets: all``."""

    num_candidates: int = 99
    """Drawn candidates beside the relevant one in evaluation."""

    embedding_size: int = 32
    max_length: int = 20
    num_blocks: int = 1
    num_heads: int = 2
    sasrec_dropout: float = 0.1
    embedding_std: float = 0.1
    text_size: int = 48
    """Of the frozen text vectors; the report's sentence encoder has 384."""

    preference_items: int = 20
    """Newest training items that a user's preference text is written from."""

    retriever_dropout: float = 0.1
    retriever_heads: int = 2
    num_proxies: int = 4
    temperature: float = 0.07
    normalise: bool = True
    """Cosine in the retriever, and each component standardised over a user's candidates before they are weighted."""

    sasrec_weight: float = 0.8
    retriever_weight: float = 0.2
    memory_history: int = 10
    memory_threshold: int = 3
    """Interactions of a user from which on its memory is refreshed."""

    memory_decay: float = 0.95
    uncertainty_weighting: bool = True
    """Learn a weight for each loss where both train; off, the losses are added."""

    adaptive_alternation: bool = True
    """Train one component at a time in ``joint_finetune``, switching when its loss stalls; off, train both."""

    alternation_threshold: float = 0.01
    alternation_steps: int = 5
    """Steps between two switches, at least."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = "num_negatives num_picked num_candidates embedding_size max_length num_blocks num_heads text_size"
        sizes += " preference_items retriever_heads num_proxies memory_history memory_threshold alternation_steps"
        for name in sizes.split():
            self.require(name, getattr(self, name) >= 1, "must be at least 1")
        for name in ("num_heads", "retriever_heads"):
            divides = self.embedding_size % getattr(self, name) == 0
            self.require(name, divides, f"must divide embedding_size {self.embedding_size}")
        for name in ("sasrec_dropout", "retriever_dropout"):
            self.require(name, 0 <= getattr(self, name) < 1, "must be in [0, 1)")
        for name in ("retriever_learning_rate", "clip_norm", "embedding_std", "temperature"):
            self.require(name, getattr(self, name) > 0, "must be positive")
        for name in ("weight_decay", "warmup_steps", "sasrec_weight", "retriever_weight", "alternation_threshold"):
            self.require(name, getattr(self, name) >= 0, "must not be negative")
        self.require("retriever_weight", self.sasrec_weight + self.retriever_weight > 0, "or sasrec_weight must be > 0")
        self.require("memory_decay", 0 < self.memory_decay <= 1, "must be in (0, 1]")
        self.require("cosine_steps", self.cosine_steps is None or self.cosine_steps >= 1, "must be at least 1, or null")
        self._check_stages()

    def _check_stages(self) -> None:
        known = bool(self.stages) and set(self.stages) <= set(STAGES)
        self.require("stages", known, f"needs at least one of {', '.join(STAGES)}")
        shares = self.stage_shares
        fits = len(shares) == len(self.stages) and min(shares) > 0 and abs(sum(shares) - 1) < 1e-9
        self.require("stage_shares", fits, f"needs {len(self.stages)} positive shares that sum to 1")
        for name, choices in (("split", ("leave_two_out", "ratio")), ("targets", ("all", "last"))):
            self.require(name, getattr(self, name) in choices, f"must be one of {', '.join(choices)}")
