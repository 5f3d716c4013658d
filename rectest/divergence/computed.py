"""Suspects that compute another result from equal numbers: settings that differ, threads, kernels."""

from __future__ import annotations

from collections.abc import Iterator

from rectest.divergence import upstream
from rectest.divergence.align import Symptom
from rectest.divergence.case import ARITHMETIC, Case, Suspect
from rectest.divergence.finding import Cause
from rectest.divergence.nondeterministic import FUNCTIONS, kernels_of

__all__ = ["arithmetic", "environment"]


def environment(case: Case) -> Iterator[Suspect]:
    symptom = case.symptom
    if symptom is None:
        return
    rank = 14.0 if symptom.kind in ARITHMETIC else 26.0
    for cause in upstream.environment(case.tapes, case.limits):
        yield Suspect(rank=rank, cause=cause, setting=True)


def arithmetic(case: Case) -> Iterator[Suspect]:
    """What may compute another result from equal numbers."""
    symptom = case.symptom
    if symptom is None or symptom.kind not in ARITHMETIC or symptom.kind in ("optimizer", "parameter", "weights"):
        return
    limit = case.limits[0]
    deterministic = bool(upstream.setting(case.tapes[0], limit, "deterministic"))
    on_gpu = upstream.setting(case.tapes[0], limit, "device") not in (None, "", "cpu")
    if on_gpu and not deterministic:
        yield Suspect(rank=27.0, cause=_kernel(case, symptom))
    threads = upstream.setting(case.tapes[0], limit, "threads")
    if isinstance(threads, int) and threads > 1 and not on_gpu:
        what = f"sums are split over {threads} threads, and rounding depends on the split"
        advice = "call torch.set_num_threads(1), or accept differences of this size"
        yield Suspect(rank=30.5, cause=Cause(kind="threads", what=what, advice=advice, pin="threads"))


def _kernel(case: Case, symptom: Symptom) -> Cause:
    backward = symptom.kind not in ("forward", "loss")
    forwards = case.pair.events(symptom.step, "forward")[0]
    if symptom.kind == "forward":
        types = [str(symptom.first.info.get("type", ""))] if symptom.first else []
    else:
        types = [str(event.info.get("type", "")) for event in forwards]
    kernels = kernels_of(types, backward=backward)
    some = [name for name, when in FUNCTIONS.items() if backward or when == "both"][:6]
    if kernels:
        what = f"a kernel that torch lists as nondeterministic on CUDA: {', '.join(kernels)}"
    else:
        what = f"a CUDA kernel adds in an order that changes; torch lists {', '.join(some)} among others"
    return Cause(
        kind="kernel",
        what=what,
        step=symptom.step,
        process=symptom.process,
        advice="call torch.use_deterministic_algorithms(True) and set CUBLAS_WORKSPACE_CONFIG=:4096:8",
        pin="deterministic",
    )
