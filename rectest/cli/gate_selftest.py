"""``rectest gate selftest``: the proof, on the stored baselines, that the gate keeps its declared numbers.

Without ``--full`` nothing is trained and it takes seconds. With it, training faults are planted in every system and
really trained, and a table says which level of the gate sees each; that takes minutes for each system.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console, print_table

if TYPE_CHECKING:
    from rectest.baseline.gating import Judged
    from rectest.baseline.schema import Baseline
    from rectest.baseline.selftest_results import SelfTest
    from rectest.baseline.store import BaselineStore
    from rectest.record import RunRecord, RunSpec

__all__ = ["FULL", "QUICK", "command"]

QUICK, FULL = 200, 2000
"""Clean gates for each baseline, without and with ``--full``."""

NUMBERS = ("system", "clean gates", "drops", "rises", "runs", "divided", "one bad run", "uniform", "verdict")
CAUGHT = ("system", "planted in", "change", "caught", "of", "runs", "verdict")
TRAINED = ("system", "planted", "verdict", "level", "runs", "what is said")

TrainAll = Callable[[Sequence["RunSpec"]], "list[RunRecord | Exception]"]


def command(
    systems: Annotated[list[str] | None, typer.Argument(metavar="[SYSTEM]...", help="All by default.")] = None,
    full: Annotated[bool, typer.Option("--full", help="2,000 clean gates, every feature, and trained faults.")] = False,
    resamples: Annotated[
        int | None, typer.Option("--resamples", metavar="N", min=20, help="Clean gates for each baseline.")
    ] = None,
    baselines: Annotated[Path, typer.Option("--baselines", metavar="DIR", help="Folder of stored baselines.")] = Path(
        "baselines"
    ),
    env: Annotated[str, typer.Option("--env", metavar="CLASS", help="Only this environment class.")] = "",
    processes: Annotated[int, typer.Option(min=1, help="Trainings at a time, with --full.")] = 2,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables for documents.")] = False,
) -> None:
    """Test the gate itself on stored baselines; exit code 1 where it breaks a number that it declares."""
    from rectest.baseline.selftest import self_test
    from rectest.baseline.store import BaselineStore

    store = BaselineStore(baselines)
    chosen = _chosen(store, systems or (), env)
    num, found = resamples or (FULL if full else QUICK), []
    for baseline in chosen:
        _say(f"testing the gate of {baseline.name}")
        features = baseline.ensemble.features if full else None
        found.append(self_test(baseline, num_resamples=num, features=features))
    _show(NUMBERS, [_numbers(test) for test in found], markdown=markdown)
    _show(CAUGHT, [row for test in found for row in _caught(test)], markdown=markdown, grouped=True)
    wrong = [line for test in found for line in _red(test)]
    if full:
        rows, unseen = _trained(store, [b for b in chosen if not b.world], _in_children(processes))
        _show(TRAINED, rows, markdown=markdown, grouped=True)
        wrong += unseen
    console = make_console()
    for line in wrong or [f"{len(found)} gates keep what they declare"]:
        console.print(line, soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


def _chosen(store: BaselineStore, systems: Sequence[str], env: str) -> list[Baseline]:
    from rectest.errors import BaselineError, UnknownNameError

    names = [name for name in store.entries() if not env or name.env_class == env]
    if not names:
        where = f"{store.root}{'/' + env if env else ''}"
        msg = f"no baselines in {where}; record them with: rectest baseline record --all --reason TEXT"
        raise BaselineError(msg)
    stored = {name.system for name in names}
    for system in systems:
        if system not in stored:
            raise UnknownNameError("baseline", system, stored)
    return [store.read(name) for name in names if not systems or name.system in systems]


def _numbers(test: SelfTest) -> list[str]:
    clean, splits, bad = test.clean, test.splits, test.bad_run
    divided = f"{splits.alarms} of {splits.num}" if splits else "too few seeds"
    return [
        test.name,
        str(clean.num),
        str(clean.drops),
        str(clean.rises),
        f"{clean.mean_runs:.2f}",
        divided,
        f"{bad.alarms} of {bad.num}",
        f"p = {test.uniform.p:.2g}" if test.uniform else "too few seeds",
        "FAIL" if test.red else "PASS",
    ]


def _caught(test: SelfTest) -> Iterable[list[str]]:
    from rectest.baseline.features import higher_is_better
    from rectest.checks.result import percent

    red = {result.check for result in test.results if result.red}
    for found in test.detection:
        sign = "-" if higher_is_better(found.feature) else "+"
        yield [
            test.name,
            found.feature,
            f"{sign}{100 * found.drop:.2g} %",
            percent(found.tally.drops / found.tally.num),
            str(found.tally.num),
            f"{found.tally.mean_runs:.2f}",
            "FAIL" if f"selftest/detection/{found.feature}" in red else "PASS",
        ]


def _red(test: SelfTest) -> list[str]:
    red = [result for result in test.results if result.red]
    return [f"{r.verdict} {r.check}: {r.subject}: {r.figure}; limit {r.limit}" for r in red]


def _trained(store: BaselineStore, chosen: Sequence[Baseline], train: TrainAll) -> tuple[list[list[str]], list[str]]:
    """A row for each planted fault and harmless change, and what is wrong with them: unseen, or a false alarm."""
    from rectest.baseline.gating import judge_against
    from rectest.baseline.looks import MAX_RUNS
    from rectest.checks.result import Verdict

    open_ = {key: spec for baseline in chosen for key, spec in _planted(baseline).items()}
    records: dict[tuple[str, str], list[RunRecord]] = {key: [] for key in open_}
    ended: dict[tuple[str, str], Judged | Exception] = {}
    for place in range(MAX_RUNS):
        keys = [key for key in open_ if key not in ended]
        _say(f"training seed {place} of {len(keys)} planted runs")
        outcomes = train([open_[key].with_(seed=open_[key].seed + place) for key in keys])
        for key, outcome in zip(keys, outcomes, strict=True):
            if isinstance(outcome, Exception):
                ended[key] = outcome
                continue
            records[key].append(outcome)
            judged = judge_against(store, open_[key], records[key], max_runs=MAX_RUNS)
            if not judged.undecided:
                ended[key] = judged
    rows, wrong = [], []
    for (name, system), end in ended.items():
        verdict, level, said = _said(end)
        harmless = name in _HARMLESS
        if harmless is not (verdict == Verdict.PASS):
            wrong.append(f"{'FALSE ALARM' if harmless else 'UNSEEN'}: {name} in {system}: {verdict} {said}")
        rows.append([system, name, verdict, level, str(len(records[name, system])), said])
    return sorted(rows), wrong


_HARMLESS = ("other_adam_kernel", "foreign_draws")
"""Controls that are trained beside the faults: another order of operations, draws from somebody else's generator."""


