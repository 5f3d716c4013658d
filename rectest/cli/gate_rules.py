"""``rectest gate rules``: the table of false alarms and detection for this gate and for the rules that others use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console, print_table

if TYPE_CHECKING:
    from rectest.baseline.rules import Rate, Score
    from rectest.baseline.store import BaselineStore, StoredName

__all__ = ["command"]

ALL = "all together"

_DETECTIONS = 4
"""One in so many resamples is made worse: a share near one half or one needs fewer than one near zero."""


def command(
    systems: Annotated[list[str] | None, typer.Argument(metavar="[SYSTEM]...", help="All by default.")] = None,
    resamples: Annotated[int, typer.Option(min=20, metavar="NUM", help="Clean candidates for each system.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables for a document.")] = False,
    baselines: Annotated[Path, typer.Option("--baselines", metavar="DIR", help="Folder of stored baselines.")] = Path(
        "baselines"
    ),
) -> None:
    """Compare acceptance rules on resamples of the recorded runs: false alarms, drops that are caught, runs."""
    from rectest.baseline.rules import RULES, pooled
    from rectest.baseline.store import BaselineStore

    store = BaselineStore(baselines)
    names = _chosen(store, baselines, systems or ())
    scores: dict[str, list[Score]] = {}
    for place, name in enumerate(names, start=1):
        if sys.stderr.isatty():
            sys.stderr.write(f"{place} of {len(names)}: {name.system}\n")
        title, found = _measure(store, name, resamples, seed)
        scores[title] = found
    if len(scores) > 1:
        scores[ALL] = pooled([each for found in scores.values() for each in found], ALL)
    about = {rule.name: rule.about for rule in RULES}
    (_print_markdown if markdown else _print_tables)(scores, about, resamples)


def _chosen(store: BaselineStore, root: Path, systems: Sequence[str]) -> list[StoredName]:
    """The stored baselines of the wanted systems, ``system`` or ``system@world``, all of them by default.

    Raises:
        BaselineError: nothing is stored.
        UnknownNameError: nothing is stored for one of them.
    """
    from rectest.errors import BaselineError, UnknownNameError

    entries = {(f"{e.system}@{e.world}" if e.world else e.system, e.env_class): e for e in store.entries()}
    if not entries:
        msg = f"no baselines in {root}; record them with: rectest baseline record --all --reason TEXT"
        raise BaselineError(msg)
    for system in systems:
        if system not in {name for name, _ in entries}:
            raise UnknownNameError("baseline", system, {name for name, _ in entries})
    return [entry for (name, _), entry in entries.items() if not systems or name in systems]


def _measure(store: BaselineStore, name: StoredName, resamples: int, seed: int) -> tuple[str, list[Score]]:
    """The title of a system's table and what it holds."""
    import numpy as np

    from rectest.baseline.rules import DECLARED, DROPS, score
    from rectest.baseline.trials import declared_drop, trial_of

    baseline, sidecar = store.read_whole(name)
    rng = np.random.default_rng([seed, *str(name.path).encode()])
    trial = trial_of(baseline, sidecar, rng, num_resamples=resamples)
    declared = declared_drop(baseline)
    drops = {DECLARED: declared, **{f"{100 * share:g} %": share for share in DROPS}}
    title = (
        f"{baseline.name} ({baseline.env_class}, {len(baseline.ensemble.seeds)} seeds): declared drop "
        f"{100 * declared:.2g} %"
    )
    return title, score(trial, drops, num_detections=max(1, resamples // _DETECTIONS))


def _words(scores: dict[str, list[Score]], resamples: int) -> list[str]:
    """What the numbers are, and what is missing among them."""
    found = [
        f"{resamples} clean candidates and {max(1, resamples // _DETECTIONS)} of each drop for every system, drawn "
        "from its recorded runs, each against a baseline drawn likewise; below each share its 95 % binomial interval.",
        "A drop makes all metrics worse by one share; declared is the smallest that this gate promises to catch with "
        "90 % probability. Red in either direction counts.",
    ]
    single = [{each.rule for each in group} for title, group in scores.items() if title != ALL]
    partly = [rule for rule in set.union(*single) if not all(rule in group for group in single)]
    if partly:
        num = sum(not group.issuperset(partly) for group in single)
        found.append(
            f"{num} of {len(single)} baselines have no curves, which these look at: {', '.join(sorted(partly))}."
        )
    return found


def _rows(found: list[Score], cell: Callable[[Rate], str]) -> list[list[str]]:
    return [
        [each.rule, f"{each.runs:.2f}", *(cell(rate) for rate in (each.false_alarms, *each.caught.values()))]
        for each in found
    ]


def _narrow(rate: Rate) -> str:
    """For a terminal: the interval below the share, to the percent, finer below ten."""
    low, high = (f"{end:.2g}" if end < 10 else f"{end:.0f}" for end in (100 * edge for edge in rate.interval()))
    return f"{_percent(rate.share)}\n{low}–{high}"


def _wide(rate: Rate) -> str:
    low, high = (_percent(edge).removesuffix(" %") for edge in rate.interval())
    return f"{_percent(rate.share)} ({low}–{high})"


def _percent(share: float) -> str:
    found = 100 * share
    return f"{found:.2g} %" if found < 10 else f"{found:.3g} %"


def _print_tables(scores: dict[str, list[Score]], about: dict[str, str], resamples: int) -> None:
    console = make_console()
    for title, found in scores.items():
        console.print(title, style="bold")
        columns = ("rule", "runs", "false alarms", *found[0].caught)
        print_table(console, columns, _rows(found, _narrow), numbers=columns[1:])
        console.print()
    for rule in dict.fromkeys(each.rule for found in scores.values() for each in found):
        console.print(f"{rule}: {about[rule]}")
    console.print()
    for words in _words(scores, resamples):
        console.print(words)


def _print_markdown(scores: dict[str, list[Score]], about: dict[str, str], resamples: int) -> None:
    lines = []
    for title, found in scores.items():
        columns = ["rule", "runs", "false alarms", *(f"caught: {drop}" for drop in found[0].caught)]
        lines += [f"**{title}**", "", f"| {' | '.join(columns)} |", "| --- |" + " ---: |" * (len(columns) - 1)]
        lines += [f"| {' | '.join(row)} |" for row in _rows(found, _wide)]
        lines.append("")
    rules = dict.fromkeys(each.rule for found in scores.values() for each in found)
    lines += [f"- {rule}: {about[rule]}" for rule in rules]
    typer.echo("\n".join([*lines, "", *_words(scores, resamples)]))
