"""``rectest checkpoint``: what a checkpoint holds, and the way back from a feature that did not pay.

Report 002 asks for both: every checkpoint carries the whole configuration, and when a feature disappoints, training
goes on without it from the same weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rectest.cli.console import make_console, print_table
from rectest.cli.options import parse_settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint written by rectest.")]


@app.callback()
def _group() -> None:
    """Look into checkpoints, and roll features back."""


@app.command()
def show(file: File) -> None:
    """Print the step, the whole configuration and the tensors of a checkpoint; no code of the file is run."""
    from rectest.training.checkpoint import load_checkpoint

    found = load_checkpoint(file)
    console = make_console()
    resumable = "a run can be resumed from it" if "run" in found.extra else "weights only"
    console.print(f"{file}: step {found.step}, {resumable}\n", soft_wrap=True)
    print_table(console, ["setting", "value"], [[key, str(value)] for key, value in sorted(found.settings.items())])
    console.print("")
    rows = [
        [name, str(list(value.shape)), str(value.dtype).removeprefix("torch.")] for name, value in found.model.items()
    ]
    print_table(console, ["tensor", "shape", "type"], rows)


@app.command()
def rollback(
    file: File,
    system: Annotated[str, typer.Option(help="The system it is a checkpoint of.")],
    out: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, help="Where the plainer checkpoint goes.")],
    world: Annotated[str, typer.Option(help="World it was trained on; the system's own by default.")] = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting to change, e.g. adaptive=false.")
    ] = None,
) -> None:
    """Take the weights that the model with other settings shares with the checkpoint, and say what was dropped."""
    from rectest.data.worlds import load_world
    from rectest.seeding import SeedPlan
    from rectest.systems.registry import make_system
    from rectest.training.checkpoint import load_checkpoint, save_checkpoint
    from rectest.training.checkpoint import rollback as roll

    if out.exists():
        msg = f"{out} exists; a rollback never writes over a file, choose another --out"
        raise ValueError(msg)
    found = load_checkpoint(file)
    plainer = make_system(system, _merged(found.settings, parse_settings(settings or ())))
    data = plainer.prepare(load_world(world or plainer.default_world), SeedPlan(root=0).child("data"))
    model = plainer.build(data, SeedPlan(root=0).child("init"))
    outcome = roll(found, model)
    extra = {"rolled_back_from": str(file.name), "dropped": list(outcome.dropped)}
    save_checkpoint(out, model=model, optimizer=None, step=found.step, settings=plainer.settings(), extra=extra)
    console = make_console()
    console.print(f"kept {len(outcome.kept)} tensors, dropped {', '.join(outcome.dropped) or 'none'}")
    console.print(f"checkpoint {out}, step {found.step}; the optimizer starts afresh")


def _merged(stored: Any, changed: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's settings with some changed; nothing changed is no rollback."""
    merged = {**stored, **changed}
    if merged == dict(stored):
        msg = "nothing is rolled back: give the settings to change with --set, e.g. --set adaptive=false"
        raise ValueError(msg)
    return merged
