"""The experiments of reports 001, 002 and 004 as arms of run specs: presets, ablations, precision.

Each compares arms with a base over the same seeds, pair by pair; what a report expects is printed beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rectest.cli.studies import REPORT_SEEDS, Study

if TYPE_CHECKING:
    from rectest.checks.result import CheckResult
    from rectest.record import RunRecord, RunSpec

__all__ = ["COMPARISONS", "FEATURES"]

FEATURES: dict[str, tuple[dict[str, Any], str]] = {
    "adaptive similarity": ({"adaptive": True, "similarity": ["dot", "cosine", "scaled"]}, "AUC +1 to +3 %"),
    "smart negatives": ({"smart_negatives": True}, "recall +2 to +5 %"),
    "curriculum": ({"smart_negatives": True, "curriculum": True}, "a better result than without"),
    "norm_first": ({"norm_first": True}, "part of the full preset only"),
    "full preset": (
        {
            "adaptive": True,
            "similarity": ["dot", "cosine", "scaled", "bilinear"],
            "smart_negatives": True,
            "norm_first": True,
            "embedding_size": 64,
        },
        "the best of all",
    ),
}
"""Report 002's features as settings of ``adaptive_sasrec``, and what it expects of each."""

PRECISIONS = {"medium": "a loss of accuracy below 0.1 %"}


def _seeded(spec: RunSpec, settings: Mapping[str, Any]) -> list[RunSpec]:
    config = {**spec.config, **settings}
    return [spec.with_(seed=seed, config=config) for seed in REPORT_SEEDS]


def _ablations(spec: RunSpec) -> dict[str, list[RunSpec]]:
    """The baseline, each feature alone, and all together: the last changes more than one thing, and says so."""
    features = {name: _seeded(spec, settings) for name, (settings, _) in FEATURES.items()}
    return {"baseline": _seeded(spec, {}), **features}


def _precision(spec: RunSpec) -> dict[str, list[RunSpec]]:
    """Full precision and TF32 in the output head; emulated bit by bit where there is no such hardware."""
    return {name: _seeded(spec, {"matmul_precision": name}) for name in ("highest", *PRECISIONS)}


def _presets(spec: RunSpec) -> dict[str, list[RunSpec]]:
    """Report 001's three configurations side by side, for equally many epochs unless the steps are given."""
    from rectest.systems.ur4rec.presets import PRESETS, preset

    chosen = {name: dict(PRESETS[name]) if spec.steps else preset(name) for name in PRESETS}
    return {name: _seeded(spec, settings) for name, settings in chosen.items()}


def _judge(claims: Mapping[str, str]) -> Callable[[Mapping[str, Sequence[RunRecord]], str], list[CheckResult]]:
    """Every later arm against the first."""

    def judge(records: Mapping[str, Sequence[RunRecord]], metric: str) -> list[CheckResult]:
        from rectest.checks.comparison import difference

        (_, base), *others = records.items()
        test = metric.replace("valid/", "test/", 1)
        return [
            result
            for name, group in others
            for result in difference(base, group, test, name=name, claimed=claims.get(name, ""))
        ]

    return judge


COMPARISONS = (
    Study(
        name="presets",
        about="report 001's configurations original, conservative and aggressive side by side",
        arms=_presets,
        judge=_judge({"conservative": "twice the metrics", "aggressive": "where conservative is not enough"}),
        system="ur4rec",
    ),
    Study(
        name="ablations",
        about="report 002's features one at a time and all together, each against the baseline",
        arms=_ablations,
        judge=_judge({name: claim for name, (_, claim) in FEATURES.items()}),
        system="adaptive_sasrec",
    ),
    Study(
        name="precision",
        about="TF32 in the output head: what it costs in accuracy",
        arms=_precision,
        judge=_judge(PRECISIONS),
        system="gear",
    ),
)
