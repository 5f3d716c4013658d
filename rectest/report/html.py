"""One self-contained HTML page about one test run: no script, nothing loaded from elsewhere, equal input equal bytes.

The templates own the words between the numbers and the looks; this file makes plain texts and figures of a `RunReport`.
Everything that came from outside is escaped by the templates; only the figures are not, and those escape their texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rectest.baseline.ensemble import centre
from rectest.baseline.evidence import Curve, Evidence, FeatureEvidence
from rectest.checks.result import Verdict
from rectest.environment import Environment
from rectest.errors import RecordError
from rectest.record import atomic_write
from rectest.report.figures import curve_figure, feature_figure, percent_text, prefix_figure
from rectest.report.machine import RunReport
from rectest.report.summary import LEVELS, SIGNS, Family, SystemSummary, headline_of, summaries

__all__ = ["html_report", "write_page"]

_TEMPLATES = Path(__file__).with_name("templates")
_EXACT = "baseline/exact"
_SHORT = 12
_MOST_DRIFTS = 4
_SMALL = 140


@dataclass(frozen=True, kw_only=True, slots=True)
class _Figure:
    """A drawing with its caption."""

    svg: str
    name: str
    text: str
    keys: tuple[tuple[str, str], ...] = ()
    """Kind (``line`` or ``band``) and what it stands for."""


def html_report(report: RunReport) -> str:
    """The page."""
    from jinja2 import Environment as Templates
    from jinja2 import FileSystemLoader, StrictUndefined

    templates = Templates(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["nb"] = lambda text: re.sub(r"(?<=\d) (?=%)", "\u00a0", text)
    systems = summaries(report)
    return templates.get_template("page.html.j2").render(
        report=report,
        headline=headline_of(report, systems),
        facts=_facts(report),
        systems=[_system(system, f"system-{place}") for place, system in enumerate(systems, start=1)],
        signs={str(verdict): sign for verdict, sign in SIGNS.items()},
        levels=LEVELS,
        css=(_TEMPLATES / "page.css").read_text(),
        version=metadata.version("rectest"),
    )


def write_page(path: Path, report: RunReport) -> Path:
    """Write the page in one atomic step."""
    return atomic_write(path, html_report(report).encode())


def _facts(report: RunReport) -> str:
    parts = [_date(report.origin.date), report.origin.code]
    if report.environment:
        parts.append(_environment_line(report.environment))
    parts.append(f"exit status {report.exit_status}")
    return " · ".join(part for part in parts if part)


def _date(date: str | None) -> str:
    return "" if not date else date.replace("T", " ").replace("Z", " UTC")


def _environment_line(values: Mapping[str, Any]) -> str:
    try:
        return Environment.from_dict(dict(values)).describe()
    except RecordError as e:
        return str(e)


def _system(system: SystemSummary, anchor: str) -> dict[str, Any]:
    """The texts of one system's section and of its row in the overview."""
    evidence, head = system.evidence, system.headline
    green = sum(not result.red for result in system.properties)
    gate_rows = [Family(name=r.check, verdict=r.verdict, count="", example=r) for r in system.gate[1:]]
    found = {
        "anchor": anchor,
        "name": system.name,
        "verdict": str(system.verdict) if system.verdict else "",
        "red": system.red,
        "tone": _tone(system),
        "head": head,
        "figure": head.figure if head else _ungated(system),
        "drop": percent_text(system.smallest_drop, signed=False, digits=2),
        "runs": len(evidence.seeds) if evidence else "–",
        "tally": f"{green} of {len(system.properties)}" if system.properties else "–",
        "num_red": len(system.red_properties),
        "red_properties": system.red_properties,
        "families": system.families,
        "gate_rows": gate_rows,
        "evidence": evidence,
        "where": f"environment class {evidence.env_class}" if evidence else "",
    }
    return found if evidence is None else found | _evidence(system, evidence, anchor)


def _tone(system: SystemSummary) -> str:
    if not system.red:
        return "good"
    return "warn" if SIGNS[system.worst].tone == "warn" else "bad"


def _ungated(system: SystemSummary) -> str:
    red = system.red_properties
    return f"no gate was run; {red[0].check}: {red[0].figure}" if red else "no gate was run"


def _evidence(system: SystemSummary, evidence: Evidence, anchor: str) -> dict[str, Any]:
    main = system.main_feature
    level = LEVELS.get(evidence.level, "")
    return {
        "false_alarms": percent_text(system.false_alarms, signed=False),
        "drop_of": f"in {main.name}, with 90 % probability" if main else "",
        "level_words": level.partition(":")[0] or evidence.level,
        "trained": f"{_seeds(evidence.seeds)}, against {len(evidence.stored_seeds)} stored seeds",
        "columns": _columns(system, evidence, anchor),
        "features": [{"name": f.name, "alarm": f.alarm, "cells": _cells(f)} for f in system.features],
        "environment": _environment(evidence),
        "history": _history(evidence),
    }


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) != 1 else ''} {', '.join(map(str, seeds))}"


def _columns(system: SystemSummary, evidence: Evidence, anchor: str) -> list[list[_Figure]]:
    """Curves and the pair on the left, features on the right."""
    loss = [curve for curve in evidence.curves if curve.name == "loss"]
    first = _main_curve(evidence, system.main_feature)
    others = [curve for curve in evidence.curves if curve is not first and curve not in loss]
    left = [] if first is None else [_curve(first, evidence, f"{anchor}-curve")]
    left += [_curve(curve, evidence, f"{anchor}-loss", height=_SMALL) for curve in loss]
    left += _prefix(evidence, f"{anchor}-prefix")
    left += [_curve(curve, evidence, f"{anchor}-other{k}", height=_SMALL) for k, curve in enumerate(others)]
    right = [_features(evidence, system.features, f"{anchor}-features")]
    return [[figure for figure in column if figure.svg] for column in (left, right)]


