"""What a report for people says of each system, in the order in which a person needs it: red first.

The page and the Markdown summary share it, so that they never tell two stories. It groups and picks; verdicts are made
elsewhere, and a system whose gate had no baseline, or that was never gated, is in the table as what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rectest.baseline.evidence import Evidence, FeatureEvidence
from rectest.baseline.features import WINDOWS
from rectest.checks.result import CheckResult, Verdict, worst_verdict
from rectest.errors import RecordError
from rectest.report.arithmetic import arithmetic_of
from rectest.report.machine import RunReport
from rectest.report.terminal import owner_and_rest

__all__ = ["LEVELS", "SIGNS", "Family", "Sign", "SystemSummary", "headline_of", "summaries"]

_BASELINE = "baseline/"

LEVELS = {
    "L0": "oracles: no statistics over seeds are needed for what is impossible, at chance or above the optimum",
    "L1": "bitwise: the stored bits of this very environment",
    "L2": "paired: the stored run of the same seed, with rounding as the only noise",
    "L3": "unpaired: the distribution over stored seeds, one run at a time",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sign:
    """How a verdict looks where colour cannot be relied on."""

    mark: str
    emoji: str
    tone: str
    """``good``, ``bad``, ``warn`` or ``none``."""

    meaning: str


SIGNS: dict[Verdict, Sign] = {
    Verdict.FAIL: Sign(mark="✕", emoji="❌", tone="bad", meaning="measured, and worse than noise explains"),
    Verdict.CHANCE: Sign(mark="○", emoji="🎲", tone="bad", meaning="what random ranking gives: nothing was learned"),
    Verdict.SUSPICIOUS: Sign(
        mark="▲", emoji="⚠️", tone="warn", meaning="better than noise explains: a leak or a changed evaluation?"
    ),
    Verdict.CHANGED: Sign(
        mark="≠", emoji="🔁", tone="warn", meaning="numbers differ beyond rounding, quality is not worse: was it meant?"
    ),
    Verdict.UNDECIDED: Sign(mark="…", emoji="⏳", tone="warn", meaning="the runs so far do not decide"),
    Verdict.NOT_MEASURED: Sign(
        mark="?", emoji="❔", tone="bad", meaning="could not be looked at; what was not measured is not green"
    ),
    Verdict.UNCALIBRATED: Sign(
        mark="–", emoji="⚪", tone="none", meaning="nothing is stored for this environment, and nothing is borrowed"
    ),
    Verdict.PASS: Sign(mark="✓", emoji="✅", tone="good", meaning="measured, and inside its limits"),
}
"""Most severe first, as in `worst_verdict`."""

_SEVERITY = {verdict: place for place, verdict in enumerate(SIGNS)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """The results of one family of properties: one row while all are green, each red one by itself."""

    name: str
    verdict: Verdict
    count: str
    example: CheckResult


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemSummary:
    """Everything a report says about one system in one environment class."""

    name: str
    gate: tuple[CheckResult, ...]
    """The verdict in words first, then what each level found; empty where no gate was run."""

    properties: tuple[CheckResult, ...]
    evidence: Evidence | None

    @property
    def headline(self) -> CheckResult | None:
        """The gate's verdict in words."""
        return self.gate[0] if self.gate else None

    @property
    def verdict(self) -> Verdict | None:
        """The gate's verdict; None where no gate was run."""
        return self.gate[0].verdict if self.gate else None

    @property
    def red(self) -> bool:
        """Whether the gate or a property is red; a gate without a baseline measured nothing, which is red as well."""
        return self.verdict is Verdict.UNCALIBRATED or any(r.red for r in (*self.gate, *self.properties))

    @property
    def worst(self) -> Verdict:
        """Of the gate and all properties."""
        return worst_verdict([*self.gate[:1], *self.red_properties, *self.properties])

    @property
    def red_properties(self) -> list[CheckResult]:
        """What fails a test beside the gate's verdict: properties, and what a green gate found on its way."""
        gate = [] if self.verdict is None or self.verdict.red else self.gate[1:]
        return [result for result in (*gate, *self.properties) if result.red]

    @property
    def features(self) -> list[FeatureEvidence]:
        """The gated features: test values, then windows with the late one first, losses last."""
        return sorted(() if self.evidence is None else self.evidence.features, key=_reading_order)

    @property
    def main_feature(self) -> FeatureEvidence | None:
        """The feature whose promise is printed: the first test metric, or whatever there is."""
        features = () if self.evidence is None else self.evidence.features
        return next((each for each in features if each.name.startswith("test/")), features[0] if features else None)

    @property
    def smallest_drop(self) -> float | None:
        """Smallest relative change for the worse of the main feature that is caught with 90 % probability."""
        feature = self.main_feature
        if feature is None or self.evidence is None:
            return None
        if feature.mdd is not None:
            return feature.mdd
        declared: dict[str, float] = (self.evidence.declared or {}).get("mdd", {})
        return declared.get(feature.name)

    @property
    def false_alarms(self) -> float | None:
        """How often this gate stops a change that changes nothing; None where that does not follow from its values."""
        try:
            found = None if self.evidence is None else arithmetic_of(self.evidence)
        except RecordError:
            return None
        return None if found is None else found.rule.alpha_drop + found.rule.alpha_rise

    @property
    def families(self) -> list[Family]:
        """Properties by family, what is not green first."""
        groups: dict[str, list[CheckResult]] = {}
        for result in self.properties:
            groups.setdefault(result.check.partition("/")[0], []).append(result)
        found = [family for name, members in groups.items() for family in _families(name, members)]
        return sorted(found, key=lambda family: _SEVERITY[family.verdict])


