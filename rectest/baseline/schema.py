"""The content of a baseline file as strict models, and its one reading and one writing as JSON text.

This file owns what a valid baseline is. Where files lie and how they are replaced is `store`; what the numbers mean
is `features` and `exact`; whether a run agrees with them is `judge`. Raw values are stored, never limits: limits are
computed anew at each judgement, so that a better judge needs no new recordings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from rectest.environment import Environment
from rectest.errors import CorruptBaseline, RecordError
from rectest.record import RunSpec

__all__ = [
    "MIN_SEEDS",
    "SCHEMA",
    "Baseline",
    "Ensemble",
    "ExactEntry",
    "Provenance",
    "SeedEntry",
    "Settings",
    "parse_baseline",
    "render_baseline",
]

SCHEMA = 1
MIN_SEEDS = 8
"""Fewest seeds of an ensemble: below, the smallest drop that a gate can promise to catch is tens of percent."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:-]*$")]
Digest = Annotated[str, Field(pattern=r"^blake3:[0-9a-f]{32}$")]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0)]
SeedKey = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]*)$")]
Text = Annotated[str, Field(pattern=r"\S")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class Settings(_Model):
    """What defines the training apart from system, world and seed.

    Device, threads and determinism switches are missing on purpose: they belong to the environment, whose class and
    fingerprint decide what may be compared. A plant is missing because a faulty system never becomes a baseline.
    """

    steps: Annotated[int, Field(ge=1)] | None
    eval_every: Annotated[int, Field(ge=1)] | None
    config: dict[str, JsonValue]

    @classmethod
    def of(cls, spec: RunSpec) -> Settings:
        """The settings of a run spec."""
        return cls(steps=spec.steps, eval_every=spec.eval_every, config=dict(spec.config))

    def differences(self, other: Settings) -> dict[str, tuple[object, object]]:
        """Settings whose values differ, with both values; ``config.<key>`` for the system's own, None where unset."""
        mine, theirs = self._flat(), other._flat()
        pairs = {key: (mine.get(key), theirs.get(key)) for key in sorted(mine.keys() | theirs.keys())}
        return {key: pair for key, pair in pairs.items() if not _same_json(*pair)}

    def _flat(self) -> dict[str, object]:
        plain = {"steps": self.steps, "eval_every": self.eval_every}
        return {**plain, **{f"config.{key}": value for key, value in self.config.items()}}


class Provenance(_Model):
    """Who recorded something, when, with which code and why."""

    commit: str | None
    """Full hash of the commit, or None outside version control."""

    dirty: bool | None
    """Whether the working tree had changes that the commit does not hold; None where unknown."""

    reason: Text
    command: str
    date: Text
    """UTC, ISO 8601, to the second."""

    environment: str
    """One line for people; the judge compares fingerprints, never this."""


class SeedEntry(_Model):
    """One seed's bits: a digest per group of arrays, and the final values at full precision for people."""

    digests: Annotated[dict[str, Digest], Field(min_length=1)]
    values: dict[str, Finite]


class ExactEntry(_Model):
    """The bits of some seeds in one environment fingerprint."""

    environment: dict[str, JsonValue]
    seeds: Annotated[dict[SeedKey, SeedEntry], Field(min_length=1)]
    provenance: Provenance

    def described(self) -> Environment:
        """The environment as a value; a `RecordError` where another version wrote it."""
        return Environment.from_dict(dict(self.environment))


class Ensemble(_Model):
    """Raw feature values over seeds, from one environment: the distribution that new runs are held against."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=MIN_SEEDS)]
    fingerprint: Fingerprint
    features: Annotated[dict[str, tuple[Positive, ...]], Field(min_length=1)]
    num_scored: dict[str, Annotated[int, Field(ge=1)]]
    """Users with at least one relevant item by split (the fewest over the seeds): what one hit weighs."""

    @model_validator(mode="after")
    def _one_value_per_seed(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            msg = f"seeds are repeated: {list(self.seeds)}"
            raise ValueError(msg)
        for name, values in self.features.items():
            if len(values) != len(self.seeds):
                msg = f"feature {name!r} has {len(values)} values for {len(self.seeds)} seeds"
                raise ValueError(msg)
        return self


class Baseline(_Model):
    """Everything stored about one system on one world in one environment class."""

    schema_version: int = Field(alias="schema", default=SCHEMA)
    system: Name
    world: Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$")]
    """Empty for the system's default world, as in `RunSpec`."""

    world_digest: str
    env_class: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    spec: Settings
    exact: dict[Fingerprint, ExactEntry]
    ensemble: Ensemble
    provenance: Provenance
    """Of the ensemble; each exact entry carries its own."""

    @model_validator(mode="after")
    def _environments_agree(self) -> Self:
        if self.ensemble.fingerprint not in self.exact:
            msg = f"exact has no entry for the fingerprint of the ensemble, {self.ensemble.fingerprint}"
            raise ValueError(msg)
        for fingerprint, entry in self.exact.items():
            self._check_environment(fingerprint, entry)
        return self

    def _check_environment(self, fingerprint: str, entry: ExactEntry) -> None:
        try:
            environment = entry.described()
            obtained = environment.fingerprint
        except (RecordError, AttributeError) as e:
            msg = f"exact.{fingerprint}: {e}"
            raise ValueError(msg) from e
        if obtained != fingerprint:
            msg = f"exact.{fingerprint}: its environment has the fingerprint {obtained}"
            raise ValueError(msg)
        if environment.env_class != self.env_class:
            msg = f"exact.{fingerprint}: environment class {environment.env_class!r} in a file of {self.env_class!r}"
            raise ValueError(msg)

    @property
    def name(self) -> str:
        """``system`` or ``system@world``."""
        return f"{self.system}@{self.world}" if self.world else self.system


def render_baseline(baseline: Baseline) -> bytes:
    """JSON for people and for diffs: sorted keys, two spaces, one number per line, floats at full precision."""
    plain = baseline.model_dump(mode="json", by_alias=True)
    text = json.dumps(plain, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


def parse_baseline(content: bytes, *, path: str | Path) -> Baseline:
    """The inverse of `render_baseline`; `path` only names the file in errors.

    Raises:
        CorruptBaseline: not JSON, another schema, a field missing, unknown or of the wrong type, NaN or infinity.
    """
    _check_schema(_plain_json(content, path), path)
    try:
        return Baseline.model_validate_json(content)
    except ValidationError as e:
        first, *rest = e.errors(include_url=False)
        more = f" (and {len(rest)} more)" if rest else ""
        raise CorruptBaseline(path, f"{_json_path(first['loc'])}: {_problem(first)}{more}") from e


def _plain_json(content: bytes, path: str | Path) -> object:
    try:
        return json.loads(
            content.decode(),
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            object_pairs_hook=_unique_keys,
        )
    except json.JSONDecodeError as e:
        raise CorruptBaseline(path, f"not valid JSON in line {e.lineno}, column {e.colno} ({e.msg})") from e
    except (ValueError, RecursionError) as e:
        raise CorruptBaseline(path, f"not a baseline ({e})") from e


def _check_schema(plain: object, path: str | Path) -> None:
    if not isinstance(plain, dict):
        raise CorruptBaseline(path, f"$: holds a JSON {type(plain).__name__}, needed an object")
    number = plain.get("schema")
    if isinstance(number, bool) or not isinstance(number, int):
        raise CorruptBaseline(path, f"$.schema: needed a schema number, found {number!r}")
    if number != SCHEMA:
        newer = "it was written by a newer rectest: upgrade rectest"
        older = "it was written by an older rectest: record it anew with: pytest -m gate --rectest-update=all"
        problem = f"$.schema: schema {number}, this version of rectest reads schema {SCHEMA}"
        raise CorruptBaseline(path, problem, hint=newer if number > SCHEMA else older)


def _refuse_constant(name: str) -> float:
    msg = f"{name} where a finite number is needed"
    raise ValueError(msg)


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        msg = f"{text} is outside the range of a float"
        raise ValueError(msg)
    return value


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """JSON readers keep the last of two equal keys, which hides half of a badly merged file."""
    seen = dict(pairs)
    if len(seen) != len(pairs):
        keys = [key for key, _ in pairs]
        msg = f"key {next(key for key in keys if keys.count(key) > 1)!r} is given twice"
        raise ValueError(msg)
    return seen


def _problem(error: Mapping[str, Any]) -> str:
    found = error["input"]
    text = error["msg"].removeprefix("Value error, ")
    return text if isinstance(found, dict | list | tuple) else f"{text}, found {found!r}"


def _json_path(loc: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else _json_key(part) for part in loc]
    return "$" + "".join(parts)


def _json_key(key: str) -> str:
    return f".{key}" if key.replace("_", "").isalnum() else f"[{key!r}]"


def _same_json(one: object, other: object) -> bool:
    """Equality of JSON values in which ``1``, ``1.0`` and ``true`` are three different settings."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
