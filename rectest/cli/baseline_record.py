"""``rectest baseline record``: train a system's seeds and their rounding twins, and store what they were.

What may become a baseline is decided in `rectest.baseline.refusals` and `rectest.faults.standing`; that no finished
training is lost is for `kept`. The stored baseline stays what it was until the new one is whole.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console, print_table
from rectest.cli.kept import KeptTrainer, default_folder
from rectest.cli.options import import_path, parse_settings

if TYPE_CHECKING:
    from rectest.baseline.recording import Recording
    from rectest.baseline.refusals import Judge
    from rectest.baseline.schema import Baseline
    from rectest.checks.result import CheckResult
    from rectest.faults.fault import Fault
    from rectest.record import RunSpec
    from rectest.training.launch import Launch

__all__ = ["command"]

FEWEST = 5
"""`baseline.schema.MIN_SEEDS`, which costs an import of pydantic; a test holds them equal."""

RUNS_OF_A_FAULT = 2
"""What a gate mostly needs to fail."""


def command(
    systems: Annotated[
        list[str] | None, typer.Argument(metavar="SYSTEM...", help="Registered systems, or module:attribute.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why these numbers are right.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Every registered system.")] = False,
    world: Annotated[str, typer.Option(metavar="NAME", help="World to train on; the system's own by default.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    seeds: Annotated[int, typer.Option(min=FEWEST, help="Seeds, and as many rounding twins.")] = 16,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; as stored, or the system's own.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the system; as stored, or none."),
    ] = None,
    faults: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="MODULE:FUNCTION", help="A fault that the baseline must see, too."),
    ] = None,
    allow_dirty: Annotated[bool, typer.Option("--allow-dirty", help="Record from uncommitted changes.")] = False,
    new_anchor: Annotated[bool, typer.Option("--new-anchor", help="Measure drift from this recording on.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 2,
    deadline: Annotated[float, typer.Option(help="Seconds one training may take.")] = 600.0,
    baselines: Annotated[Path, typer.Option("--baselines", metavar="DIR", help="Folder of stored baselines.")] = Path(
        "baselines"
    ),
    candidates: Annotated[
        Path | None, typer.Option("--candidates", metavar="DIR", help="Write there instead, to be accepted; for CI.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Where finished runs lie until all are done.")
    ] = None,
) -> None:
    """Train seeds and rounding twins and store them as the baseline; nothing is written if anything is wrong.

    Runs that are finished survive a crash or a kill: the same command goes on with the missing ones.
    """
    from rectest.errors import RectestError

    sys.path[:] = import_path()
    job = _Job(
        seeds=seeds,
        reason=reason,
        allow_dirty=allow_dirty,
        new_anchor=new_anchor,
        processes=processes,
        deadline=deadline,
        baselines=baselines,
        candidates=candidates,
        keep=keep or default_folder(),
        faults=tuple(faults or ()),
    )
    chosen = _chosen(systems or (), every=every)
    job.refuse_early()
    specs = [_spec(system, world=world, device=device, steps=steps, settings=settings, job=job) for system in chosen]
    failed = 0
    for spec in specs:
        try:
            job.record(spec)
        except RectestError as e:
            if len(specs) == 1:
                raise
            failed += 1
            sys.stderr.write(f"rectest: error: {spec.system}: {e}\n")
    if failed:
        sys.stderr.write(f"rectest: error: {failed} of {len(specs)} systems have no new baseline\n")
        raise typer.Exit(2)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is asked for, whatever the system is."""

    seeds: int
    reason: str
    allow_dirty: bool
    new_anchor: bool
    processes: int
    deadline: float
    baselines: Path
    candidates: Path | None
    keep: Path
    faults: tuple[str, ...]

    def refuse_early(self) -> None:
        """Raise for what needs no training to be refused."""
        from rectest.baseline.provenance import git_state
        from rectest.baseline.refusals import dirty_reason, require
        from rectest.baseline.update import refuse_in_ci

        if not self.reason.strip():
            msg = "a baseline needs --reason=TEXT: one line that tells a reviewer why the numbers are what they are"
            raise ValueError(msg)
        if self.candidates is None:
            refuse_in_ci(os.environ)
        for folder in (self.root, self.keep):
            if folder.exists() and not folder.is_dir():
                msg = f"{folder} is a file, needed a folder"
                raise ValueError(msg)
        _, dirty = git_state(Path.cwd(), apart_from=self.root)
        require([dirty_reason(dirty, allowed=self.allow_dirty, reason=self.reason)])

    @property
    def root(self) -> Path:
        """Where is written."""
        return self.baselines if self.candidates is None else self.candidates

    def record(self, spec: RunSpec) -> None:
        """Train, examine, write, and say what was written."""
        from rectest.baseline.provenance import collect_provenance, with_provenance
        from rectest.baseline.recording import record_baseline
        from rectest.baseline.refusals import refuse_unfit
        from rectest.faults.standing import standing_faults

        begin, console = time.monotonic(), make_console()
        faults = standing_faults(spec.system, self.faults)
        with _progress(spec.system, about=2 * self.seeds + RUNS_OF_A_FAULT * len(faults)) as finished:
            trainer = KeptTrainer(
                folder=self.keep, processes=self.processes, how=lambda _: self._launch(), finished=finished, note=_say
            )
            made = record_baseline(spec, trainer.many, num_seeds=self.seeds, reason=self.reason)
            environment = next(iter(made.baseline.exact.values())).described()
            origin = collect_provenance(self.reason, environment=environment, apart_from=self.root)
            made = type(made)(baseline=with_provenance(made.baseline, origin), sidecar=made.sidecar)
            warnings = refuse_unfit(made, survivors=partial(_survivors, spec, trainer, faults))
        path = self._save(made)
        trainer.forget()
        for warning in warnings:
            console.print(f"warning: {warning}")
        _print_recorded(made.baseline)
        console.print(_standing_text(spec.system, faults))
        twins = " and their rounding twins" if made.baseline.ensemble.twins else ""
        console.print(f"{path}: {self.seeds} seeds{twins} in {time.monotonic() - begin:.0f} s")

    def _save(self, made: Recording) -> Path:
        from rectest.baseline.history import continued
        from rectest.baseline.store import BaselineStore

        store = BaselineStore(self.root)
        combine = partial(continued, new_anchor=self.new_anchor)
        return store.save(made.baseline, sidecar=made.sidecar, replace=True, combine=combine)

    def _launch(self) -> Launch:
        from rectest.training.launch import Launch

        return Launch(deadline=self.deadline, sys_path=import_path())


