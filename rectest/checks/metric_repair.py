"""The smallest changes that make an impossible metric table possible, proposed and never applied.

Five kinds of slip are tried: one cell (percent read as fraction, two digits turned round, one digit mistyped, or
simply another value), two cells swapped, a column that slipped by one or more cut-offs, and two columns under each
other's name. A change is proposed only if every rule then holds in every table it was made in, and the number of tries
is bounded, so the search ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations, groupby, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.metrics.coherence import coherence_violations, constraints
from rectest.metrics.measure import Measure
from rectest.metrics.possible import possible_interval

__all__ = ["MAX_TRIES", "Repair", "Rules", "repairs", "repairs_of_all"]

MAX_TRIES = 6_000
"""Tables that one search may judge: a few seconds at about a millisecond for a table of 30 cells."""

Floats = npt.NDArray[np.float64]
Table = Mapping[str, float]

_FLOAT_SLACK = 2e-9
"""More than `rectest.metrics` grants, so that a table passed over here is broken there as well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What is known of a table, as `coherence_violations` takes it."""

    single_relevant: bool
    num_users: int | None = None
    decimals: Mapping[str, int] | None = None
    relevant_per_user: int | None = None
    ties: bool = False

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the functions of `rectest.metrics`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def moved(self, sources: Mapping[str, str]) -> Rules:
        """The rules of a table in which the cell ``new`` holds what was printed in ``sources[new]``."""
        if self.decimals is None:
            return self
        digits = {new: self.decimals[old] for new, old in sources.items() if old in self.decimals}
        return Rules(**{**self.arguments(), "decimals": digits})


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair:
    """One change that makes the tables possible."""

    kind: str
    """percent, transposed, digit, cell, swap, shift or names."""

    text: str
    """The change in words."""

    changed: tuple[str, ...]
    """The cells that it touches."""

    table: Mapping[str, float]
    """The repaired table; a cell whose value is not known is missing here."""

    unknown: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Cells that were lost, with the interval that the others leave for each."""

    def cells(self) -> dict[str, str]:
        """The repaired table as text: values, and intervals in brackets."""
        texts = {name: f"{value:.6g}" for name, value in self.table.items()}
        texts |= {name: f"[{low:.4g}, {high:.4g}]" for name, (low, high) in self.unknown.items()}
        return {name: texts[name] for name in sorted(texts, key=Measure.parse)}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Move:
    """A rearrangement: which printed cell each cell of the repaired table is taken from."""

    kind: str
    text: str
    sources: Mapping[str, str]
    changed: tuple[str, ...]
    lost: tuple[str, ...] = ()


class _Budget:
    def __init__(self, tries: int) -> None:
        self.left = tries

    def spend(self, num: int = 1) -> bool:
        self.left -= num
        return self.left >= 0


def repairs(table: Table, rules: Rules, *, max_tries: int = MAX_TRIES) -> list[Repair]:
    """Every single slip that explains an impossible table, fewest changed cells first; none for a possible one.

    >>> recall = {"recall@5": 0.7803, "recall@10": 0.8915, "recall@20": 0.9618, "recall@50": 0.9618}
    >>> ndcg = {"ndcg@5": 0.7063, "ndcg@10": 0.7244, "ndcg@20": 0.7384, "ndcg@50": 0.7524}
    >>> rules = Rules(single_relevant=True, decimals=dict.fromkeys(recall | ndcg, 4))
    >>> [repair.text for repair in repairs(recall | ndcg, rules)]
    ['recall slipped by one cut-off from recall@10 on: 0.8915 belongs to recall@20, 0.9618 belongs to recall@50']
    """
    return repairs_of_all([table], [rules], max_tries=max_tries)


