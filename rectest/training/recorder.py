"""`Recorder`: what training code tells while it runs, and the `RunRecord` made of it.

The loop of the reference systems uses it, and so does a user's own training function:

    def train(run):                       # run: Recorder
        model = make_model(seed=run.seeds.seed("init"))
        run.start(model, id_maps={"item": raw_ids})
        for batch in batches:
            ...
            run.step(loss=loss, batch=batch, model=model)
        run.metrics("test", {"recall@10": recall})

It copies what it is given (digests of big things) and never changes it. What makes no sense is refused at once.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rectest.data.world import World
from rectest.data.worlds import load_world
from rectest.environment import Environment
from rectest.errors import TrainingError
from rectest.metrics.measure import Measure
from rectest.metrics.ranking import evaluate, per_user
from rectest.metrics.ranks import Ranks
from rectest.record import RunRecord, RunSpec
from rectest.seeding import SeedPlan
from rectest.training.curves import Curves
from rectest.training.determinism import peak_rss_mib
from rectest.training.settings import ReadSettings
from rectest.training.tape import Digest, Tape, digest_bytes, digest_random_states, digest_tensor, digest_tensors
from rectest.training.values import as_array, as_float, as_mapping, first_values, protocol_of

__all__ = ["Recorder"]

_EMPTY_BATCH: Digest = (0, 0)

_AFTER_START = ("rows/", "grad/", "ranks/", "users/")
"""Arrays that grow while a run goes on; the others are recorded at its start or at its end."""

_WRITTEN_BY = {
    "counter": "step(scalars=...)",
    "eval": "evaluation",
    "idmap": "start(id_maps=...)",
    "init": "start(model)",
    "loss": "step(loss=...)",
    "metric": "evaluation or metrics",
    "ranks": "ranks",
    "table": "table",
    "table_init": "table(initial=True)",
    "tape": "step",
    "users": "ranks(measures=...)",
}
"""First part of an array's key to the method that writes it."""


