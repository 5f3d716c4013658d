"""The numbers that the ensemble lane judges: a few raw, positive values per run, each with a direction and a weight.

Few on purpose: every further feature costs detection power, because all of them share one false-alarm rate. Windows
instead of single evaluations, because a mean over a window has less noise; early and middle ones beside the late one,
because a model that learns more slowly may still end where it used to. This file takes numbers out of records; it
draws no conclusion from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from rectest.errors import RecordError
from rectest.record import RunRecord

__all__ = [
    "MIN_HITS",
    "WINDOWS",
    "feature_names",
    "features",
    "higher_is_better",
    "raw_feature",
    "require_positive",
    "split_of",
    "too_few_hits",
    "weights",
    "window",
]

WINDOWS = ("early", "mid", "late")
"""Thirds of a curve; the first and the last are the longer ones where it does not divide."""

MIN_HITS = 5.0
"""Fewest expected hits behind one evaluation of a window: with fewer, its logarithm is far from normal."""

_FINAL = "final"
_SHARES = {_FINAL: 0.30, "late": 0.30, "mid": 0.25, "early": 0.15}
"""Shares of a family in the false-alarm rate. The end is what people gate on, so it gets most; the final test value
and the late window of the validation curve say much the same and share its 0.6."""

LOSS = "loss"


def features(record: RunRecord) -> dict[str, float]:
    """Feature name to raw value, for a record that is to become part of a baseline.

    ``test/<measure>`` is the final test value of each gated measure, ``valid/<measure>/<window>`` the mean over a third
    of the evaluations, ``loss/<window>`` the mean training loss over a third of the steps.

    Raises:
        RecordError: nothing to judge, a gated measure is missing, or a value is not a finite number above zero.
    """
    found = {name: raw_feature(record, name) for name in feature_names(record)}
    if not found:
        msg = f"record of {record.spec.describe()} has nothing to judge: no metric/test/* and no loss/total"
        raise RecordError(msg)
    require_positive(record, found)
    return found


def require_positive(record: RunRecord, values: Mapping[str, float]) -> None:
    """Raise a `RecordError` for the first value without a finite logarithm."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            loss = name.startswith(f"{LOSS}/")
            hint = "; a loss that may be negative is left out with facts['gate']['loss'] = False" if loss else ""
            msg = f"record of {record.spec.describe()}: {name} is {value!r}, needed a finite number above zero{hint}"
            raise RecordError(msg)


def feature_names(record: RunRecord) -> list[str]:
    """Names of the features that `record` declares: ``facts["gate"]["metrics"]``, or every test measure it has."""
    gate = record.facts.get("gate") or {}
    measures = list(gate.get("metrics") or record.names("metric/test/"))
    names = [f"test/{measure}" for measure in measures]
    for measure in measures:
        names += _windows_of(record, f"metric/valid/{measure}", f"valid/{measure}")
    return names + (_windows_of(record, "loss/total", LOSS) if gate.get("loss", True) else [])


def raw_feature(record: RunRecord, name: str) -> float:
    """The value of one feature, whatever it is: NaN and zero are for the caller to judge.

    Raises:
        RecordError: the record has no such array, or one too short for the window.
    """
    stem, _, part = name.rpartition("/")
    if part not in WINDOWS:
        return record.final(name)
    key = "loss/total" if stem == LOSS else f"metric/{stem}"
    values = np.asarray(record[key], dtype=np.float64)
    chosen = values[window(part, values.size)]
    if chosen.size == 0:
        what = "is empty" if values.size == 0 else f"has {values.size} values, too few for its {part} window"
        msg = f"record of {record.spec.describe()}: {key!r} {what}"
        raise RecordError(msg)
    return float(chosen.mean())


def window(part: str, size: int) -> slice:
    """The places of one third of a curve of `size` values.

    >>> [window(part, 8) for part in WINDOWS]
    [slice(0, 3, None), slice(3, 5, None), slice(5, 8, None)]
    >>> window("mid", 2), window("late", 1)
    (slice(1, 1, None), slice(0, 1, None))
    """
    third = math.ceil(size / 3)
    first = min(third, size - third)
    return {"early": slice(0, first), "mid": slice(first, size - third), "late": slice(size - third, size)}[part]


def higher_is_better(name: str) -> bool:
    """Whether a larger value of this feature is an improvement: metrics yes, losses and mean ranks no."""
    return not name.startswith(("loss/", "test/mean_rank", "valid/mean_rank"))


def split_of(name: str) -> str | None:
    """The evaluation split behind a feature; None for a loss."""
    split = name.partition("/")[0]
    return split if split in ("valid", "test") else None


def too_few_hits(name: str, mean: float, num_scored: int | None) -> bool:
    """Whether a window of a validation metric rests on so few hits that it cannot be judged; test values always can."""
    if num_scored is None or split_of(name) != "valid" or "mean_rank" in name:
        return False
    return mean * num_scored < MIN_HITS


def weights(names: Iterable[str]) -> dict[str, float]:
    """Share of each feature in the false-alarm rate: equal over families, and by `_SHARES` inside one; they sum to 1.

    A family is one measure (its final test value and its windows) or the loss. Keys are in the order of `names`.

    >>> weights(["test/recall@10", "loss/late", "loss/early"])
    {'test/recall@10': 0.5, 'loss/late': 0.3333333333333333, 'loss/early': 0.16666666666666666}
    """
    placed = {name: _family(name) for name in names}
    families: dict[str, list[float]] = {}
    for family, share in placed.values():
        families.setdefault(family, []).append(share)
    return {name: share / len(families) / math.fsum(families[family]) for name, (family, share) in placed.items()}


def _family(name: str) -> tuple[str, float]:
    stem, _, part = name.rpartition("/")
    if part not in WINDOWS:
        return part, _SHARES[_FINAL]
    return stem.rpartition("/")[2], _SHARES[part]


def _windows_of(record: RunRecord, key: str, stem: str) -> list[str]:
    """The windows of a curve that hold something; a curve that is empty is to be missed under its late one."""
    if key not in record:
        return []
    size = record[key].size
    return [f"{stem}/{part}" for part in WINDOWS if part == "late" or len(range(size)[window(part, size)])]