def _planted(baseline: Baseline) -> dict[tuple[str, str], RunSpec]:
    """First runs by fault and system; the rest of their settings is that of the baseline."""
    from rectest.faults.training import PLANTS
    from rectest.record import RunSpec

    kept = baseline.spec
    clean = RunSpec(
        system=baseline.system,
        seed=min(baseline.ensemble.seeds),
        steps=kept.steps,
        eval_every=kept.eval_every,
        config=kept.config,
    )
    places = {fault.name: fault.place for fault in PLANTS if fault.fits(baseline.system)}
    places |= {name: f"rectest.faults.controls:{name}" for name in _HARMLESS}
    return {(name, baseline.system): clean.with_(plant=place) for name, place in places.items()}


def _said(outcome: Judged | Exception) -> tuple[str, str, str]:
    """Verdict, level and the fact that decided."""
    if isinstance(outcome, Exception):
        return "FAIL", "", f"the training fails: {outcome}"
    head = outcome.results[0]
    return str(head.verdict), outcome.evidence.level if outcome.evidence else "", head.figure


def _in_children(processes: int) -> TrainAll:
    from rectest.cli.options import import_path
    from rectest.training.launch import Launch, launch_many

    path = import_path()

    def train(specs: Sequence[RunSpec]) -> list[RunRecord | Exception]:
        return list(launch_many(specs, how=lambda _: Launch(sys_path=path), processes=processes))

    return train


def _show(columns: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool, grouped: bool = False) -> None:
    """One table; on a terminal, where its first column may stand above a table of each group instead."""
    if markdown:
        lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
        typer.echo("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
        return
    console, numbers = make_console(), ("clean gates", "drops", "rises", "runs", "change", "caught", "of")
    if not grouped:
        print_table(console, columns, rows, numbers=numbers)
    for group, members in groupby(rows, key=itemgetter(0)) if grouped else ():
        console.print(group, style="bold")
        print_table(console, columns[1:], [row[1:] for row in members], numbers=numbers)
    console.print("")


def _say(text: str) -> None:
    """Progress, for somebody who waits."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{text}\n")
