"""``rectest train``: one training run from the command line, with its record and checkpoints kept where asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console, print_table, size_of
from rectest.cli.options import import_path, parse_settings, parse_target

if TYPE_CHECKING:
    from rectest.record import RunRecord, RunSpec
    from rectest.training.launch import Launch

__all__ = ["command"]


def command(
    system: Annotated[str, typer.Argument(help="A registered system, module:attribute or file.py:attribute.")],
    world: Annotated[
        str, typer.Option(help="World to train on (a name or FORMAT:PATH); the system's own by default.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the system.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Keep the run record there.")] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Keep best.pt and last.pt there, with the whole configuration.",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Go on from the last.pt of the same run, bit for bit."),
    ] = None,
    deadline: Annotated[float, typer.Option(help="Seconds it may take.")] = 3600.0,
) -> None:
    """Train one system once and print its metrics."""
    from rectest.data.files import absolute_world
    from rectest.record import RunSpec
    from rectest.training.launch import Launch

    spec = RunSpec(
        system=parse_target(system),
        world=absolute_world(world),
        seed=seed,
        steps=steps,
        device=device,
        config=parse_settings(settings or ()),
    )
    how = Launch(deadline=deadline, sys_path=import_path(), checkpoint_dir=checkpoints, resume=resume)
    record = _train(spec, how)
    console = make_console()
    console.print(f"{spec.describe()}: {record.environment.describe()}")
    floors = record.facts.get("floors", {})
    rows = []
    for key in record.names("metric/"):
        known = floors.get(key, {})
        cells = [known.get(kind) for kind in ("chance", "popularity", "optimum")]
        rows.append([key, f"{record.final(key):.4f}", *("" if c is None else f"{c:.4f}" for c in cells)])
    print_table(console, ["metric", "value", "chance", "popularity", "optimum"], rows, numbers=["value"])
    if out is not None:
        path = record.save(out)
        console.print(f"record {path} ({size_of(path.stat().st_size)})")
    if checkpoints is not None:
        step = record.facts.get("best_step")
        made = f"checkpoint {checkpoints / 'best.pt'}, step {step}"
        console.print(made if step is not None else "no checkpoint: a training function keeps its own")


def _train(spec: RunSpec, how: Launch) -> RunRecord:
    """Train in a child; what a child that failed last said goes to the standard error."""
    from rectest.errors import ChildFailed
    from rectest.training.launch import launch

    try:
        return launch(spec, how=how)
    except ChildFailed as e:
        if e.log:
            sys.stderr.write(f"{e.log.rstrip()}\n")
        raise