def summaries(report: RunReport) -> tuple[SystemSummary, ...]:
    """One entry per gate, then one per system that was looked at without a gate; red first, then by name."""
    baseline, properties = _grouped(report)
    found: list[tuple[str, tuple[CheckResult, ...], Evidence | None]] = []
    for known in report.gates:
        judged = tuple(CheckResult.from_dict(each) for each in known.results)
        told = {(result.check, result.subject) for result in judged}
        found_later = baseline.pop(known.name, [])
        later = tuple(result for result in found_later if (result.check, result.subject) not in told)
        found.append((known.name, (*judged, *later), known))
    found += [(name, tuple(results), None) for name, results in baseline.items()]
    made = []
    for name, gate, evidence in found:
        own = properties.pop(name, []) or properties.pop(name.partition("@")[0], [])
        made.append(SystemSummary(name=name, gate=gate, evidence=evidence, properties=tuple(own)))
    made += [
        SystemSummary(name=name, gate=(), evidence=None, properties=tuple(own)) for name, own in properties.items()
    ]
    return tuple(sorted(made, key=lambda each: (not each.red, _SEVERITY[each.verdict or each.worst], each.name)))


def headline_of(report: RunReport, systems: Sequence[SystemSummary]) -> str:
    """The whole run in one sentence.

    >>> headline_of(RunReport(results=(), exit_status=5), ())
    'Nothing was measured'
    """
    if not systems:
        return "Nothing was measured"
    red, total = sum(system.red for system in systems), len(systems)
    if red:
        return f"{red} of {total} {_plural(total)} {'is' if red == 1 else 'are'} red"
    if report.exit_status:
        return f"No system is red, but the run failed (exit status {report.exit_status})"
    return f"All {total} systems are green" if total > 1 else f"{systems[0].name} is green"


def _reading_order(feature: FeatureEvidence) -> tuple[int, str, int]:
    stem, _, part = feature.name.rpartition("/")
    kind = ("test", "valid", "loss").index(stem.partition("/")[0]) if stem.startswith(("test", "valid", "loss")) else 3
    return kind, stem if part in WINDOWS else part, -WINDOWS.index(part) if part in WINDOWS else 0


def _plural(number: int) -> str:
    return "system" if number == 1 else "systems"


def _grouped(report: RunReport) -> tuple[dict[str, list[CheckResult]], dict[str, list[CheckResult]]]:
    """Results of gates by gate, and all others by what was trained; each once, however many tests found it."""
    baseline: dict[str, list[CheckResult]] = {}
    properties: dict[str, list[CheckResult]] = {}
    for result in dict.fromkeys(result for _, result in report.results):
        kind = baseline if result.check.startswith(_BASELINE) else properties
        kind.setdefault(owner_and_rest(result.subject)[0], []).append(result)
    return {name: sorted(found, key=lambda r: _SEVERITY[r.verdict]) for name, found in baseline.items()}, properties


def _families(name: str, members: Sequence[CheckResult]) -> list[Family]:
    green = [result for result in members if result.verdict is Verdict.PASS]
    found = [
        Family(name=_name(result), verdict=result.verdict, count="", example=result)
        for result in members
        if result.verdict is not Verdict.PASS
    ]
    if len(green) == 1:
        found.append(Family(name=_name(green[0]), verdict=Verdict.PASS, count="", example=green[0]))
    elif green:
        count = f"{len(green)} of {len(members)}, e.g. {_name(green[0]).removeprefix(f'{name}/')}"
        found.append(Family(name=name, verdict=Verdict.PASS, count=count, example=green[0]))
    return found


def _name(result: CheckResult) -> str:
    rest = owner_and_rest(result.subject)[1]
    return f"{result.check} [{rest}]" if rest else result.check
