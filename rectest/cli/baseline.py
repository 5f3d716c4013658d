"""``rectest baseline``: look at stored baselines, compare candidates with them, accept candidates.

Nothing is trained here: recording is in `baseline_record`, planning in `baseline_plan`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli import baseline_plan, baseline_record
from rectest.cli.console import make_console, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from rectest.baseline.diff import BaselineDiff
    from rectest.baseline.schema import Baseline
    from rectest.baseline.store import BaselineStore, StoredName

__all__ = ["app"]

app = typer.Typer(help="Record, show, compare and accept baselines.", no_args_is_help=True, rich_markup_mode=None)
app.command("record")(baseline_record.command)
app.command("plan")(baseline_plan.command)

Root = Annotated[Path, typer.Option("--baselines", metavar="DIR", help="Folder of stored baselines.")]
Candidates = Annotated[
    Path, typer.Argument(metavar="CANDIDATES", help="Folder of candidates, or the artifact of a CI job, also zipped.")
]
NewAnchor = Annotated[
    bool, typer.Option("--new-anchor", help="Measure drift from these on, whatever was lost since the old anchor.")
]


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
        # The bulk is not printed, but a baseline without the one it names is none.
        baseline, _ = store.read_whole(name)
        _show_one(console, baseline)


@app.command("diff")
def diff_candidates(candidates: Candidates, baselines: Root = Path("baselines"), new_anchor: NewAnchor = False) -> None:
    """Show what accepting the candidates would change; write nothing."""
    from rectest.baseline.candidates import opened
    from rectest.baseline.store import BaselineStore
    from rectest.baseline.update import compare_candidates

    console = make_console()
    with opened(candidates) as found:
        for each in compare_candidates(found, BaselineStore(baselines), new_anchor=new_anchor):
            _print_diff(console, each.changes)


@app.command()
def accept(
    candidates: Candidates,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why the numbers may change.")],
    systems: Annotated[list[str] | None, typer.Argument(metavar="[SYSTEM]...", help="All by default.")] = None,
    baselines: Root = Path("baselines"),
    new_anchor: NewAnchor = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Take what was recorded from uncommitted changes.")
    ] = False,
) -> None:
    """Replace stored baselines by candidates, and print a Markdown table for the pull request."""
    from rectest.baseline.diff import markdown
    from rectest.baseline.store import BaselineStore
    from rectest.baseline.update import accept as accept_candidates

    store = BaselineStore(baselines)
    chosen = {"new_anchor": new_anchor, "allow_dirty": allow_dirty}
    changes = accept_candidates(candidates, store, systems or (), reason=reason, **chosen)
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
    _print_declared(console, baseline)
    for name, why in sorted(baseline.ensemble.left_out.items()):
        console.print(f"left out  {name}: {why}")
    for fingerprint, entry in sorted(baseline.exact.items()):
        seeds = ", ".join(sorted(entry.seeds, key=int))
        console.print(f"bits of   {fingerprint}, seeds {seeds}: {entry.described().describe()}")
    console.print()
    _print_history(console, baseline)


def _print_features(console: Console, baseline: Baseline) -> None:
    from rectest.baseline.summary import summarized

    rows = [
        [
            each.feature,
            f"{each.mean:.4g}",
            _percent(each.run_sd, 2),
            _percent(each.rounding_sd, 2),
            "-" if each.phi is None else f"{each.phi:.3g}",
            _percent(each.caught),
            _percent(each.declared),
        ]
        for each in summarized(baseline)
    ]
    columns = ("feature", "mean", "run sd", "twin sd", "phi", "caught", "declared")
    print_table(console, columns, rows, numbers=columns[1:])
    console.print(
        f"\nover {len(baseline.ensemble.seeds)} seeds: run sd is from seed to seed, twin sd between a run and its "
        "rounding twin; phi is the run variance over what the noise of independent users explains\n"
    )


def _print_declared(console: Console, baseline: Baseline) -> None:
    declared = baseline.declared
    if declared is None:
        console.print("declared  nothing: recorded by a version that kept no promises")
        return
    console.print(
        f"declared  false alarms {declared.alpha_drop:g} for drops and {declared.alpha_rise:g} for rises; each change "
        f"for the worse in the last column is caught with {100 * (1 - declared.beta):g} %, in {declared.max_runs} runs "
        "at most"
    )
    if not baseline.ensemble.twins:
        console.print("twins     none: the gate cannot tell rounding from a change, record it anew to have them")


def _print_history(console: Console, baseline: Baseline) -> None:
    """The accepted recordings, oldest first, and how far each feature has drifted since the first of them."""
    from rectest.baseline.history import drift_of

    for place, entry in enumerate(baseline.history):
        title = "anchor" if place == 0 else "accepted"
        console.print(f"{title:9} {entry.date}, commit {(entry.commit or 'unknown')[:12]}: {entry.reason}")
    if len(baseline.history) > 1:
        rows = [
            [each.feature, f"{each.anchor:.6g}", _percent(each.relative, 2, sign=True), _percent(each.cap)]
            for each in drift_of(baseline.history)
        ]
        console.print()
        columns = ("feature", "at the anchor", "drift since", "cap for the worse")
        print_table(console, columns, rows, numbers=columns[1:])
    console.print()


def _percent(value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    return "-" if value is None else f"{100 * value:{'+' if sign else ''}.{digits}f} %"


def _print_diff(console: Console, change: BaselineDiff) -> None:
    from rectest.baseline.diff import COLUMNS, cells_of, notes_of

    console.print(f"{change.name} ({change.env_class}){': nothing changes' if change.empty else ''}", style="bold")
    rows = [[row.feature, *cells_of(row, digits=4)] for row in change.features]
    print_table(console, COLUMNS, rows, numbers=COLUMNS[1:])
    for note in notes_of(change):
        console.print(f"- {note}")
    console.print()
