"""The numbers that the ensemble lane judges: a few raw, positive values per run, each with a direction.

Few on purpose: every further feature costs detection power, because all of them share one false-alarm rate. Windows
instead of single evaluations, because a mean over a window has less noise. This file takes numbers out of records;
it draws no conclusion from them.
"""

from __future__ import annotations

import math

import numpy as np

from rectest.errors import RecordError
from rectest.record import RunRecord

__all__ = ["feature_names", "features", "higher_is_better", "raw_feature", "split_of"]

LOSS = "loss/late"


def features(record: RunRecord) -> dict[str, float]:
    """Feature name to raw value, for a record that is to become part of a baseline.

    ``test/<measure>`` is the final test value of each gated measure, ``valid/<measure>/late`` the mean over the last
    third of the evaluations, ``loss/late`` the mean training loss over the last third of the steps.

    Raises:
        RecordError: nothing to judge, a gated measure is missing, or a value is not a finite number above zero.
    """
    found = {name: raw_feature(record, name) for name in feature_names(record)}
    if not found:
        msg = f"record of {record.spec.describe()} has nothing to judge: no metric/test/* and no loss/total"
        raise RecordError(msg)
    for name, value in found.items():
        if not (math.isfinite(value) and value > 0):
            hint = (
                "; a loss that may be negative is left out with facts['gate']['loss'] = False" if name == LOSS else ""
            )
            msg = f"record of {record.spec.describe()}: {name} is {value!r}, needed a finite number above zero{hint}"
            raise RecordError(msg)
    return found


def feature_names(record: RunRecord) -> list[str]:
    """Names of the features that `record` declares: ``facts["gate"]["metrics"]``, or every test measure it has."""
    gate = record.facts.get("gate") or {}
    measures = list(gate.get("metrics") or record.names("metric/test/"))
    names = [f"test/{measure}" for measure in measures]
    names += [f"valid/{measure}/late" for measure in measures if f"metric/valid/{measure}" in record]
    return names + ([LOSS] if "loss/total" in record and gate.get("loss", True) else [])


def raw_feature(record: RunRecord, name: str) -> float:
    """The value of one feature, whatever it is: NaN and zero are for the caller to judge.

    Raises:
        RecordError: the record has no such array, or an empty one.
    """
    if name == LOSS:
        return _late_mean(record, "loss/total")
    if name.startswith("valid/") and name.endswith("/late"):
        return _late_mean(record, f"metric/{name.removesuffix('/late')}")
    return record.final(name)


def higher_is_better(name: str) -> bool:
    """Whether a larger value of this feature is an improvement: metrics yes, losses and mean ranks no."""
    return not name.startswith(("loss/", "test/mean_rank", "valid/mean_rank"))


def split_of(name: str) -> str | None:
    """The evaluation split behind a feature; None for a loss."""
    split = name.partition("/")[0]
    return split if split in ("valid", "test") else None


def _late_mean(record: RunRecord, key: str) -> float:
    values = np.asarray(record[key], dtype=np.float64)
    if values.size == 0:
        msg = f"record of {record.spec.describe()}: {key!r} is empty"
        raise RecordError(msg)
    return float(values[-math.ceil(values.size / 3) :].mean())