def _main_curve(evidence: Evidence, main: FeatureEvidence | None) -> Curve | None:
    """The curve of the feature that alarmed, else of the one that the promise is about, else the first."""
    curves = {curve.name: curve for curve in evidence.curves if curve.name != "loss"}
    alarmed = [feature.name for feature in evidence.features if feature.alarm]
    wanted = [*alarmed, *([main.name] if main else [])]
    measures = [name.split("/")[1] for name in wanted if "/" in name and not name.startswith("loss/")]
    names = [f"valid/{measure}" for measure in measures]
    return next((curves[name] for name in names if name in curves), next(iter(curves.values()), None))


def _curve(curve: Curve, evidence: Evidence, ident: str, *, height: int = 210) -> _Figure:
    seeds = evidence.seeds
    return _Figure(
        svg=curve_figure(curve, seeds, ident=ident, height=height),
        name=curve.name if curve.name != "loss" else "training loss",
        text="",
        keys=(
            ("line", f"new, {_seeds(seeds)}"),
            ("band", f"range of {len(curve.stored)} stored seeds, each a thin line"),
        ),
    )


def _features(evidence: Evidence, features: Sequence[FeatureEvidence], ident: str) -> _Figure:
    runs = f"new run{'s' if len(evidence.seeds) != 1 else ''}"
    return _Figure(
        svg=feature_figure(features, ident=ident),
        name="Features between their limits",
        text=f"Ticks: stored seeds. Shaded, with its ends in percent: changes that are still noise after "
        f"{len(evidence.seeds)} run{'s' if len(evidence.seeds) != 1 else ''}. Circles: {runs}; diamond: their mean; "
        "cross: an alarm. Each strip is scaled to its own limit.",
    )


def _prefix(evidence: Evidence, ident: str) -> list[_Figure]:
    prefix = evidence.prefix
    if prefix is None:
        return []
    equal = sum(value == 0 for value in prefix.difference)
    return [
        _Figure(
            svg=prefix_figure(prefix, ident=ident),
            name="The same seed, then and now",
            text=f"Relative difference of the first {len(prefix.difference)} losses from the stored run of seed "
            f"{prefix.seed}, log scale; {equal} are equal to the last bit and drawn at the foot. Cross: outside.",
            keys=(("band", "what rounding explains"),),
        )
    ]


def _cells(feature: FeatureEvidence) -> list[str]:
    new = [value for value in feature.new if value is not None]
    noise = f"{percent_text(feature.lowest)} to {percent_text(feature.highest)}"
    return [
        percent_text(feature.weight, signed=False),
        f"{centre(feature.stored):.5g}" if feature.stored and min(feature.stored) > 0 else "–",
        ", ".join(f"{value:.5g}" for value in new) or "–",
        percent_text(feature.change),
        noise if feature.lowest is not None else "–",
        percent_text(feature.run_sd, signed=False),
        "–" if feature.p is None else f"{feature.p:.2g}",
        "–" if feature.level is None else f"{feature.level:.2g}",
        percent_text(feature.mdd, signed=False),
    ]


def _environment(evidence: Evidence) -> dict[str, Any]:
    """Where it was trained, beside where the baseline was; differences as far as the gate knows them."""
    same = evidence.fingerprint == evidence.stored_fingerprint
    stored = str(evidence.provenance.get("environment") or "not said")
    rows = [
        ("this run", f"{_environment_line(evidence.environment)}, fingerprint {evidence.fingerprint}"),
        ("baseline", f"{stored}, fingerprint {evidence.stored_fingerprint}"),
    ]
    exact = next((result for result in evidence.results if result["check"] == _EXACT), None)
    if not same:
        rows.append(("consequence", "the distribution over seeds was recorded elsewhere in this environment class"))
    if exact is not None and Verdict(exact["verdict"]) is Verdict.UNCALIBRATED:
        rows.append(("bits", exact["figure"]))
        rows += [("differences", exact["worst"])] if exact["worst"] else []
    elif exact is not None:
        rows.append(("bits", "compared: this environment's are stored"))
    return {"short": "the one it was recorded in" if same else "another one than the baseline's", "rows": rows}


def _history(evidence: Evidence) -> dict[str, Any]:
    """Every accepted recording with its drift since the first; a baseline from before there was a history has one."""
    entries = list(evidence.history) or [{**evidence.provenance, "means": {}}]
    anchor_entry = entries[0]
    anchor = anchor_entry.get("means", {})
    names = [name for name in anchor if name.startswith("test/")][:_MOST_DRIFTS] or list(anchor)[:1]
    rows = [
        {
            "date": _date(str(entry.get("date") or "")) or "–",
            "commit": str(entry.get("commit") or "–")[:_SHORT],
            "reason": str(entry.get("reason") or "–"),
            "drift": [_drift(entry.get("means", {}), anchor, name) for name in names],
        }
        for entry in entries
    ]
    caps = anchor_entry.get("mdd") or {}
    heads = [
        f"{name}, at most {percent_text(caps[name], signed=False, digits=2)}" if name in caps else name
        for name in names
    ]
    times = f"{len(entries)} recording{'s' if len(entries) != 1 else ''}"
    drift = f", {names[0]} {rows[-1]['drift'][0]} since the anchor" if len(entries) > 1 and names else ""
    return {"short": times + drift, "names": heads, "rows": rows[::-1]}


def _drift(means: Mapping[str, float], anchor: Mapping[str, float], name: str) -> str:
    if means is anchor:
        return "anchor"
    return percent_text(means[name] / anchor[name] - 1) if name in means else "–"
