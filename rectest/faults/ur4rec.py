"""Faults for `UR4Rec` in what it is given and in how it scores: fusion, padding, masks, texts, ids, candidates.

What goes wrong in its training is in `ur4rec_training`. Every plant takes the clean system and returns one with the
same settings that is wrong in one place, unless it says which setting it changes.

Shapes: B batch, L sequence, C candidates, D embedding, V items, U users.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rectest.data.interactions import Sequences
from rectest.data.world import World
from rectest.faults.fault import Fault
from rectest.seeding import SeedPlan
from rectest.systems.protocol import EvalSet, System
from rectest.systems.ur4rec.batches import UR4RecData
from rectest.systems.ur4rec.encoder import TextEncoder
from rectest.systems.ur4rec.model import UR4Rec
from rectest.systems.ur4rec.sasrec import SequenceModel
from rectest.systems.ur4rec.system import UR4RecSystem

__all__ = [
    "CATALOGUE",
    "empty_mask_rows",
    "float_user_keys",
    "last_is_mask_sum",
    "leaky_user_texts",
    "nan_users_score_zero",
    "phantom_ids",
    "saturated_scores",
    "scale_dominated_fusion",
    "seen_candidates",
    "user_fault",
    "user_planted",
]

Faulty = TypeVar("Faulty", bound=UR4RecSystem)

_NUM_PHANTOMS = 23
"""As many as the items of report 001's data that have a rating and no description."""


def user_planted(kind: type[Faulty], system: System[Any], **changes: Any) -> Faulty:
    """A system of `kind` with the settings of `system`, some of them changed.

    Raises:
        TypeError: `system` is no `UR4RecSystem`.
    """
    if not isinstance(system, UR4RecSystem):
        msg = f"this fault is for ur4rec, got {type(system).__name__}"
        raise TypeError(msg)
    return kind(dataclasses.replace(system.config, **changes))


def user_fault(
    plant: Callable[[System[Any]], System[Any]], *turns_red: str, settings: Mapping[str, Any] | None = None
) -> Fault:
    """The catalogue's entry of a plant; its docstring is the explanation."""
    return Fault(
        name=plant.__name__,
        plant=f"{plant.__module__}:{plant.__name__}",
        system=UR4RecSystem.name,
        turns_red=turns_red,
        about=" ".join((plant.__doc__ or "").split()),
        settings=settings or {},
    )


def scale_dominated_fusion(system: System[Any]) -> System[Any]:
    """Report 001's run: one stage, so that the retriever stays as it was drawn, and raw scores added at 0.5 each."""
    return user_planted(
        UR4RecSystem,
        system,
        normalise=False,
        stages=("pretrain_sasrec",),
        stage_shares=(1.0,),
        sasrec_weight=0.5,
        retriever_weight=0.5,
    )


class _LastIsMaskSum(SequenceModel):
    def last_state(self, states_BLD: Tensor, items_BL: Tensor) -> Tensor:
        place_B = ((items_BL != 0).sum(1) - 1).clamp(min=0)
        return states_BLD[torch.arange(len(states_BLD), device=states_BLD.device), place_B]


class _LastIsMaskSumModel(UR4Rec):
    sequence_class = _LastIsMaskSum


class _LastIsMaskSumSystem(UR4RecSystem):
    model_class = _LastIsMaskSumModel


def last_is_mask_sum(system: System[Any]) -> System[Any]:
    """The last state is taken at mask.sum() - 1, right for right padding; here it is padding or a stale item."""
    return user_planted(_LastIsMaskSumSystem, system)


class _FusedKernels(SequenceModel):
    def __init__(self, num_items: int, *, size: int, num_blocks: int, num_heads: int, **settings: Any) -> None:
        super().__init__(num_items, size=size, num_blocks=0, num_heads=num_heads, **settings)
        layer = nn.TransformerEncoderLayer(size, num_heads, size, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_blocks, enable_nested_tensor=False)

    def encode(self, x_BLD: Tensor, real_BL: Tensor) -> Tensor:
        width = real_BL.shape[1]
        later_LL = torch.ones(width, width, dtype=torch.bool, device=real_BL.device).triu(1)
        return self.encoder(x_BLD, mask=later_LL, src_key_padding_mask=~real_BL)  # type: ignore[no-any-return]


class _FusedKernelsModel(UR4Rec):
    sequence_class = _FusedKernels

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with torch.random.fork_rng(devices=[]):
            super().__init__(*args, **kwargs)


class _EmptyMaskRowsSystem(UR4RecSystem):
    model_class = _FusedKernelsModel


