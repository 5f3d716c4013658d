"""The settings of the system and their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rectest.systems.gram_c.samples import NUM_RECENT
from rectest.systems.protocol import TrainConfig

__all__ = ["GramCConfig"]

_POSITIVE = (
    "embedding_size", "num_heads", "num_blocks", "num_passages", "passage_length", "num_word_tokens",
    "num_levels", "graph_size", "graph_layers", "graph_steps", "accumulation", "beam_size",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GramCConfig(TrainConfig):
    """Sizes are small enough for seconds on one core; the shape of everything is that of report 003's system."""

    steps: int = 260
    eval_every: int = 130
    batch_size: int = 32
    """Samples of one optimizer step, all micro-batches together."""

    eval_block: int = 64
    learning_rate: float = 1e-2
    """The peak, reached after the warm-up; then it falls linearly to zero at the last step."""

    warmup: float = 0.05
    """Share of the steps in which the learning rate rises linearly from zero."""

    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest norm of the gradient of all parameters together."""

    accumulation: int = 1
    """Micro-batches of a full step; the last step of an epoch may have fewer and shorter ones."""

    embedding_size: int = 48
    num_heads: int = 2
    num_blocks: int = 2
    """Blocks of the encoder, and as many of the decoder."""

    dropout: float = 0.0
    num_passages: int = 1
    """Texts of the newest items that are read beside passage 0, which holds the ids of the history."""

    passage_length: int = 12
    """Tokens to which each passage is cut."""

    num_word_tokens: int = 256
    """Words are hashed into so many tokens."""

    max_history: int = 20
    """Newest items of a history that a sample may know; older ones are cut off."""

    num_levels: int = 4
    num_codes: int = 16
    """Codes of each level of an item's id."""

    graph_size: int = 32
    graph_layers: int = 2
    graph_steps: int = 60
    """Training steps of the graph table."""

    collaborative_prefix: bool = True
    """Give the decoder the graph vectors of the newest items as one more token."""

    prefix_scale: float = 0.1
    prefix_dropout: float = 0.1
    prefix_drop_whole: float = 0.2
    """Probability that a sample is trained without its prefix."""

    decoding: Literal["exact", "beam"] = "exact"
    """``exact`` scores every item; ``beam`` those that a constrained beam search finds, see `beam`."""

    beam_size: int = 50
    exclude_seen: bool | None = None
    """Never rank items of the user's history; None excludes them unless the world's users repeat items."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in _POSITIVE:
            self.require(name, getattr(self, name) >= 1, "must be at least 1")
        for name in ("dropout", "prefix_dropout", "prefix_drop_whole", "warmup"):
            self.require(name, 0 <= getattr(self, name) < 1, "must be in [0, 1)")
        divides = self.embedding_size % self.num_heads == 0
        self.require("num_heads", divides, f"must divide embedding_size {self.embedding_size}")
        self.require("num_codes", self.num_codes >= 2, "must be at least 2")
        self.require("max_history", self.max_history >= NUM_RECENT, f"must be at least {NUM_RECENT}")
        self.require("num_levels", self.num_levels <= 26, "must be at most 26, one letter for each")
        self.require("weight_decay", self.weight_decay >= 0, "must not be negative")
        self.require("clip", self.clip > 0, "must be positive")
        self.require("accumulation", self.accumulation <= self.batch_size, "must be at most batch_size")
        self.require("decoding", self.decoding in ("exact", "beam"), "must be one of exact, beam")
