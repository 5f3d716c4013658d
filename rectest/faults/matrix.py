"""The fault x check matrix: every fault and every harmless change really trained, judged by all that its runs allow.

A gate is believed because it can fail. Each row is one fault or control; a declared check that stays green is a
*hole*, anything red on a control is a *false alarm*. This file knows what to train and how to judge it. Who trains
(this process, children) and what is compared with stored baselines are given to it as functions.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import rectest.faults
from rectest.checks.fluctuation import phases, seed_spread
from rectest.checks.leak import held_out_blind
from rectest.checks.purity import schedule_independent
from rectest.checks.reproducible import different_seeds_differ, reproducible
from rectest.checks.result import CheckResult, Verdict
from rectest.checks.resume import resumed
from rectest.checks.single_record import SINGLE
from rectest.errors import RectestError
from rectest.faults.controls import HARMLESS, Control
from rectest.faults.fault import Fault
from rectest.record import RunRecord, RunSpec
from rectest.systems.registry import SYSTEMS, make_system

__all__ = [
    "FAMILIES",
    "NUM_SEEDS",
    "Case",
    "Row",
    "Trial",
    "all_faults",
    "controls",
    "judge_case",
    "matrix_rows",
    "of_one",
    "trial_of",
    "unproven",
]

NUM_SEEDS = 3
"""Seeds of one row: one more than the gate needs for an alarm."""

FAMILIES = (
    "training",
    "reproducible",
    "seed_liveness",
    "purity",
    "effect",
    "embeddings",
    "mapping",
    "ranges",
    "coherence",
    "chance",
    "floor",
    "learning",
    "fusion",
    "invariance",
    "configuration",
    "accounting",
    "checkpoint",
    "evaluation",
    "leak",
    "resume",
    "fluctuation",
    "baseline",
)
"""Columns of the matrix: what stands before the slash in the name of a check."""

WHOLE_USERS = frozenset({"comirec"})
"""Systems that hold out whole users: there is no event of a trained user that training must not see."""

_OF_SEEDS = frozenset({"baseline", "fluctuation", "seed_liveness"})
"""Families that judge several seeds."""

_HELD_OUT_EDITED = "rectest.faults.controls:held_out_edited"

Case = Fault | Control
Train = Callable[[RunSpec], RunRecord]
JudgeSeeds = Callable[[Sequence[RunRecord]], list[CheckResult]]


def all_faults() -> list[Fault]:
    """The faults of every catalogue in this package, by system and in the order of their catalogue."""
    names = sorted(info.name for info in pkgutil.iter_modules(rectest.faults.__path__))
    modules = [importlib.import_module(f"rectest.faults.{name}") for name in names]
    faults: list[Fault] = [fault for module in modules for fault in getattr(module, "CATALOGUE", ())]
    return sorted(faults, key=lambda fault: fault.system)


def controls() -> list[Control]:
    """The harmless changes of every registered system, and the clean system under the settings of each fault."""
    return [control for system in sorted(SYSTEMS) for control in _controls_of(system)]


def _controls_of(system: str) -> list[Control]:
    found = [
        Control(name="clean", system=system, about="The system as it is."),
        Control(
            name="fresh_seeds", system=system, about="Seeds that no baseline was recorded with.", changes={"seed": 1000}
        ),
    ]
    for plant in HARMLESS:
        about = " ".join((plant.__doc__ or "").split())
        place = f"{plant.__module__}:{plant.__name__}"
        found.append(Control(name=plant.__name__, system=system, about=about, plant=place))
    for settings in _settings_of_faults(system):
        name = "clean_" + "_".join(sorted(settings))
        about = "The clean system with the feature on that a fault breaks."
        found.append(Control(name=name, system=system, about=about, changes={"config": settings}))
    return found


def _settings_of_faults(system: str) -> list[dict[str, object]]:
    distinct = {
        fault.spec.with_(plant="").key: dict(fault.settings) for fault in all_faults() if fault.system == system
    }
    return [settings for settings in distinct.values() if settings]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What must be trained to judge one row."""

    seeds: tuple[RunSpec, ...]
    """Consecutive seeds; the first run is also the one that all checks of a single record look at."""

    repeated: RunSpec | None = None
    """The first once more; it should be trained in another process under another hash seed."""

    rescheduled: RunSpec | None = None
    """The first, evaluated at other steps."""

    edited: RunSpec | None = None
    """The first with other held-out items, for the leak check."""

    interrupted: RunSpec | None = None
    """The first, ended halfway and resumed; `launch` has another process for the second half."""

    @property
    def specs(self) -> tuple[RunSpec, ...]:
        """All of them."""
        more = (self.repeated, self.rescheduled, self.edited, self.interrupted)
        return (*self.seeds, *(spec for spec in more if spec is not None))


