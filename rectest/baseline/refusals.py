"""What may not become a baseline although its records are sound: the code, the seeds, or what it would let pass.

Each rule is a function that gives the reason in words, empty where there is none; `require` turns reasons into an
`UpdateRefused`. What is wrong with the records themselves is refused in `build`.

Unstable seeds. A stored sd that a few bad seeds have blown up hides real drops behind it. On the logs of each of F
features a seed is blamed while the Shapiro-Wilk test rejects normality at 0.001 / F: the one furthest from the median
first, then the next one without it. More than one blamed seed of 16, over all features, refuses the baseline. F
features are F chances of a false alarm, and the same seeds would be refused for ever: hence the division, and hence
two seeds; of 3,000 clean normal baselines with 10 independent features none was refused (`tests`). Seeds beyond 5 MAD,
a rule that a clean feature of 16 seeds breaks 1.7 times in 100, warn and never refuse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.ensemble import centre, feature_floor, percent, signed_logs
from rectest.baseline.gating import look
from rectest.baseline.looks import MAX_RUNS
from rectest.baseline.recording import Recording, TrainMany
from rectest.baseline.schema import Baseline
from rectest.baseline.store import BaselineStore
from rectest.checks.result import CheckResult
from rectest.errors import UpdateRefused
from rectest.record import RunSpec

__all__ = [
    "Judge",
    "UnstableSeed",
    "dirty_reason",
    "refuse_unfit",
    "require",
    "survivor_reason",
    "unstable_reason",
    "unstable_seeds",
    "verdict_under",
]

Judge = Callable[[RunSpec, TrainMany], CheckResult]
"""Trains a spec as a gate does and gives the gate's verdict."""

SHAPIRO_LEVEL = 1e-3
"""Over all features of a baseline together."""

MAD_LIMIT = 5.0
_MAD_TO_SD = 1.4826
_FLOORS = 4.0
"""A seed that is no further from the median than this many of the least sds that are believed is not blamed: it has a
hit more or less (3.5 of them), or what the noise of users explains."""

_SEEDS_PER_BAD_ONE = 16
_FEWEST_TESTED = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class UnstableSeed:
    """One seed that lies apart from the others."""

    seed: int
    feature: str
    """Where it lies furthest apart."""

    value: float
    typical: float
    """Geometric mean of the feature over all seeds."""

    mads: float
    """Distance from the median, in MADs that are scaled to an sd."""

    blamed: bool
    """Whether it counts towards a refusal, and not only towards a warning."""

    def describe(self) -> str:
        """The seed in words."""
        change = percent(self.value / self.typical - 1)
        return f"seed {self.seed}: {self.feature} {self.value:.6g} ({change}, {self.mads:.2g} MAD)"


def require(reasons: Iterable[str]) -> None:
    """Raise an `UpdateRefused` that names every reason that is not empty."""
    found = [reason for reason in reasons if reason]
    if found:
        raise UpdateRefused("; ".join(found))


def dirty_reason(dirty: bool | None, *, allowed: bool, reason: str, options: str = "--") -> str:
    """Why this working tree may not record; what git does not know (None) is allowed.

    Args:
        dirty: As `provenance.git_state` says.
        allowed: Whether the person asked for it all the same.
        reason: Theirs; uncommitted changes need one.
        options: What the names of options begin with, where this is called.
    """
    if not dirty or (allowed and reason.strip()):
        return ""
    what = "the working tree has uncommitted changes, which no commit will ever show again"
    if allowed:
        return f"{what}: {options}allow-dirty needs {options}reason=TEXT that says why"
    return f"{what}; commit them first, or record all the same with {options}allow-dirty {options}reason=TEXT"


