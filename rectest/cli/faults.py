"""``rectest faults``: the standing faults, and the matrices that show which checks notice them.

``list`` is instant. ``matrix`` trains every fault and every control, which takes minutes, and holds them against the
stored baselines; it only reads those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from rectest.cli.console import make_console, print_table

if TYPE_CHECKING:
    from rectest.checks.result import CheckResult
    from rectest.errors import ChildFailed
    from rectest.faults.matrix import Case, Row
    from rectest.record import RunRecord, RunSpec

__all__ = ["app"]

AnyCase = TypeVar("AnyCase", bound="Case")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

System = Annotated[str, typer.Option(metavar="NAME", help="Only this system.")]


@app.callback()
def _group() -> None:
    """Show the planted faults, and prove that the checks notice them."""


@app.command("list")
def list_faults(system: System = "") -> None:
    """List every fault by system: what must turn red, and what is wrong."""
    from rectest.faults.matrix import all_faults

    console, shown = make_console(), ""
    for fault in _only(all_faults(), system):
        if fault.system != shown:
            shown = fault.system
            console.print(shown)
        console.print(f"  {fault.name}: turns red {', '.join(fault.turns_red)}", soft_wrap=True)
        console.print(f"    {fault.about}", soft_wrap=True)


@app.command()
def matrix(
    system: System = "",
    processes: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 2,
    baselines: Annotated[Path, typer.Option(metavar="DIR", help="Folder of stored baselines.")] = Path("baselines"),
    detail: Annotated[bool, typer.Option("--detail", help="Name every red check of every row.")] = False,
) -> None:
    """Train every fault and control and print which checks turned red; exit code 1 for a hole or a false alarm."""
    from rectest.faults.matrix import all_faults, controls, judge_case, trial_of

    cases: list[Case] = [*_only(controls(), system), *_only(all_faults(), system)]
    judge_seeds = _against(baselines)
    train = _trained([spec for case in cases for spec in trial_of(case).specs], processes)
    rows = [judge_case(case, train, judge_seeds=judge_seeds) for case in cases]
    _print_matrix(rows, detail=detail)
    if any(row.holes or row.false_alarms for row in rows):
        raise typer.Exit(1)


@app.command()
def parallel(
    system: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="System whose gradients are compared; all by default.")
    ] = None,
    ranks: Annotated[list[int] | None, typer.Option(min=2, help="Number of processes; 2 and 4 by default.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda; several ranks share a GPU where there are fewer.")] = "cpu",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table for documents.")] = False,
) -> None:
    """Train one step on several processes in every way, right and wrong, against one process on the same batch.

    Prints scale, cosine and error of the net gradient and the cause that is named; exit code 1 for a fault that no
    check sees, a wrong cause or a false alarm.
    """
    from rectest.faults.parallel import COLUMNS, ParallelRow, parallel_markdown, parallel_spec, parallel_table
    from rectest.systems.registry import SYSTEMS

    console, rows = make_console(), list[ParallelRow]()
    for name in system or SYSTEMS:
        rows += parallel_table(parallel_spec(name, device=device), tuple(ranks or (2, 4)))
    if markdown:
        typer.echo(parallel_markdown(rows))
    else:
        print_table(console, list(COLUMNS), [row.cells() for row in rows], numbers=list(COLUMNS[2:6]))
        for name, cause in {row.variant.name: row.cause for row in rows}.items():
            console.print(f"{name}: {cause.sentence}", soft_wrap=True)
    wrong = [row for row in rows if row.verdict.isupper()]
    for row in wrong:
        where = f"{row.variant.name} of {row.system} on {row.world_size} ranks"
        console.print(f"{where}: {row.verdict}: {', '.join(row.caught_by) or 'nothing'} red", soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


def _only(cases: Iterable[AnyCase], system: str) -> list[AnyCase]:
    from rectest.errors import UnknownNameError

    found = list(cases)
    if system and system not in {case.system for case in found}:
        raise UnknownNameError("system", system, {case.system for case in found})
    return [case for case in found if system in ("", case.system)]


def _against(baselines: Path) -> Callable[[Sequence[RunRecord]], list[CheckResult]]:
    """The last look of the ensemble lane at all runs; without a stored baseline it is an error."""
    from rectest.baseline.judge import judge_sequential
    from rectest.baseline.store import BaselineStore

    store = BaselineStore(baselines)

    def judge(records: Sequence[RunRecord]) -> list[CheckResult]:
        first = records[0]
        baseline = store.load(first.spec.system, first.environment.env_class, first.spec.world)
        return list(judge_sequential(records, baseline, max_runs=len(records)).results)

    return judge


def _trained(specs: Sequence[RunSpec], processes: int) -> Callable[[RunSpec], RunRecord]:
    """Train every spec once, in children, and return what looks the outcomes up."""
    import sys

    from rectest.errors import ChildFailed
    from rectest.training.launch import Launch, launch_many

    distinct = {spec.key: spec for spec in specs}

    def say(spec: RunSpec, _outcome: RunRecord | ChildFailed) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"trained {spec.describe()}\n")

    def how(spec: RunSpec) -> Launch:
        return Launch(hash_seed=spec.replica * 20_011, sys_path=sys.path)

    outcomes = dict(
        zip(distinct, launch_many(list(distinct.values()), how=how, processes=processes, done=say), strict=True)
    )

    def train(spec: RunSpec) -> RunRecord:
        outcome = outcomes[spec.key]
        if isinstance(outcome, ChildFailed):
            raise outcome
        return outcome

    return train


def _print_matrix(rows: Sequence[Row], *, detail: bool) -> None:
    """One table for each system, with letters for the families of checks, then what is wrong in words."""
    from rectest.faults.matrix import FAMILIES, matrix_rows

    console = make_console()
    letters = [chr(ord("a") + index) for index in range(len(FAMILIES))]
    for system in sorted({row.case.system for row in rows}):
        own = [row for row in rows if row.case.system == system]
        print_table(console, [system, *letters], matrix_rows(own))
        console.print("")
    for letter, family in zip(letters, FAMILIES, strict=True):
        console.print(f"{letter} {family}")
    console.print("X declared and red, x red as well, . green, blank not judged\n")
    for line in _findings(rows, detail=detail):
        console.print(line, soft_wrap=True)


def _findings(rows: Sequence[Row], *, detail: bool) -> Iterable[str]:
    from rectest.faults.controls import Control
    from rectest.faults.matrix import unproven

    if detail:
        for row in rows:
            yield f"{row.case.system} {row.case.name}: {', '.join(row.caught_by) or 'nothing is red'}"
    for row in rows:
        where = f"{row.case.system} {row.case.name}"
        yield from (f"HOLE: {where}: {name} must turn red and did not" for name in row.holes)
        yield from (f"FALSE ALARM: {where}: {name} is red on a harmless change" for name in row.false_alarms)
    if idle := unproven(rows):
        yield f"no fault here turns red: {', '.join(idle)}"
    faults = [row for row in rows if not isinstance(row.case, Control)]
    holes = sum(bool(row.holes) for row in rows)
    alarms = sum(bool(row.false_alarms) for row in rows)
    num_controls = len(rows) - len(faults)
    yield f"{len(faults)} faults, {holes} with a hole; {num_controls} controls, {alarms} with a false alarm"
