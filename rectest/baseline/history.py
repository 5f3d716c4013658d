"""How far accepted recordings have carried a system away from its anchor, and the limit of that.

Each accept may be small and well founded, and many of them may still lose what one merge would never be let through
with. So the first recording of a history stays its anchor: drift is measured from it, feature by feature, and on the
final test values it may not exceed what the anchor's own gate promised to catch. A new anchor is a person's decision,
with a reason; where the world changes, nothing is comparable and one starts by itself. Other settings are no reason: a
recording under them, and one back under the old ones, would carry any loss past the cap.

Which bits of an older recording stay is `store.merge`; who asks and what is printed belongs to `update` and `diff`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rectest.baseline.ensemble import centre
from rectest.baseline.features import higher_is_better
from rectest.baseline.looks import promised_drop
from rectest.baseline.schema import Accepted, Baseline
from rectest.baseline.store import merge, same_ensemble
from rectest.errors import UpdateRefused

__all__ = ["Drift", "accepted_now", "continued", "drift_of", "history_after", "refusal_of", "why_new_anchor"]

CAPPED = "test/"
"""Features whose drift is capped: the final values that people gate on. The others are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """How far one feature is from where it was when its history began."""

    feature: str
    anchor: float
    """Geometric mean over the seeds in the first recording that has the feature."""

    now: float | None
    """The same of the last recording; None where it no longer has the feature."""

    cap: float | None
    """Largest relative change for the worse that is let through; None for features that are only shown."""

    @property
    def relative(self) -> float | None:
        """The change since the anchor as a fraction of it."""
        return None if self.now is None else self.now / self.anchor - 1

    @property
    def exceeded(self) -> bool:
        """Whether too much was lost, or the feature itself."""
        if self.cap is None:
            return False
        return self.relative is None or (-1 if higher_is_better(self.feature) else 1) * self.relative > self.cap


def accepted_now(baseline: Baseline) -> Accepted:
    """The entry of the history that this recording is; its promise is the declared one, or computed where none is."""
    origin, values = baseline.provenance, baseline.ensemble.features
    declared = {} if baseline.declared is None else baseline.declared.mdd
    return Accepted(
        date=origin.date,
        commit=origin.commit,
        reason=origin.reason,
        means={name: centre(values[name]) for name in values},
        mdd={name: declared[name] if name in declared else promised_drop(baseline, name) for name in values},
    )


def drift_of(history: tuple[Accepted, ...]) -> tuple[Drift, ...]:
    """The drift of every feature of a history since the recording that had it first, sorted by feature."""
    found: dict[str, Drift] = {}
    for entry in reversed(history):
        for name, mean in entry.means.items():
            later = found[name].cap if name in found else None
            cap = entry.mdd.get(name, later) if name.startswith(CAPPED) else None
            found[name] = Drift(feature=name, anchor=mean, now=history[-1].means.get(name), cap=cap)
    return tuple(found[name] for name in sorted(found))


def continued(old: Baseline | None, new: Baseline, *, new_anchor: bool = False) -> Baseline:
    """`new` as the next recording after `old`: with its history, and the bits that are still about the same training.

    For ``store.save(new, combine=continued)``, which calls it under the lock: two writers then continue one another,
    and neither loses the other's entry.

    Args:
        old: What is stored, or None where nothing is or where it cannot be read.
        new: A whole recording; a history of its own (of a folder of candidates) does not count.
        new_anchor: Begin a history with `new`, whatever was lost since the old anchor.

    Raises:
        UpdateRefused: a final test value would have lost more since the anchor than the anchor promised to catch, or
            would be gone.
    """
    history = history_after(old, new, new_anchor=new_anchor)
    refusal = refusal_of(new, history)
    if refusal:
        raise UpdateRefused(refusal)
    if old is None:
        return new.model_copy(update={"history": history})
    return merge(old, new).model_copy(update={"history": history})


def history_after(old: Baseline | None, new: Baseline, *, new_anchor: bool = False) -> tuple[Accepted, ...]:
    """The history that `continued` gives, whether it may be or not."""
    if old is None or new_anchor or why_new_anchor(old, new):
        return (accepted_now(new),)
    return _history(old) if same_ensemble(old, new) else (*_history(old), accepted_now(new))


def why_new_anchor(old: Baseline, new: Baseline) -> str:
    """Why drift cannot be measured across this change, in words; empty where it can."""
    return "the world changed" if old.world_digest != new.world_digest else ""


def refusal_of(new: Baseline, history: tuple[Accepted, ...]) -> str:
    """Why `new` may not be the last recording of this history, in words; empty where it may."""
    over = [each for each in drift_of(history) if each.exceeded]
    if not over:
        return ""
    steps = f"{len(history) - 1} accepted recording{'s' if len(history) != 2 else ''}"
    return (
        f"{new.name} ({new.env_class}): {'; '.join(_lost(each) for each in over)}; that is since the anchor of "
        f"{history[0].date} ({history[0].reason}), over {steps}, and together they may not lose unseen what one merge "
        "may not: if it is intended, begin a new anchor and say why (--new-anchor --reason, in pytest "
        "--rectest-new-anchor)"
    )


def _lost(drift: Drift) -> str:
    if drift.relative is None:
        return f"{drift.feature} is gone (it was {drift.anchor:.6g})"
    return (
        f"{drift.feature} went from {drift.anchor:.6g} to {drift.now:.6g} ({100 * drift.relative:+.3g} %), "
        f"the anchor promised to catch {100 * (drift.cap or 0):.3g} %"
    )


def _history(baseline: Baseline) -> tuple[Accepted, ...]:
    """The stored history, whose last entry is this recording; older files have none, or no promises in it."""
    if not baseline.history:
        return (accepted_now(baseline),)
    *earlier, last = baseline.history
    if last.mdd.keys() != last.means.keys():
        last = last.model_copy(update={"mdd": accepted_now(baseline).mdd})
    return (*earlier, last)
