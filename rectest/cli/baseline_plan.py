"""``rectest baseline plan``: which numbers of runs reach a wanted drop, what they cost, and what cannot be reached.

Reads stored baselines and never writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from rectest.baseline.planning import FeaturePlan
    from rectest.baseline.schema import Baseline

__all__ = ["command"]

NEW_RUNS = (2, 3, 5)
"""Most runs of a gate, ``--rectest-gate-seeds``, that are compared."""


def command(
    system: Annotated[str, typer.Argument(metavar="SYSTEM", help="Whose stored noise is planned with.")],
    drop: Annotated[float, typer.Option("--drop", metavar="PERCENT", help="Deterioration that must be caught.")],
    baselines: Annotated[Path, typer.Option("--baselines", metavar="DIR", help="Folder of stored baselines.")] = Path(
        "baselines"
    ),
) -> None:
    """Say how many seeds a baseline and its gate need to catch a wanted drop, feature by feature, and the cost."""
    from rectest.baseline.store import BaselineStore
    from rectest.errors import UnknownNameError

    store, console = BaselineStore(baselines), make_console()
    names = store.entries()
    chosen = [name for name in names if name.system == system]
    if not chosen:
        raise UnknownNameError("baseline", system, {name.system for name in names})
    for name in chosen:
        _print_plan(console, store.read(name), drop / 100)


def _print_plan(console: Console, baseline: Baseline, drop: float) -> None:
    from rectest.baseline.looks import promised_drop
    from rectest.baseline.planning import MOST_STORED, plan_feature, stored_for_all

    features = sorted(baseline.ensemble.features)
    plans = {most: [plan_feature(baseline, name, drop, num_new=most) for name in features] for most in NEW_RUNS}
    rows = []
    for place, name in enumerate(features):
        cells = [_count(plans[most][place].num_stored) for most in NEW_RUNS]
        rows.append([name, f"{100 * promised_drop(baseline, name):.2g} %", *cells])
    groups = {"all test values": [name for name in features if name.startswith("test/")], "all features": features}
    needed = {
        group: [stored_for_all([plan for plan in plans[most] if plan.feature in names]) for most in NEW_RUNS]
        for group, names in groups.items()
        if names
    }
    rows += [[group, "", *map(_count, found)] for group, found in needed.items()]
    console.print(f"{baseline.name} ({baseline.env_class})", style="bold")
    console.print(f"stored seeds with which a gate of at most n1 runs catches {100 * drop:g} %, with 90 %:\n")
    columns = ("feature", f"caught now (n0 {len(baseline.ensemble.seeds)})", *(f"n1 {most}" for most in NEW_RUNS))
    print_table(console, columns, rows, numbers=columns[1:])
    console.print()
    for group, found in needed.items():
        console.print(f"{group}: {_cost(found, twins=bool(baseline.ensemble.twins))}")
    unreachable = [plan for plan in plans[NEW_RUNS[-1]] if plan.num_stored is None]
    if unreachable:
        console.print(_unreachable(unreachable, MOST_STORED))
    console.print()


def _count(num_stored: int | None) -> str:
    return "-" if num_stored is None else str(num_stored)


def _cost(needed: Sequence[int | None], *, twins: bool) -> str:
    """What the cheapest recording that reaches the drop costs, and its gate."""
    reached = [(num_stored, most) for num_stored, most in zip(needed, NEW_RUNS, strict=True) if num_stored is not None]
    if not reached:
        return "out of reach"
    num_stored, most = min(reached)
    recorded = f"{num_stored} seeds and {num_stored} rounding twins" if twins else f"{num_stored} seeds"
    total = num_stored * (2 if twins else 1)
    return f"{recorded} are {total} runs, once; a gate then trains 1 to {most}, on clean code mostly 1"


def _unreachable(plans: Sequence[FeaturePlan], most_stored: int) -> str:
    worst = max(plans, key=lambda plan: plan.least)
    return (
        f"unreachable: even {most_stored} stored seeds and {worst.num_new} runs catch no less than "
        + ", ".join(f"{100 * plan.least:.2g} % of {plan.feature}" for plan in plans)
        + "; evaluate more users, train a less noisy setting, or plan with a larger drop"
    )
