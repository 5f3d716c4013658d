"""The content of a baseline file as strict models.

This file owns what a valid baseline is. Its one reading and one writing as JSON are in `text`; curves and other bulk
are in the `sidecar`; where files lie and how they are replaced is `store`; what the numbers mean is `features` and
`exact`; whether a run agrees with them is `judge`. Raw values are stored, never limits: limits are computed anew at
each judgement, so that a better judge needs no new recordings. What was declared stands in it as declared then.
"""

from __future__ import annotations

import json
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from rectest.environment import Environment
from rectest.errors import RecordError
from rectest.record import RunSpec

__all__ = [
    "MIN_SEEDS",
    "SCHEMA",
    "WEAK_SEEDS",
    "Accepted",
    "Baseline",
    "Declared",
    "Ensemble",
    "ExactEntry",
    "Provenance",
    "SeedEntry",
    "Settings",
    "SidecarRef",
    "Streams",
]

SCHEMA = 2
MIN_SEEDS = 5
"""Fewest seeds of an ensemble: with fewer, nothing below half of a metric would be noticed."""

WEAK_SEEDS = 8
"""Below this many seeds a gate works, and says at each verdict how little it can promise."""

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

    left_out: dict[str, Text] = Field(default_factory=dict)
    """Features that runs have and that are not judged, with the reason."""

    user_variance: dict[str, Positive] = Field(default_factory=dict)
    """By feature, the part of the variance of its logarithm over seeds that independent noise of users explains."""

    twins: dict[str, tuple[Positive, ...]] = Field(default_factory=dict)
    """The features of each seed's rounding twin, in the order of `seeds`: the same run from initial parameters that
    were moved to neighbouring floats. How far twins lie apart is how far rounding alone can carry a run."""

    @model_validator(mode="after")
    def _one_value_per_seed(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            msg = f"seeds are repeated: {list(self.seeds)}"
            raise ValueError(msg)
        for kind, found in (("feature", self.features), ("twin feature", self.twins)):
            for name, values in found.items():
                if len(values) != len(self.seeds):
                    msg = f"{kind} {name!r} has {len(values)} values for {len(self.seeds)} seeds"
                    raise ValueError(msg)
        if self.twins and self.twins.keys() != self.features.keys():
            odd = sorted(self.twins.keys() ^ self.features.keys())
            msg = f"features and twins differ in {odd}"
            raise ValueError(msg)
        return self


class Streams(_Model):
    """What one seed's random streams gave first, so that a run can be paired with it before numbers are compared."""

    batches: Digest | None
    negatives: Digest | None
    """Of the first `sidecar.PREFIX_STEPS` steps; None where the training has no such stream."""


class SidecarRef(_Model):
    """The file beside this one that holds curves and other bulk; its name ends with the start of its digest."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+@-]*\.[0-9a-f]{12}\.npz$")]
    digest: Digest

    @model_validator(mode="after")
    def _named_after_its_content(self) -> Self:
        if not self.file.endswith(f".{self.digest.removeprefix('blake3:')[:12]}.npz"):
            msg = f"the sidecar {self.file} is not named after its digest {self.digest}"
            raise ValueError(msg)
        return self


class Declared(_Model):
    """What the gate promised when this was recorded."""

    alpha_drop: Positive
    alpha_rise: Positive
    beta: Positive
    max_runs: Annotated[int, Field(ge=2)]
    mdd: dict[str, Positive]
    """By feature, the smallest relative change for the worse that is caught with probability 1 - beta."""


class Accepted(_Model):
    """One entry of the history: a recording that a person let become the baseline."""

    date: Text
    commit: str | None
    reason: Text
    means: dict[str, Positive]
    """Geometric mean over the seeds, by feature."""

    mdd: dict[str, Positive] = Field(default_factory=dict)
    """By feature, the smallest change for the worse that the gate of this recording promised to catch."""


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

    streams: dict[SeedKey, Streams] = Field(default_factory=dict)
    sidecar: SidecarRef | None = None
    declared: Declared | None = None
    history: tuple[Accepted, ...] = ()
    """Oldest first. The first entry is the anchor that drift is measured from; the last one is this recording."""

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


def _same_json(one: object, other: object) -> bool:
    """Equality of JSON values in which ``1``, ``1.0`` and ``true`` are three different settings."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