class _NanUsersScoreZeroSystem(_EmptyMaskRowsSystem):
    def components(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> dict[str, Tensor]:
        parts = super().components(model, eval_set, rows)
        broken_B1 = torch.stack([part.isnan().any(-1, keepdim=True) for part in parts.values()]).any(0)
        return {name: part.masked_fill(broken_B1, 0.0) for name, part in parts.items()}


def empty_mask_rows(system: System[Any]) -> System[Any]:
    """Under left padding, the causal and the padding mask leave places that may look at nothing: torch's own encoder
    is finite in training and NaN in evaluation without gradients, where its fused kernels run."""
    return user_planted(_EmptyMaskRowsSystem, system)


def nan_users_score_zero(system: System[Any]) -> System[Any]:
    """The same NaN, hidden: whoever has one counts as a tie of all candidates, which an optimistic rank makes a hit."""
    return user_planted(_NanUsersScoreZeroSystem, system)


class _SaturatedSystem(UR4RecSystem):
    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        fused_BC = torch.stack(list(super().components(model, eval_set, rows).values())).sum(0)
        return torch.sigmoid(fused_BC / self.config.temperature).to(torch.bfloat16).to(fused_BC.dtype)

    def components(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> dict[str, Tensor]:  # noqa: ARG002
        return {}


def saturated_scores(system: System[Any]) -> System[Any]:
    """Scores are served as probabilities in low precision: the best ones are all exactly 1, and ties decide."""
    return user_planted(_SaturatedSystem, system)


class _LeakyUserTexts(UR4RecSystem):
    def known_items(self, data: UR4RecData) -> Sequences:
        return data.held_out.sequences


def leaky_user_texts(system: System[Any]) -> System[Any]:
    """Preference texts are written from the newest items of the whole sequence, the held-out ones included."""
    return user_planted(_LeakyUserTexts, system)


class _FloatUserKeys(UR4RecSystem):
    def user_texts(self, data: UR4RecData) -> npt.NDArray[np.float32]:
        written = dict(enumerate(super().user_texts(data)))
        fallback = TextEncoder(self.config.text_size).text(())
        keys = [str(float(user)) for user in range(data.num_users)]
        return np.stack([written.get(key, fallback) for key in keys])  # type: ignore[call-overload]


def float_user_keys(system: System[Any]) -> System[Any]:
    """Users are looked up as "487.0" where texts are kept under 487: nobody is found, and everybody gets the empty
    text without a word about it."""
    return user_planted(_FloatUserKeys, system)


class _PhantomIds(UR4RecSystem):
    def prepare(self, world: World, seeds: SeedPlan) -> UR4RecData:
        log = world.interactions
        rare = np.argsort(log.item_counts()[1:], kind="stable")[:_NUM_PHANTOMS] + 1
        described = dataclasses.replace(world, interactions=log.select(~np.isin(log.item, rare)), oracle=None)
        return dataclasses.replace(super().prepare(described, seeds), pool=np.arange(1, world.num_items + 1))


def phantom_ids(system: System[Any]) -> System[Any]:
    """Items without a description are dropped from the log, and negatives and candidates are drawn from 1..V all the
    same: ids that were never a positive are easy to beat."""
    return user_planted(_PhantomIds, system)


class _SeenCandidates(UR4RecSystem):
    def not_candidates(self, data: UR4RecData) -> Sequences:
        return Sequences(items=np.zeros(0, dtype=np.int64), offsets=np.zeros(data.num_users + 1, dtype=np.int64))


def seen_candidates(system: System[Any]) -> System[Any]:
    """Candidates are drawn from everything: some are items that the user already had, in training or in the future."""
    return user_planted(_SeenCandidates, system)


CATALOGUE = (
    user_fault(scale_dominated_fusion, "fusion/scale", "learning/moved", "learning/branch"),
    user_fault(last_is_mask_sum, "invariance/padding"),
    user_fault(empty_mask_rows, "training", settings={"num_blocks": 2}),
    user_fault(nan_users_score_zero, "coherence/ties", settings={"num_blocks": 2}),
    user_fault(saturated_scores, "coherence/ties"),
    user_fault(leaky_user_texts, "leak/held_out"),
    user_fault(float_user_keys, "effect/users_without_text"),
    user_fault(phantom_ids, "effect/phantom_negatives", "effect/phantom_candidates"),
    user_fault(seen_candidates, "effect/seen_candidates"),
)
"""Every fault above; `plant` in a `RunSpec` takes ``fault.plant``."""
