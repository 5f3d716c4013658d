"""``rectest train``: one training run from the command line, with its record and checkpoints kept where asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rectest.cli.console import make_console, print_table, size_of
from rectest.cli.options import parse_settings

__all__ = ["command"]


def command(
    system: Annotated[str, typer.Argument(help="A registered system, module:attribute or file.py:attribute.")],
    world: Annotated[str, typer.Option(help="World to train on; the system's own by default.")] = "",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the system.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the run record there.")] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the best checkpoint there, with the whole configuration.")
    ] = None,
    deadline: Annotated[float, typer.Option(help="Seconds it may take.")] = 3600.0,
) -> None:
    """Train one system once and print its metrics."""
    import sys

    from rectest.record import RunSpec
    from rectest.training.launch import Launch, launch

    target = str(Path(system.rpartition(":")[0]).resolve()) + ":" + system.rpartition(":")[2]
    name = target if system.rpartition(":")[0].endswith(".py") else system
    spec = RunSpec(
        system=name, world=world, seed=seed, steps=steps, device=device, config=parse_settings(settings or ())
    )
    how = Launch(deadline=deadline, sys_path=[*sys.path, str(Path.cwd())], checkpoint_dir=checkpoints)
    record = launch(spec, how=how)
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
    if checkpoints is not None and (checkpoints / "best.pt").exists():
        console.print(f"checkpoint {checkpoints / 'best.pt'}, step {record.facts.get('best_step')}")
