"""``rectest study``: run an experiment that a report asks for; what was measured stands beside what was expected."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.comparisons import COMPARISONS
from rectest.cli.console import make_console, print_table
from rectest.cli.options import import_path, parse_settings, parse_target
from rectest.cli.studies import STUDIES, Study, require_system

if TYPE_CHECKING:
    from rectest.checks.result import CheckResult
    from rectest.record import RunRecord, RunSpec

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

FIRST = 5
"""Evaluations in the table: those that the report asks to compare."""


@app.callback()
def _group() -> None:
    """Run an experiment on a reference system."""


def _make(study: Study) -> None:
    def command(
        system: Annotated[str, typer.Option(help="System to train.")] = study.system,
        world: Annotated[str, typer.Option(help="World to train on; the system's own by default.")] = "",
        seed: Annotated[int, typer.Option(min=0, help="Seed, where the study does not choose them.")] = 19,
        steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
        settings: Annotated[
            list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the system.")
        ] = None,
        processes: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 2,
    ) -> None:
        from rectest.data.files import absolute_world
        from rectest.record import RunSpec

        asked = RunSpec(
            system=parse_target(system),
            world=absolute_world(world),
            seed=seed,
            steps=steps,
            config=parse_settings(settings or ()),
        )
        run_study(study, asked, processes)

    app.command(study.name, help=study.about)(command)


for _study in (*STUDIES.values(), *COMPARISONS):
    _make(_study)


def run_study(study: Study, spec: RunSpec, processes: int) -> None:
    """Train every arm and print the table and the results.

    Raises:
        RectestError: there is no such system or setting, or the study is not about this system.
        ChildFailed: one of the trainings failed.
        typer.Exit: code 1 where a result is red.
    """
    from rectest.checks.result import any_red
    from rectest.report.terminal import summary_lines

    sys.path[:] = import_path()  # the system is configured here first, so that no child is started for a mistake
    require_system(spec)
    arms = study.arms(spec)
    trained = iter(_train([one for specs in arms.values() for one in specs], processes))
    records = {name: [next(trained) for _ in specs] for name, specs in arms.items()}
    first = next(iter(records.values()))[0]
    metric = f"valid/{first.facts['early_stopping']['measure']}"
    console = make_console()
    console.print(f"study {study.name}: {study.about}")
    console.print(f"{first.environment.describe()}\n")
    _print_curves(records, metric)
    results = study.judge(records, metric)
    for line in summary_lines(results, width=console.width, verbose=True):
        console.print(line, soft_wrap=True)
    for detail in _details(results, spec.system):
        console.print(f"* {detail}")
    if any_red(results):
        raise typer.Exit(1)


def _train(specs: Sequence[RunSpec], processes: int) -> list[RunRecord]:
    """Train all of them; the first failure ends the study, because every arm is needed."""
    from rectest.errors import ChildFailed
    from rectest.training.launch import Launch, launch_many

    def say(spec: RunSpec, outcome: RunRecord | ChildFailed) -> None:
        if isinstance(outcome, ChildFailed):
            raise outcome
        if sys.stderr.isatty():
            sys.stderr.write(f"trained {spec.describe()}\n")

    def how(spec: RunSpec) -> Launch:
        return Launch(hash_seed=spec.replica * 20_011, sys_path=import_path())

    outcomes = launch_many(specs, how=how, processes=processes, done=say)
    return [outcome for outcome in outcomes if not isinstance(outcome, ChildFailed)]


def _print_curves(records: dict[str, list[RunRecord]], metric: str) -> None:
    """A row a run: the first evaluations, the test value of the best step, and what a step cost."""
    test = metric.replace("valid/", "test/", 1)
    columns = ["arm", "run", *(f"eval {i}" for i in range(1, FIRST + 1)), "test", "ms a step"]
    rows = []
    for name, group in records.items():
        for number, record in enumerate(group, start=1):
            curve = [f"{value:.4f}" for value in record[f"metric/{metric}"][:FIRST]]
            curve += [""] * (FIRST - len(curve))
            pace = 1000 * record.facts["timing"]["trained"] / len(record["loss/total"])
            arm = name if number == 1 else ""
            rows.append([arm, str(number), *curve, f"{record.final(test):.4f}", f"{pace:.1f}"])
    console = make_console()
    console.print(f"{metric} at the first evaluations; {test} with the weights of the best one")
    print_table(console, columns, rows, numbers=columns[1:])
    console.print("")


def _details(results: Sequence[CheckResult], system: str) -> list[str]:
    """What the results mean, each meaning once, after the names of the arms or metrics it is about."""
    about: dict[str, list[str]] = {}
    for result in results:
        if result.detail:
            name = result.check.rpartition("/")[2]
            about.setdefault(result.detail, []).append(f"{name} [{result.subject.removeprefix(system).strip(' /')}]")
    return [f"{', '.join(dict.fromkeys(names))}: {detail}" for detail, names in about.items()]
