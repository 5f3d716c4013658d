"""What kind of divergence a symptom and its likeliest cause make: its stage and its nature."""

from __future__ import annotations

import re

from rectest.divergence.case import ARITHMETIC, DATA, Case, Suspect
from rectest.divergence.causes import function_of
from rectest.divergence.pairs import is_integer
from rectest.divergence.sources import INTEGER_DRAWS, Fault
from rectest.divergence.tapes import Event

__all__ = ["nature_of", "stage_of", "step_of_stage"]

_EVALUATING = re.compile(
    r"eval|valid|test|log|metric|callback|monitor|predict|infer|report|print|^on_\w+_end$", re.IGNORECASE
)
_NEGATIVE = re.compile(r"(^|[^a-z])neg|negative|sampled|candidate|distract", re.IGNORECASE)
_UNLIKELY = 26.0
"""Suspects from this rank on do not say how a difference of arithmetic came about."""

_NATURES = {
    "generator": "other numbers",
    "seed": "other numbers",
    "entropy": "other numbers",
    "extra_draws": "other numbers",
    "hash_order": "other input",
    "listing": "other input",
    "queue": "other input",
    "file": "other input",
    "kernel": "other arithmetic",
}
_COMPUTED = {
    "init": "init",
    "weights": "optimizer",
    "forward": "forward",
    "loss": "loss",
    "local_gradient": "backward",
    "gradient": "backward",
    "reduce": "reduction",
    "optimizer": "optimizer",
    "parameter": "optimizer",
    "rng": "rng_evaluation",
}


def stage_of(case: Case, top: Suspect | None) -> str:
    """A key of `rectest.divergence.finding.STAGES` for the symptom of a case."""
    symptom = case.symptom
    if symptom is None:
        msg = "a case without a symptom has no stage"
        raise ValueError(msg)
    if symptom.kind == "rng" or (top is not None and _by_evaluation(case, top)):
        return "rng_evaluation"
    if top is not None and top.leftover is not None:
        return _of_leftover(case, top)
    if top is not None and top.setting:
        return "environment"
    if symptom.kind in DATA:
        return _of_data(case, top)
    if symptom.kind in ("forward", "loss") and _draws_ids(case, top):
        return "negatives"
    if symptom.kind == "init" and top is not None:
        return _of_init(case, top)
    return _of_computation(case)


def _by_evaluation(case: Case, top: Suspect) -> bool:
    """Whether evaluation or logging drew from the generator that training uses."""
    if top.cause.kind != "extra_draws" or top.fault is None or (case.symptom and case.symptom.evaluation):
        return False
    named = _EVALUATING.search(function_of(top.cause.site)) is not None
    return named or top.fault.event.phase == "eval" or _before_evaluation(case, top.fault)


def _before_evaluation(case: Case, fault: Fault) -> bool:
    """Whether the model is called next for evaluation: what is drawn there with gradients on prepares it."""
    events = case.tapes_of(fault.process)[fault.run].events[fault.place :]
    return next((event.phase == "eval" for event in events if event.kind in ("input", "forward")), False)


def _of_leftover(case: Case, top: Suspect) -> str:
    left = top.leftover
    if left is None or not left.written:
        return "data"
    data = case.symptom is not None and case.symptom.kind in DATA
    return "resume" if left.checkpoint or (left.maybe_checkpoint and not data) else "cache"


def _of_data(case: Case, top: Suspect | None) -> str:
    kind = top.cause.kind if top is not None else ""
    if case.overlap > 0.5 or kind == "queue":
        return "batch_order"
    if kind in ("listing", "file"):
        return "data"
    if kind == "hash_order" and case.at_start:
        return "id_map"
    return "negatives" if _only_negatives(case) else "batch"


def _only_negatives(case: Case) -> bool:
    """Whether some whole numbers of the step are equal, and what differs are others."""
    symptom = case.symptom
    if symptom is None or symptom.first is None or not symptom.equal_fields or not is_integer(symptom.first):
        return False
    negative = [name for name in symptom.names if _NEGATIVE.search(name)]
    if negative:
        return len(negative) == len(symptom.names)
    if any(_NEGATIVE.search(name) for name in symptom.equal_fields):
        return False
    return len(symptom.names) <= len(symptom.equal_fields)


def _draws_ids(case: Case, top: Suspect | None) -> bool:
    """Whether ids were drawn in the step itself: negatives that no batch and no argument shows."""
    symptom = case.symptom
    if symptom is None or top is None or top.at is None or top.cause.kind not in ("generator", "seed", "entropy"):
        return False
    within = top.at.step == symptom.step and (top.at.phase != "setup" or _goes_on(case, top.at))
    named = any(_NEGATIVE.search(function_of(site)) for site in (top.cause.site, top.cause.drawn_at))
    whole = named or top.at.name.rpartition(".")[2] in INTEGER_DRAWS  # a log-uniform law is drawn by inversion
    return within and top.at.kind == "draw" and whole


def _goes_on(case: Case, draw: Event) -> bool:
    """Whether a draw before the first forward comes again in later steps: it belongs to the step, not to the setup."""
    return any(event.site == draw.site and event.phase == "train" for event in case.tapes[0].of("draw"))


def _of_init(case: Case, top: Suspect) -> str:
    if top.cause.kind in ("listing", "file"):
        return "data"
    ids = any(is_integer(a) and a.digest != b.digest for a, b in _first_fields(case))
    return "id_map" if top.cause.kind == "hash_order" and ids else "init"


def _first_fields(case: Case) -> list[tuple[Event, Event]]:
    kinds = ("batch", "input")
    return [pair for kind in kinds for pair in zip(*case.pair.events(1, kind), strict=False)]


def _of_computation(case: Case) -> str:
    symptom = case.symptom
    if symptom is None:
        return ""
    if symptom.kind == "gradient" and any(case.pair.events(symptom.step, "local_gradient")):
        return "reduction"
    if symptom.kind == "reduce" and symptom.first is not None and symptom.second is not None:
        same_part = symptom.first.info.get("input") == symptom.second.info.get("input")
        return "reduction" if same_part else "backward"
    return _COMPUTED[symptom.kind]


def nature_of(case: Case, top: Suspect | None, stage: str) -> str:
    """One of `rectest.divergence.finding.NATURES`."""
    symptom = case.symptom
    if stage == "environment":
        return "other settings"
    arithmetic = symptom is not None and symptom.kind in ARITHMETIC
    if symptom is not None and symptom.kind == "optimizer" and symptom.names == ("settings",) and top is None:
        return "other settings"
    if symptom is not None and symptom.kind == "rng":
        return "other numbers"
    if top is None or (arithmetic and top.rank >= _UNLIKELY):
        return "other arithmetic" if arithmetic else "other input"
    return _NATURES.get(top.cause.kind, "other arithmetic" if arithmetic else "other settings")


def step_of_stage(case: Case, stage: str) -> int:
    """The step to tell: 0 for what happened before training."""
    symptom = case.symptom
    if symptom is None or (stage in ("id_map", "init") and symptom.step <= 1):
        return 0
    return symptom.step
