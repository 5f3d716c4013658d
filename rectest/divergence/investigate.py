"""From a command to a finding: watched runs, their comparison, runs that locate an order, runs with sources held still.

Running is `rectest.divergence.runs`, comparing `rectest.divergence.compare`, the order of trials
`rectest.divergence.confirm`. This file owns which runs are made, where they are kept, and what a script that fails
means for the answer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import zip_longest
from pathlib import Path

from rectest.divergence.answer import answer
from rectest.divergence.compare import compare_many
from rectest.divergence.confirm import Confirmed, confirm
from rectest.divergence.details import Details, RunFacts
from rectest.divergence.draws import draw_table, environment_of, order_causes
from rectest.divergence.finding import DIVERGED, IDENTICAL, UNKNOWN, Cause, Finding
from rectest.divergence.inside.session import Config
from rectest.divergence.runs import Recorded, record_many
from rectest.divergence.tapes import Run, load_run
from rectest.divergence.wording import plural
from rectest.divergence.workdir import MAX_BYTES, project_root
from rectest.errors import RectestError, WatchError

__all__ = ["Compared", "Investigation", "Plan", "compare_tapes", "details_of", "last_lines", "roots_of"]

_EVERYTHING = Config(tape="")
_HASH = "hash"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is run, and how."""

    command: tuple[str, ...]
    out: Path
    """Where tapes, outputs and copies go."""

    num_runs: int = 2
    config: Config = _EVERYTHING
    workdir: Path | None = None
    in_place: bool = False
    deadline: float | None = None
    """Seconds for each run."""

    max_bytes: int = MAX_BYTES
    variant: int = 0
    """Single runs with another variant differ in hash seed and listing order, as runs of one plan do."""

    keep: bool = False
    """Whether working copies and the tapes of further runs stay."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Runs and what their comparison found."""

    finding: Finding
    runs: tuple[Run, ...]
    recorded: tuple[Recorded, ...] = ()
    notes: tuple[str, ...] = ()


def compare_tapes(paths: Sequence[Path]) -> Compared:
    """Compare kept tapes.

    Raises:
        TapeError: one of them cannot be read.
    """
    runs = tuple(load_run(path) for path in paths)
    return Compared(finding=_honest(compare_many(runs), runs), runs=runs)


class Investigation:
    """The runs of one command."""

    def __init__(self, plan: Plan, *, say: Callable[[str], None]) -> None:
        self.plan = plan
        self._say = say
        self._num_more = 0

    def compare(self) -> Compared:
        """Run the command and compare; a source of order without a line is located by two more runs.

        Raises:
            WatchError: the command could not be watched, or failed before a first step.
        """
        compared = self._look("", self.plan, stop_early=True)
        return replace(compared, finding=_finished(self._located(compared.finding), compared.notes))

    def record(self) -> Recorded:
        """Run the command once, and keep its tape."""
        recorded, _ = self._record(replace(self.plan, num_runs=1), (), stop_early=True)
        return recorded[0]

    def confirm(self, compared: Compared, *, limit: int = 8) -> Confirmed:
        """Hold the causes of a divergence still, one after the other."""
        failed = [each.status for each in compared.recorded]

        def rerun(pins: tuple[str, ...], step: int = 0) -> Finding:
            held = f"with {', '.join(pins)} held still" if pins else "once more with nothing held still"
            self._say(f"comparing {held}")
            plan = self.plan if not step else self._until(step)
            again = self._look("confirm", plan, pins=pins)
            if not step and any(each.status and each.status not in failed for each in again.recorded):
                raise WatchError(again.notes[0])
            return again.finding

        confirmed = confirm(compared.finding, rerun, show_again=rerun, limit=limit)
        return self._with_lines(confirmed, compared.finding.step)

    def _look(self, name: str, plan: Plan, *, pins: Sequence[str] = (), stop_early: bool = False) -> Compared:
        """Fresh runs and their comparison; of further ones the tapes are removed unless they are to be kept."""
        if name:
            self._num_more += 1
            plan = replace(plan, out=plan.out / f"{name}{self._num_more}")
        try:
            recorded, runs = self._record(plan, pins, stop_early=stop_early)
            outputs = [each.output.read_text(encoding="utf-8", errors="replace") for each in recorded]
            finding = _honest(compare_many(runs, outputs=outputs), runs)
            notes = tuple(_failures(recorded, plan))
        finally:
            if name and not plan.keep:
                shutil.rmtree(plan.out, ignore_errors=True)
        return Compared(finding=finding, runs=runs, recorded=recorded, notes=notes)

    def _record(
        self, plan: Plan, pins: Sequence[str], *, stop_early: bool
    ) -> tuple[tuple[Recorded, ...], tuple[Run, ...]]:
        """Fresh runs and their tapes, with a line of progress for each."""
        runs: list[Run] = []

        def on_run(number: int, run: Recorded) -> None:
            runs.append(load_run(run.tape))
            num_steps = runs[-1].num_steps
            ended = "stopped at its deadline" if run.timed_out else f"exit {run.status}"
            self._say(f"run {number} of {plan.num_runs}: {run.seconds:.0f} s, {ended}, {plural(num_steps, 'step')}")
            if stop_early and run.status and not num_steps:
                msg = f"the command failed in run {number} (exit {run.status}), before a first training step was over"
                raise WatchError(msg)

        recorded = record_many(
            plan.command,
            out=plan.out,
            num_runs=plan.num_runs,
            config=plan.config,
            pins=pins,
            workdir=plan.workdir,
            in_place=plan.in_place,
            deadline=plan.deadline,
            max_bytes=plan.max_bytes,
            keep_copies=plan.keep,
            variant=plan.variant,
            on_run=on_run,
        )
        return tuple(recorded), tuple(runs)

    def _until(self, step: int, *, locate: bool = False) -> Plan:
        """Two runs that end after a step."""
        stop = min(filter(None, (step, self.plan.config.stop_after)), default=step)
        config = replace(self.plan.config, stop_after=stop, locate_orders=locate)
        return replace(self.plan, config=config)

    def _located(self, finding: Finding) -> Finding:
        """With the lines of the sets that came in another order, where only that something did is known."""
        if finding.verdict != DIVERGED or not _lacks_line(finding):
            return finding
        found = self._orders(finding.step)
        rest = (cause for cause in finding.causes if cause.kind != "hash_order" or cause.site)
        return replace(finding, causes=(*found, *rest)) if found else finding

    def _with_lines(self, confirmed: Confirmed, step: int) -> Confirmed:
        """The same for an order that was suspected late, and is confirmed."""
        causes = list(confirmed.causes)
        for place, cause in enumerate(causes):
            if cause.pin == _HASH and not cause.site:
                found = self._orders(step)
                causes[place] = replace(found[0], confirmed=True) if found else cause
        return replace(confirmed, causes=tuple(causes))

    def _orders(self, step: int) -> tuple[Cause, ...]:
        """Sets that come in another order in two fresh runs; none where they cannot be located."""
        if self.plan.in_place:
            return ()
        self._say("the order of a set of strings matters: running again to find its line")
        plan = replace(self._until(max(1, step), locate=True), num_runs=2)
        try:
            return order_causes(*self._look("orders", plan).runs[:2])
        except RectestError as e:
            self._say(f"its line was not found: {e}")
            return ()


