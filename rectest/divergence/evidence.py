"""The sentences that show a divergence: what was equal up to there, what differs, and what the generators say."""

from __future__ import annotations

from rectest.divergence.align import Symptom
from rectest.divergence.case import ARITHMETIC, Case, Suspect
from rectest.divergence.causes import generator_text
from rectest.divergence.inside.tape import TABLES
from rectest.divergence.pairs import Pair
from rectest.divergence.sources import POPULATION, Fault

__all__ = ["evidence_of"]

_NOUNS = {
    "init": "initial tensors",
    "local_gradient": "local gradients",
    "gradient": "gradients",
    "optimizer": "parameters' optimizer states",
    "parameter": "parameters",
    "weights": "parameters, changed outside of the optimizer's step,",
    "batch": "fields of the batch",
    "input": "arguments of the model",
}


def evidence_of(case: Case, top: Suspect | None, pairs: list[Pair]) -> tuple[str, ...]:
    """Two to six sentences."""
    symptom = case.symptom
    if symptom is None:
        return ()
    said = [_before(case, symptom), _what(symptom)]
    if symptom.equal_fields:
        said.append(f"{', '.join(symptom.equal_fields[:4])} of the same step {_are(len(symptom.equal_fields))} equal")
    if case.overlap > 0.5:
        said.append(f"{case.overlap:.0%} of the batches come in both runs, in another order")
    said.append(_numbers(case, symptom, top))
    said.append(_ranks(symptom, pairs))
    return tuple(sentence for sentence in said if sentence)


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _before(case: Case, symptom: Symptom) -> str:
    if symptom.evaluation:
        return f"training is identical in all {min(case.pair.num_steps)} common steps; evaluation is not"
    if symptom.step == 0:
        return "the model's tensors differ before the first step"
    equal = []
    if any(case.pair.events(0, "init")):
        equal.append("the initial tensors")
    if symptom.step > 1:
        equal.append("step 1" if symptom.step == 2 else f"steps 1 to {symptom.step - 1}")
    last = case.tapes[0].events[symptom.since[0]] if symptom.since[0] >= 0 else None
    if last is not None and last.step == symptom.step:
        equal.append(f"step {symptom.step} up to {last.kind.replace('_', ' ')} {last.name}")
    return f"equal in both runs: {', '.join(equal)}" if equal else "the runs differ from the first event on"


def _what(symptom: Symptom) -> str:
    where = f"at step {symptom.step}" if symptom.step else "before training"
    if symptom.evaluation:
        where = f"in the evaluation at step {symptom.step}"
    if symptom.one_sided or symptom.first is None or symptom.second is None:
        run, event = ("first", symptom.first) if symptom.first is not None else ("second", symptom.second)
        name = f"{event.kind} {event.name}" if event else symptom.name
        return f"{where}: the {run} run goes on with {name}, the other does not"
    kind = symptom.kind
    if kind in TABLES or symptom.num_names > 1:
        noun = _NOUNS.get(kind, "tensors")
        return f"{where}: {len(symptom.names)} of {symptom.num_names} {noun} differ, first {symptom.names[0]}"
    one, two = symptom.first, symptom.second
    values = one.info.get("value"), two.info.get("value")
    shown = values if None not in values else (one.digest[:8], two.digest[:8])
    what = symptom.name if symptom.name == kind else f"{kind.replace('_', ' ')} {symptom.name}"
    return f"{where}: {what} differs: {shown[0]} and {shown[1]}"


def _numbers(case: Case, symptom: Symptom, top: Suspect | None) -> str:
    """What the generators say: other numbers, or the same."""
    if top is not None and top.fault is not None and top.at is not None:
        name = generator_text(top.fault.generator)
        return f"{top.at.name} at {top.at.site or 'an unknown line'} drew from {name} in another state"
    population = next((fault for fault in case.faults if fault.kind == POPULATION), None)
    if population is not None and symptom.kind not in ARITHMETIC:
        return _population(population)
    if symptom.kind in ARITHMETIC and any(True for _ in case.tapes[0].of("draw", "seed")):
        draws = any(f.uses and f.process == symptom.process for f in case.faults if f.kind != POPULATION)
        return "" if draws else "no generator differs before it: the same numbers, computed differently"
    return ""


def _population(fault: Fault) -> str:
    event = fault.event
    what = "drew from an equal state and got another result: what it draws from differs"
    return f"{event.name} at {event.site} {what}"


def _ranks(symptom: Symptom, pairs: list[Pair]) -> str:
    others = [pair.process for pair in pairs if pair.process != symptom.process]
    if not others:
        return ""
    return (
        f"seen first in {symptom.process}; {', '.join(others[:3])} {'differs' if len(others) == 1 else 'differ'} later"
    )
