"""``rectest baseline``: look at stored baselines, compare candidates with them, accept candidates.

Nothing is recorded here: recording needs training and belongs to ``pytest -m gate --rectest-update=...``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from rectest.baseline.diff import BaselineDiff
    from rectest.baseline.schema import Baseline
    from rectest.baseline.store import BaselineStore, StoredName

__all__ = ["app"]

app = typer.Typer(help="Show, compare and accept stored baselines.", no_args_is_help=True, rich_markup_mode=None)

Root = Annotated[Path, typer.Option("--baselines", metavar="DIR", help="Folder of stored baselines.")]
Candidates = Annotated[Path, typer.Argument(metavar="CANDIDATES", help="Folder of candidates, as CI left it.")]


@app.command()
def show(
    system: Annotated[
        str, typer.Argument(metavar="[SYSTEM]", help="One system in full; all in short by default.")
    ] = "",
    baselines: Root = Path("baselines"),
    env: Annotated[str, typer.Option("--env", metavar="CLASS", help="Only this environment class.")] = "",
) -> None:
    """Show what is stored."""
    from rectest.baseline.store import BaselineStore
    from rectest.errors import BaselineError, UnknownNameError

    store, console = BaselineStore(baselines), make_console()
    names = [name for name in store.entries() if not env or name.env_class == env]
    if not names:
        where = f"{baselines}/{env}" if env else f"{baselines}"
        msg = f"no baselines in {where}; record them with: pytest -m gate --rectest-update=new"
        raise BaselineError(msg)
    if not system:
        _show_all(console, store, names)
        return
    chosen = [name for name in names if name.system == system]
    if not chosen:
        raise UnknownNameError("baseline", system, {name.system for name in names})
    for name in chosen:
        _show_one(console, store.read(name))


@app.command()
def plan(
    system: Annotated[str, typer.Argument(metavar="SYSTEM", help="Whose stored noise is planned with.")],
    drop: Annotated[float, typer.Option("--drop", metavar="PERCENT", help="Deterioration that must be caught.")],
    baselines: Root = Path("baselines"),
) -> None:
    """Say how many seeds a baseline needs for its gate to catch a wanted drop, feature by feature."""
    from rectest.baseline.looks import plan_seeds, promised_drop
    from rectest.baseline.store import BaselineStore
    from rectest.errors import UnknownNameError

    store, console = BaselineStore(baselines), make_console()
    names = store.entries()
    chosen = [name for name in names if name.system == system]
    if not chosen:
        raise UnknownNameError("baseline", system, {name.system for name in names})
    for name in chosen:
        baseline, rows = store.read(name), []
        for feature in sorted(baseline.ensemble.features):
            needed = plan_seeds(baseline, feature, drop / 100)
            rows.append([feature, f"{100 * promised_drop(baseline, feature):.2g} %", str(needed or "over 64")])
        console.print(f"{baseline.name} ({baseline.env_class})", style="bold")
        now = f"caught with {len(baseline.ensemble.seeds)} seeds"
        columns = ("feature", now, f"seeds for {drop:g} %")
        print_table(console, columns, rows, numbers=columns[1:])
        console.print()


@app.command("diff")
def diff_candidates(candidates: Candidates, baselines: Root = Path("baselines")) -> None:
    """Show what accepting the candidates would change; write nothing."""
    from rectest.baseline.store import BaselineStore
    from rectest.baseline.update import compare_candidates

    console = make_console()
    for _, _, change in compare_candidates(BaselineStore(candidates), BaselineStore(baselines)):
        _print_diff(console, change)


@app.command()
def accept(
    candidates: Candidates,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why the numbers may change.")],
    systems: Annotated[list[str] | None, typer.Argument(metavar="[SYSTEM]...", help="All by default.")] = None,
    baselines: Root = Path("baselines"),
) -> None:
    """Replace stored baselines by candidates, and print a Markdown table for the pull request."""
    from rectest.baseline.diff import markdown
    from rectest.baseline.store import BaselineStore
    from rectest.baseline.update import accept as accept_candidates

    changes = accept_candidates(candidates, BaselineStore(baselines), systems or (), reason=reason)
    typer.echo(markdown(changes, reason=reason))
    typer.echo(f"{len(changes)} baseline{'s' if len(changes) != 1 else ''} written to {baselines}", err=True)


def _show_all(console: Console, store: BaselineStore, names: list[StoredName]) -> None:
    rows = []
    for name in names:
        baseline = store.read(name)
        seeds, date = str(len(baseline.ensemble.seeds)), baseline.provenance.date[:10]
        rows.append([name.env_class, baseline.name, seeds, str(len(baseline.exact)), date, baseline.provenance.reason])
    print_table(console, ("class", "system", "seeds", "envs", "date", "reason"), rows, numbers=("seeds", "envs"))


def _show_one(console: Console, baseline: Baseline) -> None:
    origin = baseline.provenance
    console.print(f"{baseline.name} ({baseline.env_class})", style="bold")
    console.print(f"world     {baseline.world_digest or 'unknown'}")
    settings = {"steps": baseline.spec.steps, "eval_every": baseline.spec.eval_every, **baseline.spec.config}
    given = ", ".join(f"{key}={value!r}" for key, value in settings.items() if value is not None)
    console.print(f"settings  {given or 'all defaults'}")
    state = {True: " with uncommitted changes", False: "", None: ""}[origin.dirty]
    console.print(f"recorded  {origin.date}, commit {(origin.commit or 'unknown')[:12]}{state}")
    console.print(f"with      {origin.command}")
    console.print(f"reason    {origin.reason}\n")
    _print_features(console, baseline)
    for fingerprint, entry in sorted(baseline.exact.items()):
        seeds = ", ".join(sorted(entry.seeds, key=int))
        console.print(f"bits of   {fingerprint}, seeds {seeds}: {entry.described().describe()}")
    console.print()


def _print_features(console: Console, baseline: Baseline) -> None:
    import numpy as np

    from rectest.baseline.looks import promised_drop

    rows = []
    for name, values in sorted(baseline.ensemble.features.items()):
        mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
        caught = promised_drop(baseline, name)
        rows.append([name, f"{mean:.6g}", f"{100 * sd / mean:.2f} %", f"{100 * caught:.2g} %"])
    columns = ("feature", f"mean of {len(baseline.ensemble.seeds)} seeds", "run sd", "caught with 90 %")
    print_table(console, columns, rows, numbers=columns[1:])
    console.print()


def _print_diff(console: Console, change: BaselineDiff) -> None:
    from rectest.baseline.diff import cells_of, notes_of

    console.print(f"{change.name} ({change.env_class}){': nothing changes' if change.empty else ''}", style="bold")
    rows = [[row.feature, *cells_of(row)] for row in change.features]
    print_table(console, ("feature", "old", "new", "change", "z"), rows, numbers=("old", "new", "change", "z"))
    for note in notes_of(change):
        console.print(f"- {note}")
    console.print()
