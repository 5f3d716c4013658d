"""Bit equality of two runs of one spec, and where they part: the step, the stage, the tensor, the likely causes.

Bits are compared between equal environments only; distributions over seeds are judged elsewhere. `first_divergence`
is the engine: it needs two tapes and nothing else. `different_seeds_differ` is the other side: a seed must matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, count_of, judged, not_measured, percent, sample
from rectest.record import STAGES, RunRecord

__all__ = [
    "CAUSES",
    "MEANINGS",
    "Divergence",
    "bit_equal",
    "comparable",
    "different_seeds_differ",
    "first_divergence",
    "reproducible",
    "tape_of",
    "unequal_arrays",
]

Array = npt.NDArray[Any]
Tape = Mapping[str, Array]

SETUP_STAGES = ("id_map", "init")
"""Stages that happen once, before the first step."""

MEANINGS = {
    "id_map": "the assignment of raw ids to dense indices",
    "init": "the model's parameters before the first step",
    "batch": "the examples that were drawn for the step",
    "negatives": "the negative items that were sampled for the step",
    "loss": "the loss components that were computed from the batch",
    "gradients": "the gradients of the parameters",
    "parameters": "the parameters after the optimizer's step",
    "rng": "the states of the process's own random generators after the step",
}
"""Every stage of the tape in words."""

CAUSES = {
    "id_map": "ids assigned in the order of a set or of builtin hash() (it changes with PYTHONHASHSEED), or other data",
    "init": "parameters drawn from an unseeded or shared generator, or a checkpoint of an earlier run silently resumed",
    "batch": "a data iterator with a generator of its own that nobody seeded, several workers feeding one queue, or "
    "iteration over a set",
    "negatives": "an unseeded negative sampler; the batches themselves are equal",
    "loss": "equal inputs and equal parameters gave another loss: dropout from an unseeded stream, or a "
    "nondeterministic kernel in the forward pass",
    "gradients": "equal loss, other gradients: a nondeterministic backward (unordered atomic additions on a GPU), or "
    "gradients left over from an earlier step",
    "parameters": "equal gradients, other parameters: optimizer state that differs, or parameters changed outside of "
    "the optimizer's step",
    "rng": "only the global random state differs: evaluation, logging or an import drew from it",
    "length": "one run stopped earlier: early stopping on a metric that differs, or a training set of another size",
}
"""Likely causes when the stage is the first to differ, everything before it being equal."""

_NOTHING = np.array([[0, 0], [0x6001C324468D497F, 0x99AA06D3014798D8]], dtype=np.uint64)
"""Digests of a stage that holds nothing: the tape's mark of absence, and xxh3_128 of no bytes."""

_PER_TENSOR = ("gradients", "parameters")


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence:
    """The first place at which two tapes differ."""

    stage: str
    """A stage of the tape, or ``length`` where one tape ends and the other goes on."""

    step: int
    """The training step, counted from 1; 0 for what happens before the first step."""

    tensor: str = ""
    """The first tensor that differs, for gradients and parameters whose tensors were recorded."""

    num_tensors: int = 0
    """How many tensors differ at that step."""

    @property
    def where(self) -> str:
        """One phrase: ``step 3, negatives`` or ``before step 1, init``."""
        place = f"step {self.step}" if self.step else "before step 1"
        return f"{place}, {self.stage}" + (f", {self.tensor}" if self.tensor else "")

    @property
    def explanation(self) -> str:
        """What the stage is and why it may differ first."""
        meaning = f"{MEANINGS[self.stage]} differ first; " if self.stage in MEANINGS else ""
        return f"{meaning}likely: {CAUSES[self.stage]}"


def tape_of(record: RunRecord) -> dict[str, Array]:
    """The arrays under ``tape/``, by stage; empty when none was recorded."""
    return {name: record[f"tape/{name}"] for name in record.names("tape/")}


def first_divergence(first: Tape, second: Tape, *, tensors: Mapping[str, list[str]] | None = None) -> Divergence | None:
    """The first difference of two tapes in the order in which a step passes through its stages, or None.

    Each tape maps a stage to digests [steps, 2]. A step counts as differing at its earliest stage. Where all common
    steps agree but one tape is longer, the stage is ``length``; a stage that only one tape has differs from the
    start. `tensors` names the parameters of ``gradients/tensors`` and ``parameters/tensors``.
    """
    found = [
        (step, order, stage)
        for order, stage in enumerate(STAGES)
        if (step := _first_step(stage, first.get(stage), second.get(stage))) is not None
    ]
    if found:
        step, _, stage = min(found)
        name, num = _first_tensor(stage, step, first, second, (tensors or {}).get(stage, []))
        return Divergence(stage=stage, step=step, tensor=name, num_tensors=num)
    stepwise = [s for s in STAGES if s in first and s in second and s not in SETUP_STAGES]
    lengths = {len(tape[stage]) for tape in (first, second) for stage in stepwise}
    return Divergence(stage="length", step=min(lengths) + 1) if len(lengths) > 1 else None


