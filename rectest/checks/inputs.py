"""Inputs: a diagnosis must be about the bytes of the run, and a comparison about one task.

Report 003 verified a mapping file that was written after the run it explained; report 004 ranked a validation result
on one data set above test results on another. Records carry digests of everything that went in, and the protocol they
were evaluated under; this file refuses to speak where those differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rectest.checks.result import CheckResult, Verdict, judged, not_measured, sample
from rectest.record import RunRecord

__all__ = ["RESULT_KEYS", "comparable_results", "comparable_runs", "protocol_differences", "same_inputs"]

RESULT_KEYS = ("dataset", "split", "protocol", "metric")
"""What quoted results must share, besides having a `model` and a `value`."""

_PROTOCOL = ("kind", "num_candidates_mean", "num_users", "num_scored", "num_relevant", "exclude_seen")


def same_inputs(record: RunRecord, digests: Mapping[str, str]) -> list[CheckResult]:
    """Whether the artefacts at hand are those the run read, one result ``inputs/digest`` for each.

    Args:
        digests: name of an input, as in ``facts["inputs"]`` (``world``, ``train``; ``files/items.pt`` for one in a
            mapping), to the digest of the artefact at hand. A name that the record does not know is NOT MEASURED.
    """
    check, subject = "inputs/digest", record.spec.system
    if not digests:
        advice = "digest the files that the diagnosis looks at"
        return [not_measured(check, subject, "no artefact to compare with", advice=advice)]
    known = dict(_flat(record.facts.get("inputs") or {}))
    return [_digest(f"{subject} {name}", known, name, digest) for name, digest in sorted(digests.items())]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _digest(subject: str, known: Mapping[str, Any], name: str, at_hand: str) -> CheckResult:
    if name not in known:
        texts = sorted(key for key, value in known.items() if isinstance(value, str))
        advice = "return its digest from System.input_facts, and train again"
        missing = f"the run kept no digest of {name!r}; it has {sample(texts, limit=12) or 'none'}"
        return not_measured("inputs/digest", subject, missing, advice=advice)
    ok = known[name] == at_hand
    return judged(
        "inputs/digest",
        subject,
        ok=ok,
        figure="the artefact at hand is what the run read" if ok else "ANOTHER artefact than the run read",
        expected=f"{known[name]}, noted by the run",
        limit="equal digests",
        worst="" if ok else f"at hand: {at_hand}",
        detail="" if ok else "it was made or changed after the run, or is of another: what it shows explains nothing",
        advice="find the artefact of the run by its digest, or train again on this one before diagnosing",
    )


def comparable_runs(first: RunRecord, second: RunRecord, *, metric: str = "") -> list[CheckResult]:
    """Whether the quality of two runs may be compared at all (``inputs/comparable``).

    They must have seen the same world and been evaluated on the same users, candidates and measures.

    Args:
        metric: the metric that is compared, e.g. ``test/recall@10``; empty takes all of the test split.
    """
    check, subject = "inputs/comparable", f"{first.spec.system} and {second.spec.system}"
    split = metric.partition("/")[0] or "test"
    missing = [what for record in (first, second) for what in _missing(record, split)]
    if missing:
        advice = "train both as a rectest.System, which notes data and protocol"
        return [not_measured(check, subject, sample(missing), advice=advice)]
    reasons = protocol_differences(first, second, split=split) + _measure_differences(first, second, split, metric)
    return [_comparable(subject, reasons, compared=f"{metric or split} of two runs")]


def _missing(record: RunRecord, split: str) -> list[str]:
    owner = record.spec.describe()
    found = []
    if not (record.facts.get("inputs") or {}).get("world"):
        found.append(f"{owner} has no digest of its world")
    if split not in (record.facts.get("protocol") or {}):
        found.append(f"{owner} has no protocol of {split!r}")
    return found


def protocol_differences(first: RunRecord, second: RunRecord, *, split: str = "test") -> list[str]:
    """Why results of two runs are not about the same task: another world, other users or other candidates."""
    worlds = [(record.facts.get("inputs") or {}).get("world") for record in (first, second)]
    reasons = [f"worlds {worlds[0]} and {worlds[1]}"] if worlds[0] != worlds[1] else []
    left, right = ((record.facts.get("protocol") or {}).get(split, {}) for record in (first, second))
    reasons += [
        f"{key} of {split} {left.get(key)!r} and {right.get(key)!r}"
        for key in _PROTOCOL
        if left.get(key) != right.get(key)
    ]
    return reasons


def _measure_differences(first: RunRecord, second: RunRecord, split: str, metric: str) -> list[str]:
    if metric:
        without = [r.spec.describe() for r in (first, second) if f"metric/{metric}" not in r]
        return [f"{owner} has no {metric}" for owner in without]
    names = [set(record.names(f"metric/{split}/")) for record in (first, second)]
    return [] if names[0] & names[1] else ["no measure in common"]


def comparable_results(results: Sequence[Mapping[str, Any]]) -> list[CheckResult]:
    """Whether results quoted in one table may be ranked against each other (``inputs/comparable``).

    Each is ``{"model", "dataset", "split", "protocol", "metric", "value"}``, as plain texts and a number. What differs
    is FAIL with the reasons; a table that is silent about one of them is NOT MEASURED, which is not green either.
    """
    check, subject = "inputs/comparable", "quoted results"
    if len(results) < 2:
        return [not_measured(check, subject, f"{len(results)} results, at least 2 are needed for a comparison")]
    named = [(str(result.get("model", f"row {i + 1}")), result) for i, result in enumerate(results)]
    reasons = [reason for key in RESULT_KEYS for reason in _apart(key, named)]
    reasons += [f"{model} has the value {r.get('value')!r}" for model, r in named if not _is_number(r.get("value"))]
    silent = [f"{model} does not say its {key}" for model, r in named for key in RESULT_KEYS if not r.get(key)]
    if silent and not reasons:
        advice = "look up split, candidates and data of each result where it was published"
        return [not_measured(check, subject, sample(silent, limit=8), advice=advice)]
    return [_comparable(subject, reasons + silent, compared=f"{len(results)} quoted results")]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _apart(key: str, named: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """The groups of models under each value of `key`, if there is more than one."""
    groups: dict[str, list[str]] = {}
    for model, result in named:
        if result.get(key):
            groups.setdefault(str(result[key]).strip().casefold(), []).append(model)
    texts = [f"{value} ({', '.join(models)})" for value, models in groups.items()]
    return [f"{key}: {' against '.join(texts)}"] if len(groups) > 1 else []


def _comparable(subject: str, reasons: list[str], *, compared: str) -> CheckResult:
    return CheckResult(
        check="inputs/comparable",
        subject=subject,
        verdict=Verdict.FAIL if reasons else Verdict.PASS,
        figure=f"{len(reasons)} reasons why they are about different tasks"
        if reasons
        else f"{compared} are of one task",
        expected="one data set, one split, one protocol, one measure",
        limit="0",
        worst=reasons[0] if reasons else "",
        outside="; ".join(reasons[1:]),
        detail="REFUSED: the larger number says nothing about the better model" if reasons else "",
        advice="evaluate both under one protocol on one data set, then compare" if reasons else "",
    )
