"""``rectest parity``: hold the gradients of several ranks against those of one process, from the command line.

Under ``torchrun`` the processes that it started are the ranks, on this machine or on several; the first one prints.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console, print_table
from rectest.cli.options import import_path, parse_target

if TYPE_CHECKING:
    from rectest.checks.result import CheckResult
    from rectest.environment import Environment
    from rectest.training.launch import Launch

__all__ = ["command"]

Judged = tuple[list["CheckResult"], "Environment | None"]


def command(
    target: Annotated[
        str,
        typer.Argument(
            help="module:name or file.py:name of a ParityCase, of a function that returns one, or a registered system."
        ),
    ],
    ranks: Annotated[
        list[int] | None, typer.Option(min=1, help="Number of processes; may be repeated; 1, 2 and 4 by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; what the case says by default.")] = "",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps after which replicas are compared.")] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", dir_okay=False, help="Write every result there as JSON.")
    ] = None,
    deadline: Annotated[float, typer.Option(help="Seconds for each number of processes.")] = 120.0,
) -> None:
    """Compare the gradients of several processes with those of one; exit code 1 when they are wrong or not measured."""
    from rectest.checks.result import any_red
    from rectest.training.launch import Launch

    sys.path[:] = import_path()
    sizes = _sizes(ranks)
    how = Launch(deadline=deadline, sys_path=sys.path)
    results, environment = _judged(parse_target(target), sizes, device=device, steps=steps, how=how)
    code = int(any_red(results) or not results)
    if os.environ.get("RANK", "0") == "0":
        _show(target, results)
        if json is not None:
            from rectest.report.machine import Origin, RunReport, write_report

            values = None if environment is None else environment.to_dict()
            found = tuple((target, result) for result in results)
            origin = Origin.here(Path.cwd())
            write_report(json, RunReport(results=found, environment=values, exit_status=code, origin=origin))
    if code:
        raise typer.Exit(code)


def _sizes(ranks: Sequence[int] | None) -> tuple[int, ...]:
    """What was asked for; in a world of torchrun, its size."""
    from rectest.parity import WORLD_SIZES
    from rectest.training.group_torchrun import under_torchrun

    if ranks:
        return tuple(dict.fromkeys(ranks))
    return (int(os.environ["WORLD_SIZE"]),) if under_torchrun() else WORLD_SIZES


def _judged(target: str, sizes: Sequence[int], *, device: str, steps: int | None, how: Launch) -> Judged:
    """Measure and judge; what a rank that failed last said goes to the standard error."""
    from rectest.errors import ChildFailed
    from rectest.parity import judged_case
    from rectest.systems.protocol import System
    from rectest.systems.registry import resolve

    found = resolve(target)
    try:
        if isinstance(found, type) and issubclass(found, System):
            return _system(target, sizes, device=device or "cpu", steps=steps, how=how)
        given = {"device": device or None, "steps": steps}
        changes = {name: value for name, value in given.items() if value is not None}
        return judged_case(target, sizes, changes=changes, how=how)
    except ChildFailed as e:
        if e.log:
            sys.stderr.write(f"{e.log.rstrip()}\n")
        raise


def _system(target: str, sizes: Sequence[int], *, device: str, steps: int | None, how: Launch) -> Judged:
    """A registered system, or a user's own, as `rectest.training.ranks` trains it."""
    from rectest.errors import TrainingError
    from rectest.parity import judge_ranks
    from rectest.record import RunSpec
    from rectest.systems.parallel import PARALLEL_CONFIG
    from rectest.training.group_torchrun import under_torchrun
    from rectest.training.ranks import RanksJob, run_ranks

    if under_torchrun():
        msg = f"{target} is a system, which starts its own ranks; call rectest parity {target} without torchrun"
        raise TrainingError(msg)
    spec = RunSpec(system=target, device=device, config=PARALLEL_CONFIG.get(target, {}))
    job = RanksJob() if steps is None else RanksJob(num_steps=steps)
    (single,) = run_ranks(spec, job.alone(), world_size=1, how=how).records
    results: list[CheckResult] = []
    for size in sizes:
        results += judge_ranks(single, run_ranks(spec, job, world_size=size, how=how).records)
    return results, single.environment


def _show(target: str, results: Sequence[CheckResult]) -> None:
    """A table of all results, then why the red ones are red and what to do."""
    console = make_console()
    for subject in dict.fromkeys(result.subject for result in results):
        own = [result for result in results if result.subject == subject]
        console.print(subject, soft_wrap=True)
        rows = [[r.check, str(r.verdict), r.figure, r.limit, r.worst] for r in own]
        print_table(console, ["check", "verdict", "figure", "limit", "worst"], rows)
        red = [r for r in own if r.red]
        for why in dict.fromkeys(r.detail for r in red if r.detail):
            console.print(f"why: {why}", soft_wrap=True)
        for advice in [r.advice for r in red if r.advice][:1]:
            console.print(f"next: {advice}", soft_wrap=True)
        console.print("")
    num_red = sum(result.red for result in results)
    console.print(f"{target}: {len(results)} results, {f'{num_red} red' if num_red else 'all green'}", soft_wrap=True)