class Recorder:
    """Collects one run; `finish` turns it into a record."""

    def __init__(self, spec: RunSpec, environment: Environment) -> None:
        self.spec = spec
        self.environment = environment
        self.seeds = SeedPlan(root=spec.seed)
        """Named streams: draw batches from ``run.seeds.rng("batches")``, negatives from another."""

        self.config = ReadSettings(spec.config)
        self.device = torch.device(spec.device)
        self.facts: dict[str, Any] = {"gate": {"metrics": []}, "tables": {}, "protocol": {}, "timing": {}}
        self.tape = Tape()
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        self._losses: dict[str, list[float]] = {}
        self._scalars: dict[str, list[float]] = {}
        self._curves = Curves()
        self._clock = time.perf_counter()

    def load_world(self, default: str = "") -> World:
        """The world that was asked for, else the one called `default`; the record keeps its digest.

        Raises:
            UnknownNameError: neither is a world.
        """
        world = load_world(self.spec.world or default)
        self.facts.setdefault("inputs", {}).update(world=world.digest, source=world.source)
        self.facts["world"] = world.name
        return world

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
            self._arrays["init/first"] = first_values(model)
        self.mark_time("prepared")

    def step(
        self,
        *,
        loss: Tensor | float | Mapping[str, Tensor],
        batch: Tensor | Mapping[str, Any] | None = None,
        negatives: Tensor | Mapping[str, Any] | None = None,
        model: nn.Module | None = None,
        scalars: Mapping[str, float] | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Record one optimizer step, after it was taken and before gradients are cleared.

        Args:
            loss: the loss, or named components of which ``total`` was differentiated.
            batch: what the step was taken on; digested, not kept.
            negatives: sampled negatives, when they are not part of the batch.
            model: where gradients and parameters are read.
            scalars: values worth a curve.
            rows: by table, the rows that took part in the step, of any shape; how often each did is kept.

        Raises:
            ValueError: a loss is no scalar, none of its components is called ``total``, or a table has no such row.
            TypeError: the batch holds something without a digest; see `digest_tensors`.
            TrainingError: a loss is NaN or infinite (nothing after it would mean anything), or other components than
                at the first step.
        """
        values = {name: as_float(value, name) for name, value in as_mapping(loss, "total").items()}
        self._require_components(values)
        self._require_finite(values)
        for name, value in values.items():
            self._losses.setdefault(name, []).append(value)
        for name, value in (scalars or {}).items():
            self._scalars.setdefault(name, []).append(float(value))
        for name, indices in (rows or {}).items():
            self._count_rows(name, indices)
        self.tape.mark("batch", _EMPTY_BATCH if batch is None else digest_tensors(as_mapping(batch, "batch")))
        if negatives is not None:
            self.tape.mark("negatives", digest_tensors(as_mapping(negatives, "negatives")))
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

        Several calls at one step add measures to one point.

        Args:
            step: where the point stands on the curve; the steps recorded so far by default.

        Raises:
            UnknownNameError: a key is no measure rectest knows.
            TrainingError: a value is NaN or infinite, the step lies before the last one, a measure has two values at
                one step, or is missing from an evaluation (found at the next step or in `finish`).
        """
        self._curves.add(split, metrics, step=self.num_steps if step is None else step)

    def metrics(self, split: str, metrics: Mapping[str, float], *, gate: bool = True) -> None:
        """Record the final metrics of `split`; with `gate` the merge gate compares these measures of ``test``."""
        self.evaluation(split, metrics)
        if gate:
            names = {str(Measure.parse(name)) for name in metrics}
            self.facts["gate"]["metrics"] = sorted({*self.facts["gate"]["metrics"], *names})

    def ranks(self, split: str, ranks: Ranks, *, kind: str = "full", measures: Sequence[str] = ()) -> None:
        """Keep the ranks behind the last evaluation of `split`, so that judges can compute its metrics anew.

        Args:
            kind: ``full`` (the whole catalogue is ranked) or ``sampled`` (1 + N candidates): the two never compare.
            measures: of these the values of each user are kept, for each evaluation: they tell how much of the noise
                between seeds is noise of users, who must be the same each time.
        """
        self._arrays.update(ranks.to_arrays(f"ranks/{split}"))
        self.facts["protocol"][split] = protocol_of(ranks, kind)
        for measure in measures:
            self._keep_users(f"users/{split}/{Measure.parse(measure)}", per_user(ranks, measure))

    def ranked(
        self, split: str, ranks: Ranks, measures: Sequence[str], *, kind: str = "full", gate: bool = True
    ) -> dict[str, float]:
        """Record the final ranks of `split` and the metrics computed from them; return the metrics.

        With `gate` those metrics are what the merge gate compares.
        """
        values = evaluate(ranks, measures)
        self.ranks(split, ranks, kind=kind, measures=measures if gate else ())
        self.metrics(split, values, gate=gate)
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
        frozen: bool = False,
    ) -> None:
        """Record an embedding table [rows, embedding_size], final or `initial`, and what it promises.

        What is promised with the final table counts, whichever of the two is recorded first.

        Raises:
            ValueError: the table does not have two dimensions.
        """
        value = as_array(weight).astype(np.float32)
        if value.ndim != 2:
            msg = f"table {name!r} has shape {value.shape}, [rows, embedding_size] was needed"
            raise ValueError(msg)
        self._arrays[f"table_init/{name}" if initial else f"table/{name}"] = value
        promises = {"space": space, "padding_row": padding_row, "norm": norm, "moves_untouched": moves_untouched}
        promises["frozen"] = frozen
        if not initial or name not in self.facts["tables"]:
            self.facts["tables"][name] = promises

    def popularity(self, counts: npt.ArrayLike, *, space: str = "item") -> None:
        """Record how often each id was seen in training, [V+1] by dense index: what popular means to the checks."""
        self.array(f"popularity/{space}", np.asarray(counts, dtype=np.int64))

    def array(self, key: str, value: Tensor | npt.ArrayLike) -> None:
        """Record any other array under one of the documented keys, e.g. ``rows/item`` or ``popularity/item``.

        Raises:
            ValueError: the key belongs to another method or is taken already, or the array holds Python objects.
        """
        array = as_array(value)
        method = _WRITTEN_BY.get(key.partition("/")[0])
        problem = f"is written by run.{method}" if method else "is recorded already" if key in self._arrays else ""
        problem = problem or ("holds Python objects, numbers or texts were needed" if array.dtype.kind == "O" else "")
        if problem:
            msg = f"array {key!r} {problem}"
            raise ValueError(msg)
        self._arrays[key] = array

    def mark_time(self, name: str) -> None:
        """Seconds since the last mark (or since the recorder was made), under `name`."""
        now = time.perf_counter()
        self.facts["timing"][name] = now - self._clock
        self._clock = now

    def finish(self) -> RunRecord:
        """The record of everything told so far.

        Raises:
            TrainingError: nothing was recorded at all (an empty run must not look like a good one), or the last
                evaluation lacks a measure that earlier ones had.
        """
        self._curves.require_whole()
        if not self._losses and not self._curves:
            msg = f"{self.spec.describe()} recorded no step and no metric; call run.step(...) and run.metrics(...)"
            raise TrainingError(msg)
        self.facts["tape"] = self.tape.names
        self.facts["timing"]["peak_rss_mib"] = peak_rss_mib()
        arrays: dict[str, npt.NDArray[Any]] = dict(self._arrays)
        arrays.update({**self.tape.arrays(), **self._curves.arrays()})
        for prefix, series in (("loss/", self._losses), ("counter/", self._scalars)):
            arrays.update({f"{prefix}{name}": np.array(values, dtype=np.float64) for name, values in series.items()})
        return RunRecord(spec=self.spec, environment=self.environment, arrays=arrays, facts=self.facts)

    def _require_components(self, values: Mapping[str, float]) -> None:
        if "total" not in values:
            msg = (
                f"the loss has components {', '.join(values) or 'none'}; the one that is differentiated must be 'total'"
            )
            raise ValueError(msg)
        if self._losses and values.keys() != self._losses.keys():
            msg = (
                f"the loss has components {', '.join(sorted(values))} at step {self.num_steps + 1}, earlier "
                f"{', '.join(sorted(self._losses))}; give every component at every step"
            )
            raise TrainingError(msg)

    def _require_finite(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                msg = (
                    f"loss {name!r} is {value} at step {self.num_steps + 1}; "
                    "look at the learning rate and at the first step whose gradients are not finite"
                )
                raise TrainingError(msg)

    def _count_rows(self, name: str, indices: Tensor) -> None:
        key = f"table_init/{name}"
        if key not in self._arrays:
            msg = f"rows of table {name!r} are counted, but run.table({name!r}, ..., initial=True) was never called"
            raise TrainingError(msg)
        counts = self._arrays.setdefault(f"rows/{name}", np.zeros(len(self._arrays[key]), dtype=np.int64))
        flat = as_array(indices).reshape(-1)
        if flat.size and not 0 <= flat.min() <= flat.max() < len(counts):
            msg = f"rows {flat.min()} to {flat.max()} of table {name!r} took part in a step, it has {len(counts)} rows"
            raise ValueError(msg)
        counts += np.bincount(flat, minlength=len(counts))

    def _keep_users(self, key: str, values: npt.NDArray[np.float64]) -> None:
        rows = self._arrays.get(key, np.zeros((0, len(values)), np.float32))
        if rows.shape[1] != len(values):
            msg = f"{key} has {rows.shape[1]} users, and {len(values)} at step {self.num_steps}; evaluate the same"
            raise TrainingError(msg)
        self._arrays[key] = np.concatenate([rows, values.astype(np.float32)[None]])

    def _keep_gradients(self, gradients: Sequence[tuple[str, Tensor | None]]) -> None:
        for name, gradient in gradients:
            if gradient is not None:
                self._arrays[f"grad/{name}"] = as_array(gradient).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Everything told since `start`, as plain values and tensors that a checkpoint may hold."""
        later = {key: value for key, value in self._arrays.items() if key.startswith(_AFTER_START)}
        return {
            "losses": {name: list(values) for name, values in self._losses.items()},
            "scalars": {name: list(values) for name, values in self._scalars.items()},
            "curves": self._curves.state(),
            "tape": self.tape.state(),
            "arrays": {key: torch.from_numpy(value.copy()) for key, value in later.items()},
            "facts": {key: self.facts[key] for key in ("evaluation", "protocol") if key in self.facts},
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, after `start` was called anew."""
        self._losses = {name: list(values) for name, values in state["losses"].items()}
        self._scalars = {name: list(values) for name, values in state["scalars"].items()}
        self._curves = Curves.from_state(state["curves"])
        self.tape = Tape.from_state(state["tape"])
        self._arrays.update({key: value.numpy() for key, value in state["arrays"].items()})
        self.facts.update(copy.deepcopy(dict(state["facts"])))

    def digest_of(self, model: nn.Module) -> str:
        """A digest of all parameters and buffers, to show which weights an evaluation used."""
        low, high = digest_tensors({k: digest_tensor(v) for k, v in model.state_dict().items()})
        return f"{high:016x}{low:016x}"
