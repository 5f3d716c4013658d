"""What to do next after each verdict of a gate: the way to the cause, and what a person has to decide.

Words only, and the same for every system; what is special about a case stands in the advice of its own result. A line
that begins with ``$`` is a command.
"""

from __future__ import annotations

from collections.abc import Iterator

from rectest.checks.result import CheckResult, Verdict

__all__ = ["next_steps"]

_SAME = (
    "Running it again trains the same seeds (a nightly gate: those of the day) and says the same. A training that "
    "crashed or hung is no verdict: it has an exit code of its own, and may be repeated."
)
_CAUSE = ("Find out whether code, environment, data or seed did it:", "$ rectest attribute {system}")
_ACCEPT = (
    "If it is meant, let candidates be trained, look at them, and accept them with a reason:",
    "$ pytest -m gate --rectest-candidates=candidates",
    "$ rectest baseline diff candidates",
    '$ rectest baseline accept candidates --reason "why the numbers may change"',
)
_RECORD = '$ rectest baseline record {system} --seeds 16 --reason "why"'

_STEPS: dict[Verdict, tuple[str, ...]] = {
    Verdict.PASS: ("Nothing.",),
    Verdict.FAIL: (*_CAUSE, _SAME, *_ACCEPT),
    Verdict.CHANGED: (
        "Look at what changed: the first stage or step that differs is named above. Quality is not worse by as much as "
        "the gate promises to see, so this asks for a decision and not for a repair.",
        *_CAUSE,
        *_ACCEPT,
    ),
    Verdict.SUSPICIOUS: (
        "Distrust it first: look for held-out items in training, for another evaluation (candidates, seen items, ties) "
        "and for other data. The checks leak, coherence and purity look for the usual ones.",
        *_CAUSE,
        *_ACCEPT,
    ),
    Verdict.CHANCE: (
        "The model ranks like dice: look whether what is evaluated is what was trained, whether gradients reach the "
        "tables, and whether the ids of training and evaluation agree.",
        *_CAUSE,
        "Such numbers are not accepted: a baseline at chance guards nothing.",
    ),
    Verdict.UNDECIDED: (
        "Train further seeds. The gate does so by itself up to its most runs; a report that ends here was cut short:",
        "$ pytest -m gate --rectest-gate-seeds=5",
    ),
    Verdict.UNCALIBRATED: (
        "Record a baseline on this kind of machine; numbers of another kind say nothing about it and are never "
        "borrowed:",
        _RECORD,
    ),
    Verdict.NOT_MEASURED: ("Mend what could not be looked at: what was not measured is not green.", _SAME),
}


def next_steps(
    result: CheckResult, name: str, *, level: str = "", compared: bool = True, weak: bool = False
) -> Iterator[str]:
    """What to do after a verdict, the next step first.

    Args:
        result: What carries the verdict.
        name: ``system`` or ``system@world``.
        level: Which level decided, where one did.
        compared: Whether values could be held against stored ones at all.
        weak: Whether so few seeds are stored that only large drops are caught.
    """
    system, _, world = name.partition("@")
    target = f"{system} --world {world}" if world else system
    steps = _STEPS[result.verdict]
    if result.verdict is Verdict.FAIL and not compared:
        steps = (_SAME,)
    elif result.verdict is Verdict.FAIL and level == "L0":
        steps = (*_CAUSE, _SAME)
    # What people can do about a change that was judged is told below, at more length.
    if result.advice and not result.advice.startswith("if intended"):
        yield f"{result.advice[0].upper()}{result.advice[1:]}."
    for step in steps:
        yield step.format(system=target)
    if weak:
        yield "The baseline is WEAK: with so few seeds only large drops are caught. Record more:"
        yield _RECORD.format(system=target)
