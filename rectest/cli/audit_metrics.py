"""``rectest audit metrics``: the options of the audit of metric tables, and the repaired table below its answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.audit_output import JSON, VERBOSE, finish

if TYPE_CHECKING:
    from rectest.audits.metrics_audit import Plan
    from rectest.checks.metric_repair import Repair

__all__ = ["command"]

SHOWN = 3
"""Repaired tables that are printed; the finding names more."""


def command(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, JSON, Markdown, TensorBoard or a log folder.")],
    candidates: Annotated[
        int | None, typer.Option(help="Items ranked for each user, the relevant ones included.")
    ] = None,
    users: Annotated[int | None, typer.Option(help="Users that were averaged.")] = None,
    relevant: Annotated[
        int | None, typer.Option(help="Relevant items of every user; 1 makes most rules possible.")
    ] = None,
    multi_positive: Annotated[
        bool, typer.Option("--multi-positive", help="Users have several relevant items.")
    ] = False,
    split: Annotated[str | None, typer.Option(help="Only this split, such as valid or test.")] = None,
    decimals: Annotated[
        int | None, typer.Option(help="Digits that the cells were rounded to, if not as written.")
    ] = None,
    ties: Annotated[bool, typer.Option("--ties", help="Tied items share their mean rank.")] = False,
    unit: Annotated[str, typer.Option(help="auto, fraction or percent.")] = "auto",
    samples: Annotated[int | None, typer.Option(help="Training samples, for the count of steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples in a batch.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs trained.")] = None,
    steps: Annotated[str | None, typer.Option(help="Steps as stated, such as 203,455.")] = None,
    interactions: Annotated[Path | None, typer.Option(help="Interactions, for the score of popularity alone.")] = None,
    as_json: JSON = False,
    verbose: VERBOSE = False,
) -> None:
    """Judge tables of metrics: possible at all, better than chance, and the repair of a slipped column."""
    from rectest.audits.metrics_audit import Protocol, audit_metrics

    protocol = Protocol(
        num_candidates=candidates,
        num_users=users,
        num_relevant=relevant,
        multi_positive=multi_positive,
        ties=ties,
    )
    audit, mended = audit_metrics(
        path,
        protocol,
        split=split,
        decimals=decimals,
        unit=unit,
        plan=_plan(samples, batch_size, epochs, steps),
        interactions=interactions,
    )
    try:
        finish([audit], as_json=as_json, verbose=verbose)
    finally:
        if mended and not as_json:
            typer.echo("\n".join(_repaired(mended)))


def _plan(samples: int | None, batch_size: int | None, epochs: int | None, steps: str | None) -> Plan | None:
    from rectest.audits.metrics_audit import Plan

    given = {"--samples": samples, "--batch-size": batch_size, "--epochs": epochs, "--steps": steps}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return None
    if samples is None or batch_size is None or epochs is None or steps is None:
        msg = f"the count of steps takes --samples, --batch-size, --epochs and --steps; {', '.join(missing)} not given"
        raise ValueError(msg)
    return Plan(samples=samples, batch_size=batch_size, epochs=epochs, steps=steps)


def _repaired(mended: Sequence[Repair]) -> list[str]:
    lines = []
    for repair in mended[:SHOWN]:
        cells = repair.cells()
        width = max(map(len, cells))
        lines += ["", f"  repaired: {repair.text}"]
        lines += [
            f"    {name:<{width}}  {text}{'  <' if name in repair.changed else ''}" for name, text in cells.items()
        ]
    return lines