def unstable_seeds(baseline: Baseline) -> tuple[UnstableSeed, ...]:
    """Seeds that lie apart in some feature, the furthest first; a feature that never moves has none."""
    ensemble = baseline.ensemble
    level, worst = SHAPIRO_LEVEL / len(ensemble.features), dict[int, UnstableSeed]()
    for name, values in ensemble.features.items():
        logs, floor = signed_logs(name, values), feature_floor(name, baseline)
        apart = np.abs(logs - np.median(logs))
        mads = apart / max(_MAD_TO_SD * float(np.median(apart)), floor)
        blamed = _blamed(logs, apart, level=level, least=_FLOORS * floor)
        for place in sorted({*blamed, *np.flatnonzero(mads > MAD_LIMIT).tolist()}):
            found = UnstableSeed(
                seed=ensemble.seeds[place],
                feature=name,
                value=values[place],
                typical=centre(values),
                mads=float(mads[place]),
                blamed=place in blamed,
            )
            known = worst.get(found.seed)
            if known is None or (found.blamed, found.mads) > (known.blamed, known.mads):
                worst[found.seed] = found
    return tuple(sorted(worst.values(), key=lambda seed: -seed.mads))


def _blamed(logs: NDArray[np.float64], apart: NDArray[np.float64], *, level: float, least: float) -> list[int]:
    """Places to take away, the furthest first, until the rest looks normal; at most half of them."""
    from scipy.stats import shapiro

    rest = np.argsort(apart, kind="stable").tolist()
    found: list[int] = []
    while len(rest) >= max(_FEWEST_TESTED, len(logs) / 2) and apart[rest[-1]] > least:
        if not shapiro(logs[rest]).pvalue < level:
            break
        found.append(rest.pop())
    return found


def unstable_reason(found: Sequence[UnstableSeed], *, num_seeds: int) -> str:
    """Why seeds this unstable may not carry a gate."""
    blamed = [seed for seed in found if seed.blamed]
    if len(blamed) <= max(1, math.floor(num_seeds / _SEEDS_PER_BAD_ONE)):
        return ""
    listed = ", ".join(seed.describe() for seed in blamed[:3]) + (", ..." if len(blamed) > 3 else "")
    return (
        f"unstable seeds, {len(blamed)} of {num_seeds}: {listed}; their spread would hide real drops: look at these "
        "runs (diverged? another optimum? too few steps?) and make the training stable first"
    )


def survivor_reason(name: str, about: str, found: CheckResult) -> str:
    """Why a baseline that does not see a standing fault may not be one."""
    said = f"{found.verdict} {found.figure}".strip()
    what = " ".join(about.split()).rstrip(".")
    return (
        f"the standing fault {name} survives: planted in this very training ({what}), the gate says {said}; "
        "record more seeds, or train longer"
    )


def verdict_under(made: Recording, spec: RunSpec, train: TrainMany) -> CheckResult:
    """What the gate would say about `spec` if `made` were the stored baseline; nothing of it stays.

    Raises:
        RectestError: a training failed.
    """
    with TemporaryDirectory(prefix="rectest-baseline-") as folder:
        store = BaselineStore(Path(folder))
        store.save(made.baseline, sidecar=made.sidecar)
        _, judged = look(store, spec, train, max_runs=MAX_RUNS)
    return judged.results[0]


def refuse_unfit(
    made: Recording, *, survivors: Callable[[Judge], Iterable[tuple[str, str, CheckResult]]]
) -> tuple[str, ...]:
    """Warnings about a recording that may become a baseline.

    Args:
        made: What was recorded.
        survivors: Gives the standing faults that a gate does not see: name, what it does, what the gate said.

    Raises:
        UpdateRefused: its seeds are unstable, or a standing fault survives.
        RectestError: the training of a standing fault failed.
    """
    seeds = unstable_seeds(made.baseline)
    require([unstable_reason(seeds, num_seeds=len(made.baseline.ensemble.seeds))])

    def judge(spec: RunSpec, train: TrainMany) -> CheckResult:
        return verdict_under(made, spec, train)

    require(survivor_reason(*found) for found in survivors(judge))
    return tuple(f"unstable seeds: {seed.describe()}" for seed in seeds)
