"""What made a gate red: code, environment, data or seeds, from runs of two commits in this environment.

    base    the commit that the change started from, trained here and now
    tree    the working tree, trained on the same seeds: red, or there is nothing to attribute
    fresh   the working tree on seeds that the baseline has never seen

Stored baseline against base: the code is the same, so that what differs came with the environment. Base against tree:
the environment is the same, so that what differs came with the code. Digests of the world tell data from both. Where
the code of the base is not the code of the recording, or a training does not repeat itself, less can be said, and it
is said. Nothing is trained here and no commit is looked at; how two runs of a seed differ is in `apart`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from rectest.baseline.apart import Apart, Pair, pair_of
from rectest.baseline.gating import Judged
from rectest.baseline.judge import EXACT, world_digest
from rectest.baseline.looks import ALPHA_DROP, ALPHA_RISE
from rectest.baseline.schema import Baseline
from rectest.baseline.sidecar import Sidecar
from rectest.checks.result import CheckResult, Verdict
from rectest.record import RunRecord

__all__ = ["Attribution", "Case", "Cause", "Side", "attribute", "nothing_red"]


class Cause(StrEnum):
    """What made a gate red."""

    NOTHING = "nothing"
    """The gate is green."""

    CODE = "code"
    ENVIRONMENT = "environment"
    DATA = "data"
    SEED = "seed"
    """A false alarm: the seeds are to blame, not what is trained."""

    UNDECIDED = "undecided"


_BY_NOISE = (Verdict.FAIL, Verdict.SUSPICIOUS, Verdict.CHANCE)
"""Red verdicts that other seeds could have spared; the others are about bits, or about what could not be judged."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """The runs of one commit and what the gate says of them."""

    records: Sequence[RunRecord]
    judged: Judged

    @property
    def head(self) -> CheckResult:
        """The verdict of the gate in words."""
        return self.judged.results[0]

    @property
    def green(self) -> bool:
        """Whether the gate lets it pass."""
        return self.head.verdict is Verdict.PASS

    @property
    def stored_bits(self) -> bool:
        """Whether the runs gave the very bits that are stored."""
        exact = [result for result in self.judged.results if result.check == EXACT]
        return bool(exact) and all(result.verdict is Verdict.PASS for result in exact)

    @property
    def world(self) -> str:
        """Digest of the data."""
        return world_digest(self.records[0])

    def told(self) -> str:
        """Verdict and figure in one line."""
        return f"{self.head.verdict}: {self.head.figure}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that is known when a cause is looked for; what is not trained yet is None."""

    baseline: Baseline
    sidecar: Sidecar | None
    tree: Side
    base: Side
    same_code: bool
    """Whether the code of the base commit is the code that the baseline was recorded with."""

    repeat: RunRecord | None = None
    """The first run of the base commit once more."""

    fresh: Side | None = None

    @cached_property
    def pair(self) -> Pair:
        """Base and tree on the seeds that both trained."""
        return pair_of(self.base.records, self.tree.records, self.baseline, self.sidecar)

    @property
    def same_data(self) -> bool:
        """Whether recording, base and tree all had the same data."""
        return self.baseline.world_digest == self.base.world == self.tree.world

    @property
    def known_environment(self) -> bool:
        """Whether bits of this environment are stored."""
        return self.base.records[0].environment.fingerprint in self.baseline.exact

    @property
    def wants_repeat(self) -> bool:
        """Whether the base must be trained once more: a difference of bits says nothing where bits never repeat."""
        return not self.tree.green and (self.pair.apart is not Apart.EQUAL or self.known_environment)

    @property
    def wants_fresh(self) -> bool:
        """Whether fresh seeds of the tree can tell a false alarm from a cause."""
        close = self.pair.apart is not Apart.BEYOND
        return self.same_data and close and self.tree.head.verdict in _BY_NOISE

    @property
    def repeats(self) -> bool:
        """Whether the base gave the same bits twice, as far as that was tried."""
        if self.repeat is None:
            return True
        first = next(record for record in self.base.records if record.spec.seed == self.repeat.spec.seed)
        return first.digest() == self.repeat.digest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribution:
    """The answer, with all it rests on."""

    name: str
    """``system`` or ``system@world``."""

    causes: tuple[Cause, ...]
    """Several where several are shown to be at work."""

    figure: str
    evidence: tuple[str, ...] = ()
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "causes": [str(cause) for cause in self.causes], "evidence": list(self.evidence)}


