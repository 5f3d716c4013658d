"""Learning: every part of the model must move, be optimized and get better, and train loss must not replace ranking.

Report 001 trained a frozen branch for a night and called the result overfitting. The facts that tell the two apart
are in the record: how far each parameter moved and who holds it, the loss of each branch, and whether the ranking was
ever better than chance. How well a system ranks is judged by `chance.py` and by its baseline, not here; the claim of
overfitting has a file of its own, `overfitting.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rectest.checks.overfitting import overfitting
from rectest.checks.result import CheckResult, Verdict, count_of, judged, not_measured, sample
from rectest.checks.tolerance import ALPHA
from rectest.checks.trend import fall_of
from rectest.record import RunRecord

__all__ = ["learning", "rounding"]

Parameters = Mapping[str, Mapping[str, Any]]


def learning(
    record: RunRecord, *, alpha: float = ALPHA, max_parameters_per_user: float | None = None
) -> list[CheckResult]:
    """Whether everything that should learn did.

    - ``learning/moved``: every parameter moved by more than rounding (`rounding`), also one that ended frozen: what
      is never to be trained is a buffer, not a parameter.
    - ``learning/optimized``: every trainable parameter is held by the optimizer.
    - ``learning/branch``: each promised branch moved, and its loss fell by more than noise (`fall_of`).
    - ``learning/loss_falls``: the training loss did. Where training has stages, the total may change its meaning;
      then every component must fall instead.
    - ``learning/overfitting``: see `overfitting`.
    - ``learning/parameters_per_user``: a figure, red only beyond a declared `max_parameters_per_user`.

    Args:
        alpha: false-alarm rate of each statistical result on a run that learns nothing.
        max_parameters_per_user: trainable parameters for one training user that are too many; None only reports them.
    """
    subject = record.spec.system
    facts = record.facts.get("parameters") or {}
    named: Parameters = facts.get("named") or {}
    results = [*_of_parameters(record, named), *_branches(record, named, alpha=alpha)]
    results += [_loss_falls(record, alpha=alpha), overfitting(record, alpha=alpha)]
    return [*results, _per_user(subject, facts, record.facts.get("inputs") or {}, limit=max_parameters_per_user)]


def rounding(num_steps: int) -> float:
    """How far float32 parameters can move, relative to their length, in steps that change nothing but roundings.

    Writing a value back after another order of operations rounds it by at most half a unit in the last place, 2^-24 of
    its size, and so does each of `num_steps` such steps.

    >>> rounding(1000) < 1e-4
    True
    """
    return max(1, num_steps) * 2.0**-24


def _of_parameters(record: RunRecord, named: Parameters) -> list[CheckResult]:
    subject = record.spec.system
    if not named:
        advice = "train it as a rectest.System, whose parameters the loop follows"
        missing = "the record does not say which parameters the model has"
        return [not_measured(check, subject, missing, advice=advice) for check in ("learning/moved", OPTIMIZED)]
    return [_moved(record, named), _optimized(subject, named)]


OPTIMIZED = "learning/optimized"


def _num_steps(record: RunRecord) -> int:
    return int(record["loss/total"].size) if "loss/total" in record else 1


def _still(named: Parameters, limit: float) -> list[str]:
    """Names of parameters that did not move; an absent or broken distance is no movement."""
    return [name for name, facts in named.items() if not float(facts.get("moved", math.nan)) > limit]


def _moved(record: RunRecord, named: Parameters) -> CheckResult:
    limit = rounding(_num_steps(record))
    still = _still(named, limit)
    frozen = [name for name in still if not named[name].get("trainable")]
    idle = [name for name in still if name not in frozen]
    places = [f"trainable: {sample(idle)}"] if idle else []
    places += [f"frozen: {sample(frozen)}"] if frozen else []
    least = min(named, key=lambda name: _distance(named[name]))
    return judged(
        "learning/moved",
        record.spec.system,
        ok=not still,
        figure=count_of(len(still), len(named), "parameters never moved"),
        expected="every parameter of the model learns",
        limit=f"moved by > {limit:.2g} of its length, what rounding can do in {_num_steps(record)} steps",
        worst=f"{least} moved by {named[least].get('moved')}",
        outside="; ".join(places),
        detail=_why_still(frozen, idle),
        advice="follow requires_grad, the optimizer's groups and detach(); register as a buffer what is never trained",
    )


def _distance(facts: Mapping[str, Any]) -> float:
    moved = float(facts.get("moved", math.nan))
    return -1.0 if math.isnan(moved) else moved


def _why_still(frozen: list[str], idle: list[str]) -> str:
    if frozen:
        return "a stage froze them and none gave them back: what they feed into the score is what they were drawn as"
    return "they have no gradient, or no optimizer: they stay as they were drawn" if idle else ""


def _optimized(subject: str, named: Parameters) -> CheckResult:
    trainable = [name for name, facts in named.items() if facts.get("trainable")]
    missed = [name for name in trainable if not named[name].get("optimized")]
    ok = bool(trainable) and not missed
    why = "gradients are computed for them and thrown away; loss weights among them stay at their start for ever"
    return judged(
        OPTIMIZED,
        subject,
        ok=ok,
        figure=count_of(len(missed), len(trainable), "trainable parameters are in no optimizer")
        if trainable
        else "the model ended with no trainable parameter at all",
        expected="the optimizer holds every trainable parameter",
        limit="0, and some trainable parameters",
        worst=missed[0] if missed else "",
        outside=sample(missed),
        detail="" if ok else why,
        advice="pass every module that has parameters, the loss included, to make_optimizer",
    )


def _branches(record: RunRecord, named: Parameters, *, alpha: float) -> list[CheckResult]:
    promised = record.facts.get("branches")
    if promised is None:
        missing = "the record does not say which branches must learn"
        advice = "train it as a rectest.System; System.branches may be empty"
        return [not_measured("learning/branch", record.spec.system, missing, advice=advice)]
    return [_branch(record, named, name, branch, alpha=alpha) for name, branch in sorted(promised.items())]


def _branch(record: RunRecord, named: Parameters, name: str, branch: Mapping[str, str], *, alpha: float) -> CheckResult:
    check, subject = "learning/branch", f"{record.spec.system} {name}"
    prefix, component = branch["parameters"], branch["loss"]
    own = {key: facts for key, facts in named.items() if key.startswith(prefix)}
    if not own:
        advice = "correct the prefix in System.branches"
        return not_measured(check, subject, f"no parameter is called {prefix!r}...", advice=advice)
    still = _still(own, rounding(_num_steps(record)))
    fall = _fall(record, component, alpha=alpha)
    if isinstance(fall, str) and len(still) < len(own):
        advice = "name a component that System.losses returns, and train long enough"
        return not_measured(check, subject, f"loss {component!r}: {fall}", advice=advice)
    falls, course = (False, fall) if isinstance(fall, str) else fall
    idle = len(still) == len(own)
    reasons = ["none of its parameters moved"] if idle else []
    reasons += [] if falls else [f"its loss {component!r} does not fall"]
    return judged(
        check,
        subject,
        ok=not reasons,
        figure=f"{' and '.join(reasons)} ({course})" if reasons else f"{component} {course}",
        expected="parameters that move and a loss that falls",
        limit=f"one moved parameter of {len(own)}; a fall beyond noise (p < {alpha:g})",
        worst=sample(still) if still else "",
        detail="" if not reasons else _why_branch(idle=idle, falls=falls),
        advice="see which stage trains it, whether requires_grad came back, and whether its output is detached",
    )


def _why_branch(*, idle: bool, falls: bool) -> str:
    if idle and falls:
        return "others that share its loss learn, the branch itself does not"
    return "FROZEN: the branch is as it was drawn" if idle else "it moves without getting better at its own task"


def _fall(record: RunRecord, component: str, *, alpha: float) -> tuple[bool, str] | str:
    """Whether a loss component fell and its course in words; a text instead where that cannot be told.

    Steps at which a component is exactly 0 did not compute it (another stage, the other branch's turn).
    """
    if f"loss/{component}" not in record:
        return f"not recorded; there are {sample(record.names('loss/'), limit=12)}"
    curve = record[f"loss/{component}"]
    curve = curve if component == "total" else curve[curve != 0]
    fall = fall_of(curve, alpha=alpha)
    if isinstance(fall, str):
        return fall
    return fall.falls, f"{fall.early:.4g} early, {fall.late:.4g} late, {fall.evidence}"


def _loss_falls(record: RunRecord, *, alpha: float) -> CheckResult:
    check, subject = "learning/loss_falls", record.spec.system
    total = _fall(record, "total", alpha=alpha)
    if isinstance(total, str):
        return not_measured(check, subject, f"loss/total: {total}", advice="record the loss of every step")
    components = [name for name in record.names("loss/") if name != "total"]
    judgements = {name: _fall(record, name, alpha=alpha) for name in components}
    flat = [name for name, found in judgements.items() if isinstance(found, str) or not found[0]]
    by_parts = bool(components) and not flat
    falls, course = total
    ok = falls or by_parts
    return judged(
        check,
        subject,
        ok=ok,
        figure=f"total {course}",
        expected="a training loss that falls",
        limit=f"a fall beyond noise (p < {alpha:g})",
        outside=f"components that do not fall: {sample(flat)}" if flat and not ok else "",
        detail=("" if falls else "every component falls, so the total changed its meaning between stages")
        if ok
        else "nothing is learned, or the loss is of something else than what is optimized",
        advice="look at the learning rate, at detach(), and at what total is the sum of",
    )


def _per_user(subject: str, facts: Mapping[str, Any], inputs: Mapping[str, Any], *, limit: float | None) -> CheckResult:
    check = "learning/parameters_per_user"
    num_users = _num_train_users(inputs)
    if "trainable" not in facts or "total" not in facts or not num_users:
        missing = "users trained on" if "trainable" in facts else "parameters"
        advice = "give num_train_users in System.input_facts"
        return not_measured(check, subject, f"the record has no number of {missing}", advice=advice)
    total, trainable = int(facts["total"]), int(facts["trainable"])
    each = trainable / num_users
    ok = limit is None or each <= limit
    return CheckResult(
        check=check,
        subject=subject,
        verdict=Verdict.PASS if ok else Verdict.FAIL,
        figure=f"{each:.4g} trainable parameters for each of {num_users} training users",
        expected=f"{total} parameters, {trainable} of them trainable",
        limit="none declared" if limit is None else f"<= {limit:g}",
        detail="" if ok else "more than was declared as enough",
        advice="" if ok else "frozen parameters do not overfit: count the trainable ones before shrinking anything",
    )


def _num_train_users(inputs: Mapping[str, Any]) -> int:
    per_split = inputs.get("num_users")
    fallback = per_split.get("train", 0) if isinstance(per_split, Mapping) else 0
    return int(inputs.get("num_train_users", fallback))
