"""Probes: small experiments on the trained model whose outcome must not depend on what they vary.

Made once, at the end of a run, with the weights that were tested: scoring in every mode, alone and in company, with
more padding, and part by part. Only the outcome is recorded; what is allowed is the business of the checks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rectest.metrics.ranking import evaluate
from rectest.systems.protocol import EvalSet, System
from rectest.training.determinism import preserved_random_states
from rectest.training.evaluate import count_ranks
from rectest.training.recorder import Recorder

__all__ = ["probe"]

USERS = 48
"""Users of the experiments that score the same thing twice."""

EXTRA_PADDING = 3


def probe(system: System[Any], model: nn.Module, eval_set: EvalSet, run: Recorder) -> None:
    """Make every experiment and keep its outcome in ``facts["probes"]``; the model is left as it was found."""
    with _restored(model), preserved_random_states():
        rows = slice(0, min(USERS, len(eval_set)))
        found: dict[str, Any] = {
            "modes": _modes(system, model, eval_set, rows),
            "blocks": _blocks(system, model, eval_set, rows),
        }
        padded = _padding(system, model, eval_set, rows)
        parts = _components(system, model, eval_set)
        run.facts["probes"] = found | ({"padding": padded} if padded else {}) | ({"components": parts} if parts else {})


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Scoring in training mode may draw dropout masks and move buffers; afterwards nothing of it is left."""
    was_training, state = model.training, copy.deepcopy(model.state_dict())
    owned = [v for m in model.modules() for v in vars(m).values() if isinstance(v, torch.Generator)]
    generators = [(generator, generator.get_state()) for generator in owned]
    try:
        yield
    finally:
        model.load_state_dict(state)
        model.train(was_training)
        for generator, drawn in generators:
            generator.set_state(drawn)


def _modes(system: System[Any], model: nn.Module, eval_set: EvalSet, rows: slice) -> dict[str, Any]:
    """Scores that are not finite in training and evaluation mode, with gradients and without.

    Fused kernels are chosen by mode: a fully masked row may be NaN in one of the four and in no other. A mode in
    which scoring raises has no score at all; what it said is under ``errors``.
    """
    found: dict[str, Any] = {}
    for mode in ("train", "eval"):
        for grad in (True, False):
            name = f"{mode}/{'grad' if grad else 'no_grad'}"
            model.train(mode == "train")
            try:
                with torch.set_grad_enabled(grad):
                    scores = system.score(model, eval_set, rows).detach()
            except RuntimeError as e:
                found.setdefault("errors", {})[name] = str(e).splitlines()[0]
                continue
            real = scores if eval_set.candidates is not None else scores[:, 1:]
            found[name] = int((~torch.isfinite(real)).sum())
            found["num_scores"] = real.numel()
    return found | dict.fromkeys(found.get("errors", ()), found.get("num_scores", 1))


def _blocks(system: System[Any], model: nn.Module, eval_set: EvalSet, rows: slice) -> dict[str, float]:
    """The same users scored in one block and one by one."""
    together = _scored(system, model, eval_set, rows)
    alone = torch.cat([_scored(system, model, eval_set, slice(i, i + 1)) for i in range(rows.start, rows.stop)])
    return _apart(together, alone)


def _padding(system: System[Any], model: nn.Module, eval_set: EvalSet, rows: slice) -> dict[str, float]:
    """The same users with more padding before their inputs; empty where nothing is left-padded."""
    wider = system.left_padded(eval_set, EXTRA_PADDING)
    if wider is None:
        return {}
    plain, padded = (_scored(system, model, known, rows) for known in (eval_set, wider))
    return {**_apart(plain, padded), "extra": EXTRA_PADDING}


def _components(system: System[Any], model: nn.Module, eval_set: EvalSet) -> dict[str, dict[str, float]]:
    """Each part of the score by itself: how far it spreads the candidates, and how well it ranks them."""
    model.eval()
    with torch.no_grad():
        parts = list(system.components(model, eval_set, slice(0, 1)))
    found = {}
    for part in [*parts, "fused"] if parts else []:
        spreads: list[Tensor] = []

        def block(rows: slice, part: str = part, spreads: list[Tensor] = spreads) -> Tensor:
            values = system.components(model, eval_set, rows)
            scores = sum(values.values(), torch.zeros(())) if part == "fused" else values[part]
            real = scores if eval_set.candidates is not None else scores[:, 1:]
            spreads.append(real.double().std(dim=1))
            return scores

        ranks = count_ranks(
            block,
            len(eval_set),
            eval_set.relevant,
            excluded=eval_set.excluded,
            candidates=eval_set.candidates,
            block_rows=system.config.eval_block,
        )
        found[part] = {"spread": float(torch.cat(spreads).mean()), **evaluate(ranks, system.measures)}
    return found


def _scored(system: System[Any], model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
    model.eval()
    with torch.no_grad():
        scores = system.score(model, eval_set, rows).double().cpu()
    return scores if eval_set.candidates is not None else scores[:, 1:]


def _apart(first: Tensor, second: Tensor) -> dict[str, float]:
    return {
        "max_difference": float((first - second).abs().max()),
        "scale": float(first.abs().max()),
        "num_users": len(first),
    }