def attribute(case: Case) -> Attribution:
    """The cause of a red gate, as far as the runs show it."""
    if case.tree.green:
        return nothing_red(case.baseline.name, case.tree)
    if not case.same_data:
        causes, figure = _other_data(case)
    elif case.pair.apart is Apart.BEYOND:
        causes, figure = _tree_moved(case)
    elif case.base.green:
        causes, figure = _hardly_moved(case)
    else:
        causes, figure = _both_moved(case)
    return Attribution(
        name=case.baseline.name,
        causes=causes,
        figure=figure,
        evidence=tuple(_evidence(case)),
        advice=_ADVICE[causes[0]] if len(causes) == 1 else _SEVERAL,
    )


def nothing_red(name: str, tree: Side) -> Attribution:
    """The answer where the gate of the working tree is green; the base need not be trained for it."""
    return Attribution(
        name=name,
        causes=(Cause.NOTHING,),
        figure="the gate of the working tree is green here: nothing to attribute",
        evidence=(f"tree here  {tree.told()}",),
    )


Answer = tuple[tuple[Cause, ...], str]


def _other_data(case: Case) -> Answer:
    stored, base, tree = case.baseline.world_digest, case.base.world, case.tree.world
    if stored == tree:
        figure = "the base commit trains on other data than the baseline and the working tree, so it is no control"
        return (Cause.UNDECIDED,), f"{figure}; choose one that trains on the stored data"
    moved: tuple[Cause, ...] = (Cause.DATA,)
    if stored == base:
        figure = "the data changed with the working tree: the base commit still has the stored data"
        rest = "; whether the code changed as well cannot be seen on other data"
        if not case.base.green:
            return (*moved, *_of_base(case)), f"{figure}, and yet the base is red here too{rest}"
        return moved, figure + rest
    if base != tree:
        return moved, "the data moved under both commits, and again with the working tree; nothing else is comparable"
    figure = "the data moved under both commits: neither has the data that the baseline was recorded on"
    if case.pair.apart is Apart.BEYOND and case.repeats:
        return (*moved, Cause.CODE), f"{figure}; on the new data the commits differ as well"
    return moved, figure


def _tree_moved(case: Case) -> Answer:
    """The commits differ beyond rounding, on the same data in the same environment."""
    if not case.repeats:
        if case.base.green and case.tree.head.verdict in _BY_NOISE:
            return (Cause.CODE,), (
                "the base commit is green here and the working tree is not; the training does not repeat itself, so "
                "that this rests on the statistics of the gate alone"
            )
        return (Cause.UNDECIDED,), "the base commit does not repeat itself: two runs of one seed differ by themselves"
    if case.base.green:
        return (Cause.CODE,), "the base commit agrees with the baseline here, the working tree does not"
    earlier = _of_base(case)
    if not earlier:
        return (Cause.CODE,), (
            "the working tree differs from the base commit, and that one from the baseline, in the environment of the "
            "recording: code changed before the base as well"
        )
    return (*earlier, Cause.CODE), (
        "the base commit already differs from the baseline here, and the working tree differs from the base"
    )


def _hardly_moved(case: Case) -> Answer:
    """The base is green, the tree is red, and at most rounding lies between them."""
    if case.pair.apart is Apart.ROUNDING and case.tree.head.verdict is Verdict.CHANGED:
        return (Cause.CODE,), "the code computes the same with another rounding; nothing else differs"
    if case.fresh is not None and case.fresh.green:
        return (Cause.SEED,), "rounding tipped the stored seeds over a limit; on fresh seeds the gate is green"
    return (Cause.UNDECIDED,), (
        f"base and working tree are {case.pair.apart}, and yet the gate is green for one and red for the other"
    )


