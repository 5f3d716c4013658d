"""`Recorder`: what training code tells while it runs, and the `RunRecord` made of it.

The loop of the reference systems uses it, and so does a user's own training function:

    def train(run):                       # run: Recorder
        model = make_model(seed=run.seeds.seed("init"))
        run.start(model, id_maps={"item": raw_ids})
        for batch in batches:
            ...
            run.step(loss=loss, batch=batch, model=model)
        run.metrics("test", {"recall@10": recall})

It copies what it is given (digests of big things) and never changes it.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rectest.environment import Environment
from rectest.errors import TrainingError
from rectest.metrics.measure import Measure
from rectest.metrics.ranking import evaluate
from rectest.metrics.ranks import Ranks
from rectest.record import RunRecord, RunSpec
from rectest.seeding import SeedPlan
from rectest.training.tape import Digest, Tape, digest_bytes, digest_random_states, digest_tensor, digest_tensors

__all__ = ["Recorder"]

_EMPTY_BATCH: Digest = (0, 0)


class Recorder:
    """Collects one run; `finish` turns it into a record."""

    def __init__(self, spec: RunSpec, environment: Environment) -> None:
        self.spec = spec
        self.environment = environment
        self.seeds = SeedPlan(root=spec.seed)
        """Named streams: draw batches from ``run.seeds.rng("batches")``, negatives from another."""

        self.config: dict[str, Any] = dict(spec.config)
        self.device = torch.device(spec.device)
        self.facts: dict[str, Any] = {"gate": {"metrics": []}, "tables": {}, "protocol": {}, "timing": {}}
        self.tape = Tape()
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        self._losses: dict[str, list[float]] = {}
        self._scalars: dict[str, list[float]] = {}
        self._evaluations: dict[str, list[float]] = {}
        self._eval_steps: list[int] = []
        self._clock = time.perf_counter()

    @property
    def num_steps(self) -> int:
        """Steps recorded so far."""
        return len(self._losses.get("total", ()))

    def start(self, model: nn.Module | None = None, *, id_maps: Mapping[str, Sequence[Any]] | None = None) -> None:
        """Mark the start of training: the id maps by id space (raw ids by dense index) and the fresh parameters."""
        maps = {space: np.array([str(raw) for raw in raws], dtype=np.str_) for space, raws in (id_maps or {}).items()}
        self._arrays.update({f"idmap/{space}": raws for space, raws in maps.items()})
        self.tape.mark("id_map", digest_bytes(repr([(k, maps[k].tolist()) for k in sorted(maps)]).encode()))
        if model is not None:
            self.tape.mark("init", digest_tensors(dict(model.named_parameters()) | dict(model.named_buffers())))
        self.mark_time("prepared")

    def step(
        self,
        *,
        loss: Tensor | float | Mapping[str, Tensor],
        batch: Tensor | Mapping[str, Any] | None = None,
        negatives: Tensor | Mapping[str, Any] | None = None,
        model: nn.Module | None = None,
        scalars: Mapping[str, float] | None = None,
    ) -> None:
        """Record one optimizer step, after it was taken and before gradients are cleared.

        Args:
            loss: the loss, or named components of which ``total`` was differentiated.
            batch: what the step was taken on; digested, not kept.
            negatives: sampled negatives, when they are not part of the batch.
            model: where gradients and parameters are read.
            scalars: values worth a curve.

        Raises:
            TrainingError: a loss is NaN or infinite; nothing after it would mean anything.
        """
        values = {name: _as_float(value) for name, value in _as_mapping(loss, "total").items()}
        self._require_finite(values)
        for name, value in values.items():
            self._losses.setdefault(name, []).append(value)
        for name, value in (scalars or {}).items():
            self._scalars.setdefault(name, []).append(float(value))
        self.tape.mark("batch", _EMPTY_BATCH if batch is None else digest_tensors(_as_mapping(batch, "batch")))
        if negatives is not None:
            self.tape.mark("negatives", digest_tensors(_as_mapping(negatives, "negatives")))
        self.tape.mark("loss", digest_tensors({name: np.float64(value) for name, value in values.items()}))
        if model is not None:
            parameters = list(model.named_parameters())
            gradients = [(name, parameter.grad) for name, parameter in parameters]
            if self.num_steps == 1:
                self._keep_gradients(gradients)
            self.tape.mark_tensors("gradients", gradients)
            self.tape.mark_tensors("parameters", parameters)
        self.tape.mark("rng", digest_random_states())

    def evaluation(self, split: str, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Record one evaluation of `split` (a curve point), by measure: ``{"recall@10": 0.2}``.

        Raises:
            UnknownNameError: a key is no measure rectest knows.
            TrainingError: a value is NaN or infinite, or a measure of earlier evaluations is missing.
        """
        at = self.num_steps if step is None else step
        if split == "valid" and (not self._eval_steps or self._eval_steps[-1] != at):
            self._eval_steps.append(at)
        for name, value in metrics.items():
            key = f"metric/{split}/{Measure.parse(name)}"
            if not math.isfinite(value):
                msg = f"{split}/{name} is {value} at step {at}; a metric must be a finite number"
                raise TrainingError(msg)
            self._evaluations.setdefault(key, []).append(float(value))

    def metrics(self, split: str, metrics: Mapping[str, float], *, gate: bool = True) -> None:
        """Record the final metrics of `split`; with `gate` they are what the merge gate compares."""
        self.evaluation(split, metrics)
        if gate:
            self.facts["gate"]["metrics"] = sorted(str(Measure.parse(name)) for name in metrics)

    def ranks(self, split: str, ranks: Ranks, *, kind: str = "full") -> None:
        """Keep the ranks behind the last evaluation of `split`, so that judges can compute its metrics anew.

        Args:
            kind: ``full`` (the whole catalogue is ranked) or ``sampled`` (1 + N candidates): the two never compare.
        """
        self._arrays.update(ranks.to_arrays(f"ranks/{split}"))
        self.facts["protocol"][split] = _protocol(ranks, kind)

    def ranked(self, split: str, ranks: Ranks, measures: Sequence[str], *, kind: str = "full") -> dict[str, float]:
        """Record the final ranks of `split` and the metrics computed from them; return the metrics."""
        values = evaluate(ranks, measures)
        self.ranks(split, ranks, kind=kind)
        self.evaluation(split, values)
        return values

    def table(
        self,
        name: str,
        weight: Tensor | npt.NDArray[Any],
        *,
        initial: bool = False,
        space: str = "item",
        padding_row: int | None = None,
        norm: float | None = None,
        moves_untouched: bool = False,
    ) -> None:
        """Record an embedding table [rows, embedding_size], final or `initial`, and what it promises."""
        value = weight.detach().cpu().float().numpy() if isinstance(weight, Tensor) else np.asarray(weight, np.float32)
        self._arrays[f"table_init/{name}" if initial else f"table/{name}"] = value.copy()
        promises = {"space": space, "padding_row": padding_row, "norm": norm, "moves_untouched": moves_untouched}
        self.facts["tables"][name] = promises

    def array(self, key: str, value: npt.ArrayLike) -> None:
        """Record any other array under one of the documented keys, e.g. ``rows/item`` or ``popularity/item``."""
        self._arrays[key] = np.asarray(value)

    def mark_time(self, name: str) -> None:
        """Seconds since the last mark (or since the recorder was made), under `name`."""
        now = time.perf_counter()
        self.facts["timing"][name] = now - self._clock
        self._clock = now

    def finish(self) -> RunRecord:
        """The record of everything told so far.

        Raises:
            TrainingError: nothing was recorded at all; an empty run must not look like a good one.
        """
        if not self._losses and not self._evaluations:
            msg = f"{self.spec.describe()} recorded no step and no metric; call run.step(...) and run.metrics(...)"
            raise TrainingError(msg)
        self.facts["tape"] = self.tape.names
        self.facts["timing"]["peak_rss_mib"] = _peak_rss_mib()
        arrays: dict[str, npt.NDArray[Any]] = dict(self._arrays)
        arrays.update(self.tape.arrays())
        arrays["eval/steps"] = np.array(self._eval_steps, dtype=np.int64)
        for prefix, series in (("loss/", self._losses), ("counter/", self._scalars), ("", self._evaluations)):
            arrays.update({f"{prefix}{name}": np.array(values, dtype=np.float64) for name, values in series.items()})
        return RunRecord(spec=self.spec, environment=self.environment, arrays=arrays, facts=self.facts)

    def _require_finite(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                msg = (
                    f"loss {name!r} is {value} at step {self.num_steps + 1}; "
                    "look at the learning rate and at the first step whose gradients are not finite"
                )
                raise TrainingError(msg)

    def _keep_gradients(self, gradients: Sequence[tuple[str, Tensor | None]]) -> None:
        for name, gradient in gradients:
            if gradient is not None:
                dense = gradient.to_dense() if gradient.layout != torch.strided else gradient
                self._arrays[f"grad/{name}"] = dense.detach().cpu().float().numpy().copy()

    def count_parameters(self, model: nn.Module) -> None:
        """Record how many parameters the model has and how many of them train."""
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
        self.facts["parameters"] = {
            "total": sum(size for size, _ in sizes),
            "trainable": sum(size for size, trains in sizes if trains),
        }

    def digest_of(self, model: nn.Module) -> str:
        """A digest of all parameters and buffers, to show which weights an evaluation used."""
        low, high = digest_tensors({k: digest_tensor(v) for k, v in model.state_dict().items()})
        return f"{high:016x}{low:016x}"


def _as_mapping(value: Any, name: str) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {name: value}


def _as_float(value: Tensor | float) -> float:
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


def _protocol(ranks: Ranks, kind: str) -> dict[str, Any]:
    per_user = ranks.num_relevant
    return {
        "kind": kind,
        "num_users": ranks.num_users,
        "num_scored": int((per_user > 0).sum()),
        "num_relevant": len(ranks.user),
        "single_relevant": bool((per_user <= 1).all()),
        "num_candidates_mean": float(ranks.num_candidates.mean()) if len(ranks.user) else 0.0,
    }


def _peak_rss_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / (1024 * 1024 if sys.platform == "darwin" else 1024))
