"""The settings of the system and their ranges. `REPORTED` is the configuration of report 004."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rectest.systems.gear.precision import PRECISIONS, Precision
from rectest.systems.protocol import TrainConfig

__all__ = ["REPORTED", "GEARConfig"]

REPORTED: Mapping[str, Any] = {
    "batch_size": 128,
    "learning_rate": 1e-3,
    "weight_decay": 1e-6,
    "patience": 30,
    "embedding_size": 32,
    "num_heads": 2,
    "num_layers": 4,
    "dropout": 0.2,
    "alpha": 0.1,
    "max_length": 50,
    "window_probability": 0.2,
    "eval_candidates": 99,
}
"""The settings that report 004 was trained with, where they differ from the defaults or matter most."""


@dataclass(frozen=True, kw_only=True)
class GEARConfig(TrainConfig):
    """A small model for small worlds; `REPORTED` is the size of report 004."""

    steps: int = 160
    eval_every: int = 40
    batch_size: int = 64
    learning_rate: float = 5e-3
    weight_decay: float = 1e-6
    """Adam's, added to the gradient, as in the original."""

    embedding_size: int = 32
    num_heads: int = 2
    num_layers: int = 1
    """Layers over the interleaved sequence; each branch has one of its own before them."""

    dropout: float = 0.0
    embedding_std: float = 0.1
    alpha: float = 0.1
    """Weight of the behaviour loss beside the item loss."""

    max_length: int = 16
    """Rows of a history that the model sees, the one to be predicted included."""

    window_probability: float = 0.2
    """Probability that a longer training history is cut to a random window instead of its newest rows."""

    min_rows: int = 3
    """Users with fewer rows are left out altogether."""

    target_behaviour: str | None = None
    """The behaviour whose items are recommended; None is the last one that the world declares."""

    predict_only_target: bool = False
    """Count the item loss only where the behaviour is the target. Evaluation always asks for target rows only."""

    eval_candidates: int | None = 99
    """Rank the relevant item among so many drawn ones; None ranks the full catalogue."""

    candidate_folder: str | None = None
    """Where drawn candidates are kept between runs; None keeps them in memory."""

    matmul_precision: Precision = "highest"
    """Below ``highest``, matrix products use TF32: in hardware on CUDA, in the output head elsewhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("embedding_size", "num_heads", "num_layers"):
            self.require(name, getattr(self, name) >= 1, "must be at least 1")
        divides = self.embedding_size % self.num_heads == 0
        self.require("num_heads", divides, f"must divide embedding_size {self.embedding_size}")
        self.require("max_length", self.max_length >= 2, "must be at least 2: a known row and the next one")
        self.require("min_rows", self.min_rows >= 3, "must be at least 3, since two rows are held out")
        self.require("dropout", 0 <= self.dropout < 1, "must be in [0, 1)")
        self.require("embedding_std", self.embedding_std > 0, "must be positive")
        for name in ("weight_decay", "alpha"):
            self.require(name, getattr(self, name) >= 0, "must not be negative")
        self.require("window_probability", 0 <= self.window_probability <= 1, "must be in [0, 1]")
        enough = self.eval_candidates is None or self.eval_candidates >= 1
        self.require("eval_candidates", enough, "must be at least 1, or null for the full catalogue")
        known = self.matmul_precision in PRECISIONS
        self.require("matmul_precision", known, f"must be one of {', '.join(PRECISIONS)}")
