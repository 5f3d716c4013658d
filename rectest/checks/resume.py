"""Resume: a run that was interrupted and taken up again from its checkpoint must equal the uninterrupted one.

Whatever the checkpoint forgets shows at the first step after it: moments of the optimizer, a schedule's counter, the
state of a generator, the place in the stream of batches. Owns the comparison only; who interrupts, and that the
second record really was resumed, is the caller's business.
"""

from __future__ import annotations

from rectest.checks.reproducible import comparable, first_divergence, tape_of, unequal_arrays
from rectest.checks.result import CheckResult, count_of, judged, not_measured, sample
from rectest.record import RunRecord

__all__ = ["FORGOTTEN", "resumed"]

FORGOTTEN = {
    "id_map": "ids were assigned anew, in another order",
    "init": "the resumed run did not start from the same model",
    "batch": "the place in the stream of batches: they start over, or are drawn from a generator that was not put back",
    "negatives": "the sampler's generator, or its step for a curriculum",
    "loss": "something in the model that is no parameter or buffer (dropout's generator, memory, a temperature), or "
    "the best weights were loaded instead of the last",
    "gradients": "gradients that were accumulated, or a scaler's state",
    "parameters": "the optimizer: its moments, its step, or the learning rate of a schedule",
    "rng": "the states of the global generators",
    "length": "early stopping: its best value and its misses so far, or the number of steps already done",
}
"""What a checkpoint lacks when the stage is the first to differ."""


def resumed(full: RunRecord, resumed: RunRecord) -> list[CheckResult]:
    """Whether a resumed run equals the uninterrupted one in every array, to the last bit (``resume/bits``).

    Both are whole records: what was recorded before the interruption is part of the resumed one. Other specs or
    environments, and runs without a tape, are NOT MEASURED.
    """
    check, subject = "resume/bits", full.spec.system
    if reasons := comparable(full, resumed):
        advice = "resume on the same machine with the same spec"
        return [not_measured(check, subject, f"not comparable: {'; '.join(reasons)}", advice=advice)]
    missing = [stage for stage in ("batch", "loss", "parameters") if f"tape/{stage}" not in full]
    if missing or not len(full["tape/loss"]):
        what = f"no tape of {sample(missing)}" if missing else "a tape without steps"
        return [not_measured(check, subject, what, advice="record the run with the tape switched on")]
    unequal = unequal_arrays(full, resumed)
    found = first_divergence(tape_of(full), tape_of(resumed), tensors=full.facts.get("tape"))
    where = found.where if found else f"the tapes agree, but {sample(unequal, limit=3)} differ"
    steps = f"{len(full['tape/loss'])} steps and {len(full.arrays)} arrays"
    return [
        judged(
            check,
            subject,
            ok=not unequal,
            figure=f"{steps}, all bit-equal" if not unequal else f"first difference: {where}",
            expected="every array bit-equal to the uninterrupted run",
            limit="0 arrays differ",
            outside=count_of(len(unequal), len(full.arrays), f"arrays differ: {sample(unequal)}") if unequal else "",
            detail=f"the checkpoint forgets {FORGOTTEN[found.stage]}" if found else _why_outside(unequal),
            advice="keep what training carries from step to step in the model's or the optimizer's state_dict",
        )
    ]


def _why_outside(unequal: list[str]) -> str:
    """Words for arrays that differ although every step is the same."""
    if not unequal:
        return ""
    return "what was recorded before the interruption is lost or counted twice, or the best weights were forgotten"