def _chosen(systems: Sequence[str], *, every: bool) -> list[str]:
    from rectest.systems.registry import SYSTEMS

    if every and systems:
        msg = f"--all records every registered system, {' '.join(systems)} among them or not: give one of the two"
        raise ValueError(msg)
    if not every and not systems:
        msg = f"name the systems to record, or --all for {', '.join(SYSTEMS)}"
        raise ValueError(msg)
    return list(SYSTEMS) if every else list(dict.fromkeys(systems))


def _spec(
    system: str, *, world: str, device: str, steps: int | None, settings: Sequence[str] | None, job: _Job
) -> RunSpec:
    """What to train: the settings are those of the baseline that is replaced, unless others are given.

    Raises:
        ValueError: a baseline cannot be called that, or needs a world that everybody has.
        RectestError: there is no such system, or what is stored cannot be read.
    """
    from rectest.baseline.store import StoredName
    from rectest.record import RunSpec
    from rectest.systems.protocol import System
    from rectest.systems.registry import SYSTEMS, resolve

    if ":" in world:
        msg = f"{world} is a file: a baseline needs a world that everybody has, under a name"
        raise ValueError(msg)
    StoredName(env_class="any", system=system, world=world)
    found, config = resolve(system), parse_settings(settings or ())
    own = found.default_world if system in SYSTEMS else ""
    if isinstance(found, type) and issubclass(found, System):
        found.from_settings(config)
    spec = RunSpec(system=system, world="" if world == own else world, device=device, steps=steps, config=config)
    return spec if steps is not None or settings else _as_stored(spec, job)


def _as_stored(spec: RunSpec, job: _Job) -> RunSpec:
    from rectest.baseline.store import BaselineStore
    from rectest.errors import CorruptBaseline

    store = BaselineStore(job.baselines)
    on_cuda = spec.device != "cpu"
    names = [name for name in store.entries() if (name.system, name.world) == (spec.system, spec.world)]
    for name in (name for name in names if name.env_class.startswith("cuda") is on_cuda):
        try:
            stored = store.read(name).spec
        except CorruptBaseline:
            continue
        if (stored.steps, stored.eval_every, stored.config) != (None, None, {}):
            _say(f"{spec.system}: with the settings of the baseline that is replaced")
        return spec.with_(steps=stored.steps, eval_every=stored.eval_every, config=stored.config)
    return spec


def _survivors(
    spec: RunSpec, trainer: KeptTrainer, faults: Sequence[Fault], judge: Judge
) -> Iterator[tuple[str, str, CheckResult]]:
    from rectest.faults.standing import surviving

    for fault, found in surviving(spec, judge, trainer.briefly, faults=faults):
        yield fault.name, fault.about, found


def _standing_text(system: str, faults: Sequence[Fault]) -> str:
    if faults:
        return f"seen by this gate when planted: {', '.join(fault.name for fault in faults)}"
    return (
        f"no standing fault is registered for {system}, so that nothing has shown that this gate can fail; name one "
        "with --fault MODULE:FUNCTION"
    )


def _print_recorded(baseline: Baseline) -> None:
    import numpy as np

    from rectest.baseline.looks import promised_drop

    rows = []
    for name, values in sorted(baseline.ensemble.features.items()):
        twins = baseline.ensemble.twins.get(name)
        sd = float(np.std(np.log(values), ddof=1))
        rounding = "" if twins is None else _percent(float(np.sqrt(np.mean(np.log(np.divide(twins, values)) ** 2))))
        cells = (f"{np.mean(values):.6g}", _percent(sd), rounding, _percent(promised_drop(baseline, name)))
        rows.append([name, *cells])
    columns = ("feature", "mean", "run sd", "rounding sd", "smallest drop caught")
    console = make_console()
    console.print(f"{baseline.name} ({baseline.env_class})", style="bold")
    print_table(console, columns, rows, numbers=columns[1:])
    for name, why in baseline.ensemble.left_out.items():
        console.print(f"left out: {name}, {why}")
    console.print()


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2g} %"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _nothing(_text: str) -> None:
    """Show nothing."""


@contextmanager
def _progress(title: str, *, about: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, called with what was trained; elsewhere nothing is shown."""
    if not sys.stderr.isatty():
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    count = TextColumn("{task.completed:.0f} of about {task.total:.0f} runs")
    columns = (BarColumn(bar_width=20), count, TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=about)

        def finished(text: str) -> None:
            bar.update(task, advance=1, description=text)

        yield finished