def repairs_of_all(tables: Sequence[Table], rules: Sequence[Rules], *, max_tries: int = MAX_TRIES) -> list[Repair]:
    """The same for tables with the same cells, such as the rows of a file: one slip must explain all of them.

    Single cells are tried only where one table alone is given. The table of a repair is the first one, repaired.
    """
    if not tables or not any(_broken(table, own) for table, own in zip(tables, rules, strict=True)):
        return []
    budget = _Budget(max_tries)
    found = list(_cells(tables[0], rules[0], budget)) if len(tables) == 1 else []
    for move in _moves(tables[0]):
        if not budget.spend(len(tables)):
            break
        pairs = list(zip(tables, rules, strict=True))
        if all(not _broken(_moved(table, move), own.moved(move.sources)) for table, own in pairs):
            found.extend(_with_intervals(tables[0], rules[0], move))
    order = ("percent", "transposed", "digit", "cell", "swap", "shift", "names")
    return sorted(found, key=lambda repair: (len(repair.changed), order.index(repair.kind)))


def _broken(table: Table, rules: Rules) -> bool:
    """Whether a rule fails: the linear ones at once, and all of them only where these hold."""
    if not table:
        return False
    names = tuple(table)
    relevant = 1 if rules.single_relevant else rules.relevant_per_user
    weights, reach, constant = _linear(names, relevant, rules.ties)
    values = np.array([table[name] for name in names])
    digits = rules.decimals or {}
    slack = np.array([_FLOAT_SLACK + (0.5 * 10.0 ** -digits[name] if name in digits else 0.0) for name in names])
    if not np.isfinite(values).all() or (weights @ values + constant + reach @ slack < -_FLOAT_SLACK).any():
        return True
    return bool(coherence_violations(table, **rules.arguments()))


@lru_cache(maxsize=256)
def _linear(names: tuple[str, ...], num_relevant: int | None, ties: bool) -> tuple[Floats, Floats, Floats]:
    """Weights [R, M], their absolute values, and constants [R] of every linear rule for a table with these cells."""
    measures = [Measure.parse(name) for name in names]
    rules = list(constraints(measures, num_relevant=num_relevant, ties=ties))
    weights = np.array([[rule.weights.get(measure, 0.0) for measure in measures] for rule in rules])
    return weights, np.abs(weights), np.array([rule.constant for rule in rules])


def _moved(table: Table, move: _Move) -> dict[str, float]:
    return {new: table[old] for new, old in move.sources.items()}


def _with_intervals(table: Table, rules: Rules, move: _Move) -> Iterator[Repair]:
    moved, own = _moved(table, move), rules.moved(move.sources)
    unknown = {}
    for name in move.lost:
        interval = possible_interval(moved, name, **own.arguments())
        if interval is None:
            return
        unknown[name] = interval
    yield Repair(kind=move.kind, text=move.text, changed=move.changed, table=moved, unknown=unknown)


def _cells(table: Table, rules: Rules, budget: _Budget) -> Iterator[Repair]:
    """Changes of one cell: by name where a slip explains it, and otherwise the interval that it must lie in."""
    for name, value in table.items():
        if not budget.spend(2):
            return
        interval = possible_interval(table, name, **rules.arguments())
        if interval is None:
            continue
        others = {key: other for key, other in table.items() if key != name}
        slips = _slips(value, (rules.decimals or {}).get(name))
        low, high = interval
        half = 0.5 * 10.0 ** -(rules.decimals or {}).get(name, 12)
        near = [slip for slip in slips if low - half <= slip[1] <= high + half]
        named = [slip for slip in near if budget.spend() and not _broken({**others, name: slip[1]}, rules)]
        for kind, new in named:
            text = f"{name} = {value:.6g} {_SLIP[kind]} {new:.6g}"
            yield Repair(kind=kind, text=text, changed=(name,), table={**others, name: new})
        if not any(kind == "percent" for kind, _ in named):
            text = f"{name} = {value:.6g} is wrong, and {low:.4g} to {high:.4g} is possible"
            yield Repair(kind="cell", text=text, changed=(name,), table=others, unknown={name: interval})


