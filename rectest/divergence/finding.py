"""What a comparison of two runs found: plain values that the answer, the details file and the page are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["DIVERGED", "IDENTICAL", "NATURES", "STAGES", "UNKNOWN", "Cause", "Finding", "Growth"]

IDENTICAL, DIVERGED, UNKNOWN = "identical", "diverged", "could not tell"

STAGES: dict[str, str] = {
    "environment": "versions, flags or threads differ",
    "id_map": "ids or vocabularies are assigned differently",
    "data": "the runs read other data",
    "batch": "other examples are drawn",
    "batch_order": "the same examples come in another order",
    "negatives": "the same examples, other negatives",
    "init": "the model starts from other parameters",
    "resume": "one run started from a checkpoint that the other did not have",
    "cache": "one run read a file that an earlier run had written",
    "forward": "equal inputs and parameters give another output",
    "loss": "equal outputs give another loss",
    "backward": "an equal loss gives other gradients",
    "reduction": "equal gradients of each rank give another reduced gradient",
    "optimizer": "equal gradients give other parameters",
    "rng_evaluation": "evaluation or logging drew from the generator that training uses",
    "length": "one run goes on longer than the other",
}
"""The class of the first divergence, and what it says."""

NATURES = ("other numbers", "other arithmetic", "other input", "other settings")
"""Drew other random numbers; computed the same numbers differently; read or ordered something else; other settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """A source of difference, with the line where it enters."""

    kind: str
    """``generator``, ``seed``, ``entropy``, ``hash_order``, ``listing``, ``queue``, ``file``, ``threads``, ``kernel``,
    ``environment``, ``extra_draws``."""

    what: str
    """One sentence, such as ``numpy.random.default_rng() was created without a seed``."""

    site: str = ""
    """``path:line:function`` where it enters; empty if it has no line."""

    drawn_at: str = ""
    """Where its numbers are used first, if that is another line."""

    num_draws: int = 0
    step: int = 0
    """The step at which it is first seen to differ; 0 before training."""

    process: str = "main"
    advice: str = ""
    """What to change."""

    pin: str = ""
    """How `--confirm` holds it still: see `rectest.divergence.confirm`; empty if it cannot be."""

    confirmed: bool | None = None
    """True: with it pinned the divergence is gone (or a later, other one remains); None: not tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """How far apart the runs are after a step."""

    step: int
    loss: float
    """Relative difference of the loss; NaN where a run has none."""

    parameters: float
    """Largest difference of sampled parameter values, relative to their root mean square; NaN where unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The answer to: where did two runs part?"""

    verdict: str
    """`IDENTICAL`, `DIVERGED` or `UNKNOWN`."""

    reason: str = ""
    """Why nothing can be told, or under what restriction the runs are identical."""

    stage: str = ""
    """A key of `STAGES`; empty unless diverged."""

    step: int = 0
    """The first step that differs; 0 before training."""

    process: str = ""
    """The process in which it is seen first, such as ``main`` or ``rank1``."""

    name: str = ""
    """The first tensor, field or file that differs."""

    nature: str = ""
    """One of `NATURES`."""

    causes: tuple[Cause, ...] = ()
    """The likeliest first."""

    evidence: tuple[str, ...] = ()
    """What was equal up to there and what differs, one sentence each."""

    growth: tuple[Growth, ...] = ()
    metric: str = ""
    """The first printed metric that differs: ``step 20: recall@10 0.1234 and 0.1240``."""

    harmless: tuple[Cause, ...] = ()
    """Sources that differ and did not reach training."""

    num_steps: tuple[int, int] = (0, 0)
    """Optimizer steps of both runs."""

    num_events: tuple[int, int] = (0, 0)
    timeline: tuple[Mapping[str, Any], ...] = ()
    """For the page: one row a stage and step with ``step``, ``stage``, ``equal`` (true, false, or null: absent)."""

    @property
    def exit_code(self) -> int:
        """0 identical, 1 diverged, 2 could not tell."""
        return {IDENTICAL: 0, DIVERGED: 1}.get(self.verdict, 2)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