def _both_moved(case: Case) -> Answer:
    """Base and tree agree with each other and not with the baseline."""
    if case.base.stored_bits:
        return (Cause.SEED,), "every bit is the stored one: the baseline's own first seeds lie outside its other seeds"
    if case.fresh is not None and case.fresh.green:
        chance = f"{100 * (ALPHA_DROP + ALPHA_RISE):.2g} %"
        return (Cause.SEED,), (
            f"both commits agree, and on fresh seeds the gate is green: a false alarm, whose declared rate is {chance}"
        )
    if not case.repeats:
        return (Cause.UNDECIDED,), "the training does not repeat itself: two runs of one seed differ by themselves"
    if not _of_base(case):
        return (Cause.UNDECIDED,), (
            "both commits agree with each other and not with the baseline, in the environment of the recording: code "
            "that changed before the base, or something of the environment that its fingerprint does not hold"
        )
    figure = "both commits agree with each other and not with the baseline"
    if case.same_code:
        return (Cause.ENVIRONMENT,), f"{figure}, whose code is that of the base: the environment moved"
    return (Cause.ENVIRONMENT,), f"{figure}: the environment moved, unless code did before the base"


def _of_base(case: Case) -> tuple[Cause, ...]:
    """What can have moved a base that differs from the baseline; nothing certain where only its code can have."""
    return (Cause.ENVIRONMENT,) if case.same_code or not case.known_environment else ()


def _evidence(case: Case) -> list[str]:
    lines = [_environment(case), _data(case)]
    lines.append(f"base here  {case.base.told()}")
    lines.append(f"tree here  {case.tree.told()}")
    lines += [f"base and tree  {line}" for line in case.pair.lines]
    if case.repeat is not None:
        told = "repeats itself bit for bit" if case.repeats else "gave other bits the second time"
        lines.append(f"base again  seed {case.repeat.spec.seed} {told}")
    if case.fresh is not None:
        seeds = [record.spec.seed for record in case.fresh.records]
        lines.append(f"fresh seeds  {', '.join(map(str, seeds))}: {case.fresh.told()}")
        if case.fresh.green and case.fresh.head.detail:
            lines.append(f"fresh seeds  {case.fresh.head.detail}")
    return lines


def _environment(case: Case) -> str:
    here = case.base.records[0].environment
    if case.known_environment:
        return f"environment  that of the recording in every field ({here.fingerprint})"
    stored = [entry.described() for entry in case.baseline.exact.values()]
    nearest = min(stored, key=lambda known: len(known.differences(here)))
    parts = [f"{key} {old!r} -> {new!r}" for key, (old, new) in sorted(nearest.differences(here).items())]
    return f"environment  not that of the recording: {', '.join(parts)}"


def _data(case: Case) -> str:
    stored, base, tree = case.baseline.world_digest, case.base.world, case.tree.world
    if not (stored or base or tree):
        return "data  the training names no digest of its world: a change of data looks like a change of code here"
    if case.same_data:
        return f"data  the same in baseline, base and tree ({stored})"
    return f"data  baseline {stored or 'unnamed'}, base {base or 'unnamed'}, tree {tree or 'unnamed'}"


_ADVICE = {
    Cause.CODE: "look at the files that changed; they are candidates, not proof. If the change is intended: rectest "
    "baseline accept",
    Cause.ENVIRONMENT: "pin what changed in the environment, or record the baseline anew in this one",
    Cause.DATA: "restore the data, or record the baseline anew on the new data with a reason",
    Cause.SEED: "leave code and baseline as they are; if it comes again, record the baseline anew with more seeds",
    Cause.UNDECIDED: "choose another --base, best the commit that the baseline was recorded with",
}
_SEVERAL = "take the causes one at a time, the first one first; what is left is seen better then"
