"""Configuration: a setting must be read, must reach what it governs, and must be alone in an ablation.

Report 001's stages and patience stood in a file that nobody read; report 002 compared a model with four changes to one
without and named one of them as the cause. How much a setting changes is a promise of the system (`effect.py`); here
it only has to change something.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rectest.checks.inputs import protocol_differences
from rectest.checks.reproducible import bit_equal
from rectest.checks.result import CheckResult, count_of, judged, not_measured, sample
from rectest.record import RunRecord

__all__ = ["ablation", "configuration", "reaches", "settings_apart"]

STAGES = ("batch", "negatives", "loss")
"""Where a setting can show: what is trained on, and what the model makes of it."""

_ABSENT = "(absent)"


def configuration(record: RunRecord) -> list[CheckResult]:
    """Whether every setting that was given was read by anybody (``configuration/read``).

    Reads ``facts["settings_read"]``: `given`, `unread` (given and never read) and `never_read` (defaults included).
    """
    check, subject = "configuration/read", record.spec.system
    facts = record.facts.get("settings_read")
    if facts is None or "given" not in facts or "unread" not in facts:
        advice = "train it as a rectest.System, whose settings the loop watches"
        return [not_measured(check, subject, "the record does not say which settings were read", advice=advice)]
    given, unread = list(facts["given"]), sorted(facts["unread"])
    idle = sorted({*(facts.get("never_read") or ())} - {*unread})
    others = f"no use in this run: {sample(idle)}" if idle else ""
    return [
        judged(
            check,
            subject,
            ok=not unread,
            figure=count_of(len(unread), len(given), "given settings were read by nobody"),
            expected="a setting that is given is used, or refused",
            limit="0",
            worst=unread[0] if unread else "",
            outside=sample(unread),
            detail="DEAD: they can be changed at will and nothing follows; a result credited to them is chance"
            if unread
            else others,
            advice="delete the key, or follow it to the line that should use it",
        )
    ]


def settings_apart(first: RunRecord, second: RunRecord) -> dict[str, tuple[Any, Any]]:
    """Every setting in which two runs differ, with both values; the seed and the repetition are none.

    Compares ``facts["settings"]`` (defaults included) where both records have it, else what their specs override,
    and the fields of the spec that say what is trained and how.
    """
    left, right = (_settings(record) for record in (first, second))
    keys = sorted({*left, *right})
    pairs = {key: (left.get(key, _ABSENT), right.get(key, _ABSENT)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _settings(record: RunRecord) -> dict[str, Any]:
    spec = record.spec.to_dict()
    kept = {key: spec[key] for key in ("system", "device", "threads", "deterministic", "plant") if spec[key]}
    full: Mapping[str, Any] | None = record.facts.get("settings")
    if full is None:
        full = {**spec["config"], **{key: spec[key] for key in ("steps", "eval_every") if spec[key] is not None}}
    return {**{key: _plain(value) for key, value in full.items()}, **kept}


def _plain(value: Any) -> Any:
    """Tuples as lists, as they come back from a stored record."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def ablation(first: RunRecord, second: RunRecord) -> list[CheckResult]:
    """Whether two runs may be read as the effect of one setting (``configuration/ablation``).

    They may differ in exactly one setting besides the seed, and must share data, world and evaluation protocol. Runs
    that differ in nothing are NOT MEASURED: there is nothing to attribute.
    """
    check, subject = "configuration/ablation", f"{first.spec.system} and {second.spec.system}"
    apart = settings_apart(first, second)
    others = protocol_differences(first, second)
    if not apart and not others:
        return [not_measured(check, subject, "the runs differ in no setting", advice="change the one that is meant")]
    named = [f"{key} {old!r} and {new!r}" for key, (old, new) in apart.items()]
    ok = len(apart) == 1 and not others
    return [
        judged(
            check,
            subject,
            ok=ok,
            figure=f"{len(apart)} settings differ: {sample(apart, limit=12)}" if len(apart) != 1 else named[0],
            expected="one setting, on the same data under the same protocol",
            limit="1 setting",
            worst="; ".join(others),
            outside=sample(named, limit=12) if len(apart) > 1 else "",
            detail="" if ok else "CONFOUNDED: the difference in quality cannot be credited to any one of them",
            advice="train each change alone, over the same seeds",
        )
    ]


def reaches(on: RunRecord, off: RunRecord, *, by: str = "loss") -> list[CheckResult]:
    """Whether the setting in which two runs of one seed differ reaches training (``configuration/reaches``).

    Compares the tape of the stage `by` over the common steps: ``batch`` for what is trained on, ``negatives`` for
    samplers, ``loss`` for what the model computes. Equal digests mean that the setting is inert. Runs of two seeds,
    of several or no changed settings, or without that tape are NOT MEASURED.

    Raises:
        ValueError: `by` is no stage at which a setting can show.
    """
    if by not in STAGES:
        msg = f"by must be one of {', '.join(STAGES)}, got {by!r}"
        raise ValueError(msg)
    check, subject = "configuration/reaches", on.spec.system
    apart = settings_apart(on, off)
    if problem := _not_on_and_off(on, off, apart, by):
        advice = "train one spec twice, with the setting on and off, under one seed"
        return [not_measured(check, subject, problem, advice=advice)]
    (name,) = apart
    first, second = (record[f"tape/{by}"] for record in (on, off))
    common = min(len(first), len(second))
    num = sum(not bit_equal(first[i], second[i]) for i in range(common))
    return [
        judged(
            check,
            f"{subject} {name}",
            ok=num > 0,
            figure=count_of(num, common, f"steps have another {by}"),
            expected=f"{name} {apart[name][0]!r} and {apart[name][1]!r} give different {by}",
            limit=">= 1",
            detail="" if num else f"INERT: {name} is read and changes nothing, so it cannot help or harm",
            advice="follow the setting to the line that uses it; a share of few draws must be drawn, not rounded",
        )
    ]


def _not_on_and_off(on: RunRecord, off: RunRecord, apart: Mapping[str, Any], by: str) -> str:
    """Why two runs cannot show what one setting does, or nothing."""
    if on.spec.seed != off.spec.seed:
        return f"seeds {on.spec.seed} and {off.spec.seed} give different runs whatever the settings"
    if len(apart) != 1:
        return f"{len(apart)} settings differ{': ' if apart else ''}{sample(apart)}, exactly one is needed"
    if protocol := protocol_differences(on, off):
        return "; ".join(protocol)
    if f"tape/{by}" not in on or f"tape/{by}" not in off or not min(len(r[f"tape/{by}"]) for r in (on, off)):
        return f"no tape of {by}"
    return ""
