"""``rectest study``: run one of report 000's experiments and print what was measured beside what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console, print_table
from rectest.cli.options import parse_settings
from rectest.cli.studies import STUDIES, Study

if TYPE_CHECKING:
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
        system: Annotated[str, typer.Option(help="System to train.")] = "comirec",
        world: Annotated[str, typer.Option(help="World to train on; the system's own by default.")] = "",
        seed: Annotated[int, typer.Option(min=0, help="Seed, where the study does not choose them.")] = 19,
        steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
        settings: Annotated[
            list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the system.")
        ] = None,
        processes: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 2,
    ) -> None:
        from rectest.record import RunSpec

        config = parse_settings(settings or ())
        run_study(study, RunSpec(system=system, world=world, seed=seed, steps=steps, config=config), processes)

    app.command(study.name, help=study.about)(command)


for _study in STUDIES.values():
    _make(_study)


def run_study(study: Study, spec: RunSpec, processes: int) -> None:
    """Train every arm and print the table and the results.

    Raises:
        ChildFailed: one of the trainings failed.
        typer.Exit: code 1 where a result is red.
    """
    from rectest.checks.result import any_red
    from rectest.report.terminal import summary_lines

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
    for line in summary_lines(results, width=console.width):
        console.print(line, soft_wrap=True)
    for detail in dict.fromkeys(result.detail for result in results if result.detail):
        console.print(f"* {detail}")
    if any_red(results):
        raise typer.Exit(1)


def _train(specs: Sequence[RunSpec], processes: int) -> list[RunRecord]:
    import sys

    from rectest.errors import ChildFailed
    from rectest.training.launch import Launch, launch_many

    def say(spec: RunSpec, _outcome: object) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"trained {spec.describe()}\n")

    def how(spec: RunSpec) -> Launch:
        return Launch(hash_seed=spec.replica * 20_011, sys_path=sys.path)

    outcomes = launch_many(specs, how=how, processes=processes, done=say)
    for outcome in outcomes:
        if isinstance(outcome, ChildFailed):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, ChildFailed)]


def _print_curves(records: dict[str, list[RunRecord]], metric: str) -> None:
    test = metric.replace("valid/", "test/", 1)
    columns = ["arm", "run", *(f"evaluation {i}" for i in range(1, FIRST + 1)), test, "ms a step"]
    rows = []
    for name, group in records.items():
        for number, record in enumerate(group, start=1):
            curve = [f"{value:.4f}" for value in record[f"metric/{metric}"][:FIRST]]
            curve += [""] * (FIRST - len(curve))
            pace = 1000 * record.facts["timing"]["trained"] / len(record["loss/total"])
            rows.append([name, str(number), *curve, f"{record.final(test):.4f}", f"{pace:.1f}"])
    print_table(make_console(), columns, rows, numbers=columns[1:])
    make_console().print("")