_SLIP = {
    "percent": "has another unit than the rest and is",
    "transposed": "has two digits turned round and is",
    "digit": "has one digit mistyped and may be",
}


def _slips(value: float, digits: int | None) -> list[tuple[str, float]]:
    """Other readings of a printed number: by kind, the kinds that are likeliest first."""
    if value != value or abs(value) == float("inf"):
        return []
    found = [("percent", value / 100)] if value > 1 else [("percent", value * 100)] if 0 < value <= 1 else []
    if digits is None or digits > 8:
        return found
    text = f"{value:.{digits}f}"
    places = [i for i, character in enumerate(text) if character.isdigit()]
    turned = {text[:i] + text[j] + text[i + 1 : j] + text[i] + text[j + 1 :] for i, j in pairwise(places)}
    found += [("transposed", float(one)) for one in sorted(turned - {text})]
    typed = {text[:i] + digit + text[i + 1 :] for i in places for digit in "0123456789"}
    return found + [("digit", float(one)) for one in sorted(typed - turned - {text})]


def _moves(table: Table) -> Iterator[_Move]:
    yield from _swaps(table)
    families = [list(group) for _, group in groupby(sorted(map(Measure.parse, table)), key=lambda m: m.name)]
    for family in families:
        yield from _shifts(table, family)
    for first, second in combinations(families, 2):
        yield from _names(table, first, second)


def _swaps(table: Table) -> Iterator[_Move]:
    same = {name: name for name in table}
    for one, other in combinations(sorted(table, key=Measure.parse), 2):
        if table[one] != table[other]:
            text = f"{one} = {table[one]:.6g} and {other} = {table[other]:.6g} are swapped"
            yield _Move(kind="swap", text=text, sources=same | {one: other, other: one}, changed=(one, other))


def _shifts(table: Table, family: Sequence[Measure]) -> Iterator[_Move]:
    """Cells from one cut-off on belong one or more cut-offs further, or one or more before."""
    names = [str(measure) for measure in family if measure.k is not None]
    rest = {name: name for name in table if name not in names}
    for by in range(1, len(names) - 1):
        for start in range(len(names) - by):
            later = {names[i + by]: names[i] for i in range(start, len(names) - by)}
            kept = {name: name for name in names[:start]}
            yield _shift(table, names, rest | kept | later, by=by, start=start, later=later)
            earlier = {names[i]: names[i + by] for i in range(start, len(names) - by)}
            yield _shift(table, names, rest | kept | earlier, by=-by, start=start, later=earlier)


def _shift(
    table: Table, names: Sequence[str], sources: Mapping[str, str], *, by: int, start: int, later: Mapping[str, str]
) -> _Move:
    family = names[0].partition("@")[0]
    how = f"slipped by {_NUMBER.get(abs(by), str(abs(by)))} cut-off{'s' if abs(by) > 1 else ''}"
    lost = tuple(name for name in names if name not in sources)
    belongs = ", ".join(f"{table[old]:.6g} belongs to {new}" for new, old in later.items())
    return _Move(
        kind="shift",
        text=f"{family} {how} from {names[start + max(0, -by)]} on: {belongs}",
        sources=sources,
        changed=(*later, *lost),
        lost=lost,
    )


_NUMBER = {1: "one", 2: "two", 3: "three"}


def _names(table: Table, first: Sequence[Measure], second: Sequence[Measure]) -> Iterator[_Move]:
    common = sorted({m.k for m in first} & {m.k for m in second}, key=lambda k: k or 0)
    if len(common) < 2:
        return
    sources = {name: name for name in table}
    changed = []
    for k in common:
        one, other = str(Measure(first[0].name, k)), str(Measure(second[0].name, k))
        sources |= {one: other, other: one}
        changed += [one, other]
    text = f"{first[0].name} and {second[0].name} stand under each other's name"
    yield _Move(kind="names", text=text, sources=sources, changed=tuple(changed))
