"""The settings of the system and their ranges. Every optional feature is off by default; off is bit for bit the
baseline (report 002 asks for that: all features optional, one at a time, with a way back).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rectest.systems.adaptive_sasrec.similarity import SIMILARITIES
from rectest.systems.protocol import TrainConfig

__all__ = ["AdaptiveSASRecConfig"]


@dataclass(frozen=True, kw_only=True)
class AdaptiveSASRecConfig(TrainConfig):
    """The baseline is dot product, BCE, one uniform negative per position."""

    steps: int = 250
    eval_every: int = 50
    batch_size: int = 128
    learning_rate: float = 3e-3

    embedding_size: int = 48
    num_blocks: int = 1
    num_heads: int = 1
    max_length: int = 20
    """Newest items of a history that the model sees; older ones are cut off."""

    norm_first: bool = False
    dropout: float = 0.0
    embedding_std: float = 0.02
    """Standard deviation of both embedding tables at the start; small, so that the first loss is 2 ln 2."""

    similarity: tuple[str, ...] = ("dot",)
    """One name, or with `adaptive` the names that are blended: dot, cosine, scaled, bilinear."""

    adaptive: bool = False
    """Learn the weights of the similarities and a temperature."""

    bilinear_init: Literal["xavier", "identity"] = "xavier"
    serve_with: Literal["trained", "dot"] = "trained"
    """``dot`` serves by inner product whatever was trained, as the index of report 002's system does."""

    smart_negatives: bool = False
    """Draw a share of the negatives by counted popularity instead of uniformly."""

    popular_ratio: float = 0.3
    """Probability of a popular negative, per draw, with `smart_negatives` and without `curriculum`."""

    popularity_power: float = 0.75
    curriculum: bool = False
    """Raise the probability of a popular negative with the thirds of training: 0.1, 0.5, 0.8."""

    negatives_exclude_own: bool = True
    """Never draw an item of the user's own training sequence as a negative."""

    exclude_seen: bool | None = None
    """Never rank items of the user's history; None excludes them unless the world's users repeat items."""

    eval_candidates: int | None = None
    """Rank the relevant item among so many drawn ones instead of the full catalogue."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("embedding_size", "num_blocks", "num_heads", "max_length"):
            self.require(name, getattr(self, name) >= 1, "must be at least 1")
        divides = self.embedding_size % self.num_heads == 0
        self.require("num_heads", divides, f"must divide embedding_size {self.embedding_size}")
        self.require("dropout", 0 <= self.dropout < 1, "must be in [0, 1)")
        self.require("embedding_std", self.embedding_std > 0, "must be positive")
        self._check_similarity()
        self.require("popular_ratio", 0 <= self.popular_ratio <= 1, "must be in [0, 1]")
        self.require("popularity_power", 0 <= self.popularity_power <= 4, "must be in [0, 4]")
        self.require("curriculum", self.smart_negatives or not self.curriculum, "needs smart_negatives")
        enough = self.eval_candidates is None or self.eval_candidates >= 1
        self.require("eval_candidates", enough, "must be at least 1, or null for the full catalogue")

    def _check_similarity(self) -> None:
        known = set(self.similarity) <= set(SIMILARITIES)
        self.require("similarity", known, f"may name {', '.join(SIMILARITIES)}")
        distinct = len(set(self.similarity)) == len(self.similarity)
        self.require("similarity", bool(self.similarity) and distinct, "needs at least one name, none twice")
        single = self.adaptive or len(self.similarity) == 1
        self.require("similarity", single, "can only be blended with adaptive=true; name one")
        for name, known_values in (("bilinear_init", ("xavier", "identity")), ("serve_with", ("trained", "dot"))):
            self.require(name, getattr(self, name) in known_values, f"must be one of {', '.join(known_values)}")
