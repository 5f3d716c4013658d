"""Everything behind one gate's verdict, as plain values: what a report draws and ``rectest gate explain`` tells.

It holds numbers that were judged, not judgements of its own: rebuilding a verdict from it is for the tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rectest.baseline.ensemble import centre, relative_change
from rectest.baseline.features import raw_feature, weights
from rectest.baseline.levels import GateOutcome
from rectest.baseline.looks import caught_drop
from rectest.baseline.schema import Baseline
from rectest.baseline.sidecar import Sidecar
from rectest.checks.result import CheckResult
from rectest.errors import RecordError
from rectest.record import RunRecord

__all__ = ["EVIDENCE_SCHEMA", "Curve", "Evidence", "FeatureEvidence", "PrefixEvidence", "evidence_of"]

EVIDENCE_SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureEvidence:
    """One feature: its stored values, the new ones, and the limits after this many runs."""

    name: str
    weight: float
    """Share of the false-alarm rate."""

    stored: tuple[float, ...]
    new: tuple[float | None, ...]
    """By run; None where the record has no such value."""

    change: float | None
    """Relative change of the geometric mean, and None with everything below where nothing could be compared."""

    lowest: float | None
    highest: float | None
    """Relative changes that are still noise, ends of one interval in the feature's own direction."""

    run_sd: float | None
    """Run-to-run sd that the limits use, log scale."""

    p: float | None
    """Of a change this far in the direction that is nearer to its limit."""

    level: float | None
    """What `p` is compared with."""

    mdd: float | None
    """Smallest relative change for the worse that is caught with 90 % probability."""

    alarm: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A measure (or the loss) over training: the stored seeds and the new runs."""

    name: str
    steps: tuple[int, ...]
    stored: tuple[tuple[float | None, ...], ...]
    """By seed; None where a run stopped earlier."""

    new: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefixEvidence:
    """The first losses of the pair: relative difference from the stored run of the seed, and what rounding explains."""

    seed: int
    difference: tuple[float | None, ...]
    envelope: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """One gate, judged."""

    name: str
    """``system`` or ``system@world``."""

    env_class: str
    environment: Mapping[str, Any]
    """What the new runs computed in; `Environment.from_dict` reads it."""

    fingerprint: str
    stored_fingerprint: str
    """Of the ensemble."""

    level: str
    verdict: str
    results: tuple[Mapping[str, str], ...]
    """`CheckResult.to_dict` of each, the headline first; at least that one."""

    seeds: tuple[int, ...]
    """Of the new runs."""

    stored_seeds: tuple[int, ...]
    features: tuple[FeatureEvidence, ...] = ()
    curves: tuple[Curve, ...] = ()
    prefix: PrefixEvidence | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    """`Accepted` entries of the baseline, oldest first."""

    provenance: Mapping[str, Any] = field(default_factory=dict)
    declared: Mapping[str, Any] | None = None

    @property
    def headline(self) -> CheckResult:
        """The verdict in words."""
        return CheckResult.from_dict(self.results[0])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"schema": EVIDENCE_SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evidence:
        """The inverse of `to_dict`.

        Raises:
            RecordError: another schema, or fields that this version does not understand.
        """
        schema = values.get("schema") if isinstance(values, Mapping) else None
        if schema != EVIDENCE_SCHEMA:
            msg = f"gate evidence of schema {schema!r}, this version reads {EVIDENCE_SCHEMA}; run the gate again"
            raise RecordError(msg)
        try:
            plain = {key: value for key, value in values.items() if key not in ("schema", "prefix")}
            prefix = values.get("prefix")
            CheckResult.from_dict(plain["results"][0])
            return cls(
                **{
                    **plain,
                    "results": tuple(plain["results"]),
                    "seeds": tuple(plain["seeds"]),
                    "stored_seeds": tuple(plain["stored_seeds"]),
                    "history": tuple(plain.get("history", ())),
                    "features": tuple(_feature(each) for each in plain.get("features", ())),
                    "curves": tuple(_curve(each) for each in plain.get("curves", ())),
                    "prefix": None if prefix is None else PrefixEvidence(**_tuples(prefix)),
                }
            )
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as e:
            msg = f"gate evidence that this version does not understand ({e}); run the gate again"
            raise RecordError(msg) from e


def evidence_of(
    outcome: GateOutcome, records: Sequence[RunRecord], baseline: Baseline, sidecar: Sidecar | None
) -> Evidence:
    """What the outcome of a gate rests on."""
    environment = records[0].environment
    return Evidence(
        name=baseline.name,
        env_class=baseline.env_class,
        environment=environment.to_dict(),
        fingerprint=environment.fingerprint,
        stored_fingerprint=baseline.ensemble.fingerprint,
        level=str(outcome.level),
        verdict=str(outcome.verdict),
        results=tuple(result.to_dict() for result in outcome.results),
        seeds=tuple(record.spec.seed for record in records),
        stored_seeds=baseline.ensemble.seeds,
        features=_features(outcome, records, baseline),
        curves=_curves(records, baseline, sidecar),
        prefix=_prefix(outcome),
        history=tuple(entry.model_dump(mode="json") for entry in baseline.history),
        provenance=baseline.provenance.model_dump(mode="json"),
        declared=None if baseline.declared is None else baseline.declared.model_dump(mode="json"),
    )


def _features(outcome: GateOutcome, records: Sequence[RunRecord], baseline: Baseline) -> tuple[FeatureEvidence, ...]:
    shares, found = weights(baseline.ensemble.features), []
    for place, (name, stored) in enumerate(baseline.ensemble.features.items()):
        judged: dict[str, Any] = dict.fromkeys(("change", "lowest", "highest", "run_sd", "p", "level", "mdd"))
        new = tuple(_value(record, name) for record in records)
        if outcome.decision is not None:
            drop, rise = outcome.decision.drops[place], outcome.decision.rises[place]
            nearer = drop if drop.p / drop.level < rise.p / rise.level else rise
            ends = sorted(relative_change(name, shift) for shift in (-drop.limit, rise.limit))
            known = [value for value in new if value is not None]
            judged = {
                "change": centre(known) / centre(stored) - 1,
                "lowest": ends[0],
                "highest": ends[1],
                "run_sd": drop.sd,
                "p": nearer.p,
                "level": nearer.level,
                "mdd": caught_drop(name, drop),
                "alarm": drop.alarm or rise.alarm,
            }
        found.append(FeatureEvidence(name=name, weight=shares[name], stored=tuple(stored), new=new, **judged))
    return tuple(found)


def _curves(records: Sequence[RunRecord], baseline: Baseline, sidecar: Sidecar | None) -> tuple[Curve, ...]:
    """The curves that windows are taken from, and the loss thinned out to what a picture can show."""
    if sidecar is None:
        return ()
    gated = {name.split("/")[1] for name in baseline.ensemble.features if name.startswith("valid/")}
    every_steps = [sidecar["curve/steps"], *(record.arrays.get("eval/steps", np.zeros(0)) for record in records)]
    steps, found = max(every_steps, key=len), []
    for name in sidecar.names("curve/valid/"):
        if name in gated:
            new = [record.arrays.get(f"metric/valid/{name}", np.zeros(0)) for record in records]
            found.append(_drawn(f"valid/{name}", steps, sidecar[f"curve/valid/{name}"], new))
    if "curve/loss" in sidecar:
        new = [record.arrays.get("loss/total", np.zeros(0)) for record in records]
        stored = sidecar["curve/loss"].astype(np.float64)
        every = max(1, stored.shape[1] // _MOST_POINTS)
        steps = np.arange(1, stored.shape[1] + 1)[every - 1 :: every]
        thin = [_means(row[: stored.shape[1]], every) for row in new]
        found.append(_drawn("loss", steps, np.stack([_means(row, every) for row in stored]), thin))
    return tuple(found)


_MOST_POINTS = 100


def _means(row: np.ndarray[Any, Any], every: int) -> np.ndarray[Any, Any]:
    whole = len(row) // every
    means: np.ndarray[Any, Any] = row[: whole * every].reshape(whole, every).mean(axis=1)
    return means


def _drawn(name: str, steps: Any, stored: Any, new: Sequence[Any]) -> Curve:
    return Curve(
        name=name,
        steps=tuple(int(step) for step in steps),
        stored=tuple(_plain(row) for row in stored),
        new=tuple(_plain(row) for row in new),
    )


def _plain(row: Any) -> tuple[float | None, ...]:
    """JSON has no NaN, and seven digits are more than a picture shows."""
    return tuple(float(f"{value:.7g}") if np.isfinite(value) else None for value in row)


def _prefix(outcome: GateOutcome) -> PrefixEvidence | None:
    if outcome.pairing is None or outcome.pairing.prefix is None:
        return None
    prefix = outcome.pairing.prefix
    scale = np.maximum(np.abs(prefix.stored), np.finfo(np.float64).tiny)
    return PrefixEvidence(
        seed=outcome.pairing.seed,
        difference=_plain(np.abs(prefix.obtained - prefix.stored) / scale),
        envelope=tuple(value or 0.0 for value in _plain(prefix.envelope / scale)),
    )


def _value(record: RunRecord, name: str) -> float | None:
    try:
        value = raw_feature(record, name)
    except RecordError:
        return None
    return value if np.isfinite(value) else None


def _feature(values: Mapping[str, Any]) -> FeatureEvidence:
    return FeatureEvidence(**_tuples(values))


def _curve(values: Mapping[str, Any]) -> Curve:
    rows = {key: tuple(tuple(row) for row in values[key]) for key in ("stored", "new")}
    return Curve(name=values["name"], steps=tuple(values["steps"]), **rows)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