def _lacks_line(finding: Finding) -> bool:
    """Whether an order is the first suspect, and no line is known."""
    if finding.causes and finding.causes[0].kind == "hash_order":
        return not finding.causes[0].site
    return finding.stage == "id_map" and not any(cause.site for cause in finding.causes)


def _honest(finding: Finding, runs: Sequence[Run]) -> Finding:
    """Runs in which nothing was computed are not identical: nothing was looked at."""
    if finding.verdict == IDENTICAL and not any(run.trainers for run in runs):
        reason = "no forward, loss or optimizer step of torch was recorded; does the command train, in Python?"
        return replace(finding, verdict=UNKNOWN, reason=reason)
    return finding


def _failures(recorded: Sequence[Recorded], plan: Plan) -> list[str]:
    notes = []
    for number, run in enumerate(recorded, start=1):
        if run.timed_out:
            notes.append(f"run {number} was ended at its deadline of {plan.deadline:g} s")
        elif run.status:
            last = (last_lines(run.output, 1) or ["no output"])[0]
            notes.append(f"the command failed in run {number} (exit {run.status}): {last.strip()}")
    return notes


def _finished(finding: Finding, notes: Sequence[str]) -> Finding:
    """Runs that failed are identical only as far as they came, which does not answer the question."""
    if finding.verdict == IDENTICAL and notes:
        reason = f"{notes[0]}; up to there, for {plural(max(finding.num_steps), 'step')}, the runs are identical"
        return replace(finding, verdict=UNKNOWN, reason=reason)
    return finding


def last_lines(output: Path, num: int = 15) -> list[str]:
    """The end of what a run printed; nothing where it cannot be read."""
    try:
        with output.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - (64 << 10)))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-num:]


def details_of(
    compared: Compared, confirmed: Confirmed | None = None, *, plan: Plan | None = None, places: str = ""
) -> Details:
    """Everything in one: the screen, and what the file and the page hold beyond it.

    Args:
        compared: what was found with nothing held still.
        confirmed: what the trials have shown; None if there were none.
        plan: of the runs; None where kept tapes were compared.
        places: where the details are, for the last line of the screen.
    """
    runs, finding = compared.runs, compared.finding
    here = [Path.cwd()] if plan is None else [plan.workdir or project_root(Path.cwd()), Path.cwd()]
    return Details(
        finding=finding if confirmed is None else confirmed.applied_to(finding),
        answer=tuple(
            answer(
                finding,
                confirmed=confirmed,
                num_runs=len(runs),
                roots=roots_of(runs, here),
                details=places,
                notes=() if finding.verdict == UNKNOWN else compared.notes,
                can_confirm=plan is not None,
            )
        ),
        command=() if plan is None else plan.command,
        runs=tuple(_facts(run, recorded) for run, recorded in zip_longest(runs, compared.recorded)),
        draws=draw_table(*runs[:2]),
        trials=Details.trials_of(confirmed),
        confirmed=None if confirmed is None else confirmed.identical,
        notes=compared.notes,
        version=metadata.version("rectest"),
    )


def _facts(run: Run, recorded: Recorded | None) -> RunFacts:
    return RunFacts(
        tape=str(run.path),
        seconds=None if recorded is None else round(recorded.seconds, 3),
        exit_code=None if recorded is None else recorded.status,
        num_steps=run.num_steps,
        num_events=sum(len(tape.events) for tape in run.tapes.values()),
        log="" if recorded is None else str(recorded.output),
        environment=environment_of(run),
    )


def roots_of(runs: Sequence[Run], here: Sequence[Path]) -> list[Path]:
    """Folders in which the files of sites are found: the working directory, and where its packages are installed."""
    roots = list(here)
    for environment in map(environment_of, runs[:1]):
        version = ".".join(environment.get("python", "").split(".")[:2])
        if environment.get("prefix") and version:
            roots.append(Path(environment["prefix"], "lib", f"python{version}"))
    return roots