def _first_step(stage: str, first: Array | None, second: Array | None) -> int | None:
    offset = 0 if stage in SETUP_STAGES else 1
    if first is None or second is None:
        return None if first is second else offset
    common = min(len(first), len(second))
    differs = (first[:common] != second[:common]).reshape(common, -1).any(axis=1)
    return int(np.argmax(differs)) * offset + offset if differs.any() else None


def _first_tensor(stage: str, step: int, first: Tape, second: Tape, names: list[str]) -> tuple[str, int]:
    key = f"{stage}/tensors"
    if stage not in _PER_TENSOR or key not in first or key not in second:
        return "", 0
    left, right = first[key], second[key]
    if left.shape[1:] != right.shape[1:] or min(len(left), len(right)) < step:
        return "", 0
    differs = (left[step - 1] != right[step - 1]).any(axis=-1)
    if not differs.any():
        return "", 0
    index = int(np.argmax(differs))
    return (names[index] if index < len(names) else f"tensor {index}"), int(differs.sum())


def bit_equal(first: Array, second: Array) -> bool:
    """Whether dtype, shape and every bit agree: NaN equals the same NaN, and 0.0 does not equal -0.0."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if first.dtype.kind in "US":
        return bool(np.array_equal(first, second))
    left, right = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (first, second))
    return bool(np.array_equal(left, right))


def unequal_arrays(first: RunRecord, second: RunRecord) -> list[str]:
    """Keys of arrays that differ in any bit or exist in one record only; timings are left out."""
    keys = sorted({*first.arrays, *second.arrays})
    return [
        key
        for key in keys
        if "timing" not in key.split("/")
        and (key not in first or key not in second or not bit_equal(first[key], second[key]))
    ]


def comparable(first: RunRecord, second: RunRecord) -> list[str]:
    """Why the bits of two runs cannot be compared: differences in spec and environment.

    Which repetition it is, and whether it was interrupted, is no difference: neither may reach the training.
    """
    left, right = first.spec.to_dict(), second.spec.to_dict()
    reasons = [
        f"{key} {left[key]!r} and {right[key]!r}"
        for key in left
        if key not in ("replica", "interrupted_at") and left[key] != right[key]
    ]
    differences = first.environment.differences(second.environment)
    return reasons + [f"{key} {old!r} and {new!r}" for key, (old, new) in sorted(differences.items())]


def reproducible(first: RunRecord, second: RunRecord) -> list[CheckResult]:
    """Whether two runs of one spec in one environment are equal to the last bit, and where they part otherwise.

    Compares the tape, every array and the facts, timings excepted. Different specs or environments are NOT MEASURED.
    """
    subject = first.spec.system
    if reasons := comparable(first, second):
        advice = "train both with the same spec, on the same machine, with the same thread count"
        return [not_measured("reproducible", subject, f"not comparable: {'; '.join(reasons)}", advice=advice)]
    missing = [stage for stage in ("batch", "loss", "parameters") if f"tape/{stage}" not in first]
    if missing or len(first["tape/loss"]) == 0:
        what = f"no tape of {sample(missing)}" if missing else "a tape without steps"
        return [not_measured("reproducible", subject, what, advice="record the run with the tape switched on")]
    return [_bits(subject, first, second), _facts(subject, first, second)]


def _bits(subject: str, first: RunRecord, second: RunRecord) -> CheckResult:
    num_steps, num_arrays = len(first["tape/loss"]), len(first.arrays)
    divergence = first_divergence(tape_of(first), tape_of(second), tensors=first.facts.get("tape"))
    unequal = unequal_arrays(first, second)
    if divergence is None and not unequal:
        return judged(
            "reproducible",
            subject,
            ok=True,
            figure=f"{num_steps} steps and {num_arrays} arrays, all bit-equal",
            expected="every bit equal",
        )
    where = divergence.where if divergence else f"the tapes agree, but {sample(unequal, limit=3)} differ"
    why = divergence.explanation if divergence else "something outside of the training steps differs, e.g. evaluation"
    return judged(
        "reproducible",
        subject,
        ok=False,
        figure=f"first difference: {where}",
        expected="every bit equal",
        limit="0 arrays differ",
        worst=_apart(first, second),
        outside=count_of(len(unequal), num_arrays, f"arrays differ: {sample(unequal)}"),
        detail=why,
        advice="look for what feeds that stage without a seed of the run; the likely causes are above",
    )


def _apart(first: RunRecord, second: RunRecord) -> str:
    """How far apart the runs got: loss curve and final metrics, as largest relative differences."""
    parts = []
    for key in sorted(k for k in first.arrays if k == "loss/total" or k.startswith("metric/")):
        name = key.removeprefix("metric/")
        if key not in second:
            parts.append(f"{name} vanished from the second run")
        elif key == "loss/total":
            parts.append(f"loss apart by up to {percent(_relative(first[key], second[key]))}")
        elif not bit_equal(first[key], second[key]):
            parts.append(f"{name} by {percent(_relative(first[key][-1:], second[key][-1:]))} at the end")
    parts += [f"{name} only in the second run" for name in second.names("metric/") if f"metric/{name}" not in first]
    return "; ".join(parts[:8])


def _relative(first: Array, second: Array) -> float:
    common = min(len(first), len(second))
    if common == 0:
        return 0.0
    left, right = first[:common].astype(np.float64), second[:common].astype(np.float64)
    scale = np.maximum(np.maximum(np.abs(left), np.abs(right)), np.finfo(np.float64).tiny)
    with np.errstate(invalid="ignore"):
        apart = np.where(left == right, 0.0, np.abs(left - right) / scale)
    return float(np.max(apart))


def _facts(subject: str, first: RunRecord, second: RunRecord) -> CheckResult:
    left, right = ({k: v for k, v in record.facts.items() if k != "timing"} for record in (first, second))
    names = sorted(k for k in {*left, *right} if repr(left.get(k)) != repr(right.get(k)))
    inputs = "inputs" in names
    return judged(
        "reproducible/facts",
        subject,
        ok=not names,
        figure="all facts equal" if not names else f"facts differ: {sample(names)}",
        expected="equal inputs, best step and protocol",
        worst="" if not names else f"{names[0]}: {left.get(names[0])!r} and {right.get(names[0])!r}",
        detail="the runs were given different input data" if inputs else "",
        advice="compare the digests of the input files" if inputs else "",
    )


def different_seeds_differ(
    first: RunRecord, second: RunRecord, *, stages: tuple[str, ...] = ("init", "batch", "negatives")
) -> list[CheckResult]:
    """Whether another seed really changes the initial parameters, the batches and the negatives.

    Liveness: a seed that reaches nothing makes every comparison over seeds a comparison of one run with itself. Leave
    out of `stages` what the system does not draw. Runs of the same seed, or of specs that differ otherwise, are NOT
    MEASURED; the environment does not matter.
    """
    left, right = first.spec.to_dict(), second.spec.to_dict()
    other = [k for k in left if k not in ("replica", "seed") and left[k] != right[k]]
    if first.spec.seed == second.spec.seed or other:
        what = f"the specs differ in {sample(other)}" if other else f"both runs have seed {first.spec.seed}"
        return [not_measured("seed_liveness", first.spec.system, f"needs two seeds of one spec, but {what}")]
    return [_alive(stage, first, second) for stage in stages]


def _alive(stage: str, first: RunRecord, second: RunRecord) -> CheckResult:
    check, subject, key = f"seed_liveness/{stage}", first.spec.system, f"tape/{stage}"
    if key not in first or key not in second or min(len(first[key]), len(second[key])) == 0:
        return not_measured(check, subject, f"no tape of {stage}")
    common = min(len(first[key]), len(second[key]))
    if stage == "negatives" and _draws_nothing(first[key]) and _draws_nothing(second[key]):
        return judged(check, subject, ok=True, figure="the system draws no negatives, so none can depend on the seed")
    num = int((first[key][:common] != second[key][:common]).any(axis=1).sum())
    return judged(
        check,
        subject,
        ok=num > 0,
        figure=count_of(num, common, "digests differ" if stage in SETUP_STAGES else "steps differ"),
        expected=f"seeds {first.spec.seed} and {second.spec.seed} give different {stage}",
        limit=">= 1",
        detail="" if num else f"{MEANINGS[stage]} must depend on the seed; here two seeds give the same",
        advice="look for a constant seed, a reseeding in the iterator, or a cache that ignores the seed",
    )


def _draws_nothing(tape: Array) -> bool:
    return bool((tape[:, None, :] == _NOTHING).all(axis=2).any(axis=1).all())