def trial_of(case: Case, *, num_seeds: int = NUM_SEEDS) -> Trial:
    """The runs for one fault or control.

    A fault is trained once, and as often more as the checks need that must notice it. A control gets everything that
    the gate trains: the leak and resume twins on the clean system only.
    """
    first = case.spec
    system = make_system(first.system, first.config)
    every, steps = int(system.config.eval_every), int(system.config.steps)
    needs = {name.partition("/")[0] for name in case.turns_red}
    if isinstance(case, Control):
        twins = {"resume"} if first.system in WHOLE_USERS else {"leak", "resume"}
        needs = {"baseline", "reproducible", "purity", *(twins if case.name == "clean" else ())}
    blind = ",".join(filter(None, (first.plant, _HELD_OUT_EDITED)))
    return Trial(
        seeds=tuple(first.with_(seed=first.seed + i) for i in range(num_seeds if needs & _OF_SEEDS else 1)),
        repeated=first.with_(replica=1) if "reproducible" in needs else None,
        rescheduled=first.with_(eval_every=every // 2 if every > 1 else 2) if "purity" in needs else None,
        edited=first.with_(plant=blind) if "leak" in needs else None,
        interrupted=first.with_(interrupted_at=max(1, steps // 2)) if "resume" in needs else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One fault or control with everything that was found about it."""

    case: Case
    results: tuple[CheckResult, ...]

    @property
    def red(self) -> dict[str, bool]:
        """Every check that was made, and whether it is red for any subject."""
        found: dict[str, bool] = {}
        for result in self.results:
            found[result.check] = found.get(result.check, False) or result.red
        return found

    @property
    def caught_by(self) -> list[str]:
        """The checks that are red."""
        return [check for check, red in self.red.items() if red]

    @property
    def holes(self) -> list[str]:
        """Declared checks, or families of checks, of which none is red."""
        caught = self.caught_by
        return [name for name in self.case.turns_red if not any(_belongs(check, name) for check in caught)]

    @property
    def false_alarms(self) -> list[str]:
        """What is red on a control."""
        return self.caught_by if isinstance(self.case, Control) else []


def judge_case(case: Case, train: Train, *, judge_seeds: JudgeSeeds | None = None, num_seeds: int = NUM_SEEDS) -> Row:
    """Train a fault or control and make every check that its runs allow; a training that fails is red as ``training``.

    Args:
        train: gives the record of a spec, or raises a `RectestError`.
        judge_seeds: compares runs over seeds with what is stored for the system's defaults, in one look at all of
            them; a case with settings of its own has nothing stored and is not asked about.
        num_seeds: how many seeds to train, at least 2.
    """
    trial = trial_of(case, num_seeds=num_seeds)
    try:
        found = {spec.key: train(spec) for spec in trial.specs}
    except RectestError as e:
        failed = CheckResult(check="training", subject=case.system, verdict=Verdict.FAIL, figure=str(e))
        return Row(case=case, results=(failed,))
    trained = CheckResult(
        check="training", subject=case.system, verdict=Verdict.PASS, figure="every run came to its end"
    )
    seeds = [found[spec.key] for spec in trial.seeds]
    results = [trained, *of_one(seeds[0])]
    pairs = {
        reproducible: trial.repeated,
        schedule_independent: trial.rescheduled,
        held_out_blind: trial.edited,
        resumed: trial.interrupted,
    }
    results += [r for judge, spec in pairs.items() if spec is not None for r in judge(seeds[0], found[spec.key])]
    if len(seeds) > 1:
        results += _of_seeds(seeds)
        if judge_seeds is not None and not case.spec.config:
            results += _comparable(judge_seeds(seeds), seeds[0])
    return Row(case=case, results=tuple(results))


def _comparable(results: Sequence[CheckResult], record: RunRecord) -> list[CheckResult]:
    """Without windows of curves where a plant changed the evaluation schedule: they are means over other steps."""
    spec = record.spec
    planned = spec.eval_every or make_system(spec.system, spec.config).config.eval_every
    same = record.facts["settings"]["eval_every"] == planned
    return [result for result in results if same or not result.check.startswith("baseline/valid/")]


def of_one(record: RunRecord) -> list[CheckResult]:
    """Every check that looks at one run. Whatever the run lacks is red, unless systems may do without it."""
    asked = [single for single in SINGLE if not (single.by_system and single.missing(record))]
    return [result for single in asked for result in single.judge(record)]


def _of_seeds(records: Sequence[RunRecord]) -> list[CheckResult]:
    metric = f"valid/{records[0].facts['early_stopping']['measure']}"
    return [
        *different_seeds_differ(records[0], records[1]),
        *seed_spread(records, metric),
        *phases(records, metric),
    ]


def matrix_rows(rows: Iterable[Row]) -> list[list[str]]:
    """The matrix as text: the name, then a cell for each of `FAMILIES`.

    ``X`` declared and red, ``HOLE`` declared and green, ``x`` red beyond what was declared, ``ALARM`` red on a
    control, ``.`` green, and nothing where the family was not judged.
    """
    return [[row.case.name, *(_cell(row, family) for family in FAMILIES)] for row in rows]


def unproven(rows: Iterable[Row]) -> list[str]:
    """The families of checks that were made and that no fault turned red: nothing here shows that they can fail."""
    red, judged = set(), set()
    for row in rows:
        families = {check: check.partition("/")[0] for check in row.red}
        judged |= set(families.values())
        if isinstance(row.case, Fault):
            red |= {families[check] for check in row.caught_by}
    return [family for family in FAMILIES if family in judged - red]


def _cell(row: Row, family: str) -> str:
    judged = {check: red for check, red in row.red.items() if _belongs(check, family)}
    if any(_belongs(name, family) for name in row.holes):
        return "HOLE"
    if not any(judged.values()):
        return "." if judged else ""
    if isinstance(row.case, Control):
        return "ALARM"
    return "X" if any(_belongs(name, family) for name in row.case.turns_red) else "x"


def _belongs(check: str, name: str) -> bool:
    """Whether a check is the named one, or one of the named family.

    >>> _belongs("baseline/loss/late", "baseline"), _belongs("floor/optimum", "floor/popularity")
    (True, False)
    """
    return check == name or check.startswith(f"{name}/")
