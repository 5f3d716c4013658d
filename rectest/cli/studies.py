"""The experiments of report 000 as arms of run specs and a judgement on their records; `study` runs and prints them.

A report's expectation is printed beside what was measured, never used as a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rectest.checks.result import CheckResult
    from rectest.record import RunRecord, RunSpec
    from rectest.systems.protocol import System

__all__ = ["REPORT_SEEDS", "STUDIES", "Study", "require_system"]

REPORT_SEEDS = (19, 42, 2024)
"""The seeds that report 000 asks for."""

Records = Mapping[str, Sequence["RunRecord"]]


@dataclass(frozen=True, kw_only=True)
class Study:
    """One experiment: named arms of specs, and what their records say."""

    name: str
    about: str
    arms: Callable[[RunSpec], dict[str, list[RunSpec]]]
    """From the spec that the user asked for to the specs of each arm."""

    judge: Callable[[Records, str], list[CheckResult]]
    """From the records of each arm and the monitored metric to results."""

    system: str = "comirec"
    """The system it is about, trained unless another is asked for."""


def _before_after(spec: RunSpec) -> dict[str, list[RunSpec]]:
    """Three repetitions each of one seed: as reported, as the code really was, and with a stream of its own."""
    from rectest.errors import RectestError

    faults = "rectest.faults.comirec"
    if spec.system != "comirec":
        msg = f"this study plants faults made for comirec, not for {spec.system}; use --system comirec"
        raise RectestError(msg)
    return {
        "as reported: an unseeded generator": _repeat(spec.with_(plant=f"{faults}:unseeded_iterator")),
        "as it was: the seeded global one": _repeat(spec.with_(plant=f"{faults}:shared_global_rng")),
        "after: a stream of its own": _repeat(spec),
    }


def _judge_before_after(records: Records, metric: str) -> list[CheckResult]:
    from dataclasses import replace

    from rectest.checks.fluctuation import same_seed_spread

    *before, after = records.values()
    results = []
    for name, group in zip(records, before, strict=False):
        found = same_seed_spread(group, after, metric)
        results += [replace(r, subject=f"{r.subject.partition(' ')[0]}/{name}") for r in found]
    return results


def _seeds(spec: RunSpec) -> dict[str, list[RunSpec]]:
    return {f"seed {seed}": [spec.with_(seed=seed)] for seed in REPORT_SEEDS}


def _judge_seeds(records: Records, metric: str) -> list[CheckResult]:
    from rectest.checks.fluctuation import seed_spread

    runs = [record for group in records.values() for record in group]
    return seed_spread(runs, metric) + seed_spread(runs, metric.replace("valid/", "test/", 1))


def _phases(spec: RunSpec) -> dict[str, list[RunSpec]]:
    """The same seeds, evaluated often enough that the curve reaches the report's late phase (evaluation 51).

    An `eval_every` among the settings is kept.
    """
    config = {"eval_every": max(1, (spec.steps or _default(spec, "steps")) // 60), **spec.config, "patience": None}
    return _seeds(spec.with_(config=config))


def _judge_phases(records: Records, metric: str) -> list[CheckResult]:
    from rectest.checks.fluctuation import phases

    return phases([record for group in records.values() for record in group], metric)


def _negatives(spec: RunSpec) -> dict[str, list[RunSpec]]:
    """Half, as many and twice as many negatives a row as asked for or usual, under the report's seeds."""
    usual = int(_default(spec, "neg_num"))
    counts = sorted({max(1, usual // 2), usual, 2 * usual})
    return {
        f"neg_num {count}": [spec.with_(seed=seed, config={**spec.config, "neg_num": count}) for seed in REPORT_SEEDS]
        for count in counts
    }


def _judge_arms_by_seed(records: Records, metric: str) -> list[CheckResult]:
    from dataclasses import replace

    from rectest.checks.fluctuation import seed_spread

    return [
        replace(result, subject=f"{result.subject.partition(' ')[0]}/{name}")
        for name, group in records.items()
        for result in seed_spread(group, metric.replace("valid/", "test/", 1))
    ]


def _fixed_order(spec: RunSpec) -> dict[str, list[RunSpec]]:
    """Users in turn instead of at random: what the order is worth, under the report's seeds."""
    _default(spec, "order")
    return {
        order: [spec.with_(seed=seed, config={**spec.config, "order": order}) for seed in REPORT_SEEDS]
        for order in ("random", "fixed")
    }


def _deterministic(spec: RunSpec) -> dict[str, list[RunSpec]]:
    """Two repetitions with torch's deterministic mode, two without."""
    return {
        "deterministic mode": _repeat(spec, times=2),
        "plain mode": _repeat(spec.with_(deterministic=False), times=2),
    }


def _judge_deterministic(records: Records, _metric: str) -> list[CheckResult]:
    from dataclasses import replace

    from rectest.checks.reproducible import reproducible

    return [
        replace(result, subject=f"{result.subject}/{name}")
        for name, group in records.items()
        for result in reproducible(group[0], group[1])
    ]


def _repeat(spec: RunSpec, *, times: int = 3) -> list[RunSpec]:
    return [spec.with_(replica=replica) for replica in range(times)]


def _default(spec: RunSpec, setting: str) -> Any:
    """A setting's value under the spec's config, the system's default where the config leaves it out.

    Raises:
        ConfigError: the system has no such setting, so the study says nothing about it.
    """
    from rectest.errors import ConfigError

    settings = require_system(spec).settings()
    if setting not in settings:
        raise ConfigError(spec.system, setting, "does not exist; this study varies it")
    return settings[setting]


def require_system(spec: RunSpec) -> System[Any]:
    """The system of the spec, found and configured here, so that a mistake is named before anything is trained."""
    from rectest.systems.registry import make_system

    return make_system(spec.system, spec.config)


STUDIES = {
    study.name: study
    for study in (
        Study(
            name="before-after",
            about="one seed, three runs before and after the fix of the iterator; the first five evaluations",
            arms=_before_after,
            judge=_judge_before_after,
        ),
        Study(
            name="seeds",
            about="seeds 19, 42 and 2024: how far final metrics lie apart",
            arms=_seeds,
            judge=_judge_seeds,
        ),
        Study(
            name="phases",
            about="early against late: the spread over seeds by phase, beside the report's table",
            arms=_phases,
            judge=_judge_phases,
        ),
        Study(
            name="negatives",
            about="more and fewer negatives: do they steady the result",
            arms=_negatives,
            judge=_judge_arms_by_seed,
        ),
        Study(
            name="fixed-order",
            about="users in a fixed order instead of a random one: for debugging, and at what price",
            arms=_fixed_order,
            judge=_judge_arms_by_seed,
        ),
        Study(
            name="deterministic-mode",
            about="torch's deterministic mode on and off: same bits, and at what price",
            arms=_deterministic,
            judge=_judge_deterministic,
        ),
    )
}
