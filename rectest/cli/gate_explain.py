"""``rectest gate explain``: why a gate said what it said, from the report that ``--rectest-json`` wrote.

Nothing is trained and no baseline is read: all that was judged stands in the report.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console

if TYPE_CHECKING:
    from rectest.baseline.evidence import Evidence
    from rectest.checks.result import CheckResult
    from rectest.report.machine import RunReport

__all__ = ["command"]

_MAKE = "pytest -m gate --rectest-json=rectest-report.json"
_FAILED = ("training", "infrastructure")
_NOT_NAMES = "/["
"""Subjects of other results hold one of these: tables and metrics of a system."""

_LIGHT = "--paper:#fbfbf9;--ink:#1b2126;--muted:#5a656e;--line:#dcdfe2;--stored:#6f7b85;--new:#0067a5;--bad:#b3390b"
_DARK = "--paper:#14181b;--ink:#e6e9eb;--muted:#a2adb5;--line:#39424a;--stored:#93a0aa;--new:#5cb8f2;--bad:#ff9468"
_STYLE = (
    f"<style>svg{{{_LIGHT};background:var(--paper);font-family:sans-serif}}"
    f"@media(prefers-color-scheme:dark){{svg{{{_DARK}}}}}</style>"
)
"""The figure's colours are names that a page defines; a picture of its own brings them along."""


def command(
    system: Annotated[str, typer.Argument(metavar="SYSTEM", help="Whose gate, also as SYSTEM@WORLD.")],
    report: Annotated[
        Path, typer.Option("--report", metavar="FILE", dir_okay=False, help="What --rectest-json wrote.")
    ] = Path("rectest-report.json"),
    world: Annotated[str, typer.Option(metavar="NAME", help="Only this world; all that were judged by default.")] = "",
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", dir_okay=False, help="Also write the picture there.")
    ] = None,
) -> None:
    """Explain a gate's verdict: what each level found, the deciding number with its formula, and what to do next."""
    from rectest.report.explain import explain, explain_results
    from rectest.report.strips import plain

    found = _read(report)
    gates, others = _chosen(found, report, system, world)
    width = make_console().width
    texts = [explain(evidence, width=width) for evidence in gates]
    texts += [explain_results(name, results, width=width) for name, results in others.items()]
    if svg is not None:
        _write_picture(svg, gates, report)
    typer.echo(plain("\n\n\n".join(texts), sys.stdout.encoding or "ascii"))


def _read(path: Path) -> RunReport:
    from rectest.errors import RecordError
    from rectest.report.machine import read_report

    try:
        return read_report(path)
    except FileNotFoundError as e:
        msg = f"no such report; make one with: {_MAKE}"
        raise RecordError(msg, path=path) from e


def _chosen(
    report: RunReport, path: Path, system: str, world: str
) -> tuple[list[Evidence], dict[str, list[CheckResult]]]:
    """The gates that were asked for, and the results of those that had nothing to be compared with.

    Raises:
        RecordError: the report has no gate at all.
        UnknownNameError: not this one.
    """
    from rectest.errors import RecordError, UnknownNameError

    others = _without_evidence(report)
    names = {*(evidence.name for evidence in report.gates), *others}
    if not names:
        msg = f"the report has no gates: it was written without -m gate, or by an older version; run: {_MAKE}"
        raise RecordError(msg, path=path)
    wanted = f"{system}@{world}" if world else system
    chosen = {name for name in names if wanted in (name, name.partition("@")[0])}
    if not chosen:
        raise UnknownNameError("gate", wanted, names)
    gates = [evidence for evidence in report.gates if evidence.name in chosen]
    return gates, {name: results for name, results in others.items() if name in chosen}


def _without_evidence(report: RunReport) -> dict[str, list[CheckResult]]:
    """Results by gate of those without a baseline, with one that cannot be read, or whose training failed."""
    told = {evidence.name for evidence in report.gates}
    found: dict[str, list[CheckResult]] = {}
    for _, result in report.results:
        of_gate = result.check.startswith("baseline/") or (result.check in _FAILED and result.red)
        if of_gate and result.subject not in told and not set(_NOT_NAMES) & set(result.subject):
            found.setdefault(result.subject, []).append(result)
    return found


def _write_picture(path: Path, gates: list[Evidence], report: Path) -> None:
    from rectest.errors import RecordError
    from rectest.record import atomic_write
    from rectest.report.figures import feature_figure

    if len(gates) != 1:
        told = ", ".join(evidence.name for evidence in gates)
        msg = f"one picture is of one gate, found {told or 'none that was compared'}; name it with --world"
        raise RecordError(msg, path=report)
    picture = feature_figure(gates[0].features, ident="gate")
    start = picture.index(">") + 1
    atomic_write(path, (picture[:start] + _STYLE + picture[start:] + "\n").encode())
