"""The model: both components, the weights of their losses, the alternation; and how the components are fused.

Report 001's fusion added raw scores, some of -71..136 to others of -4..4.6, so that the untrained component decided.
Here each component is standardised over a user's candidates, and a weight of 0.5 means half.

Shapes: B batch, C candidates, D embedding, V items, U users.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rectest.seeding import SeedPlan
from rectest.systems.layers import Dropout
from rectest.systems.ur4rec.config import UR4RecConfig
from rectest.systems.ur4rec.memory import UserMemory
from rectest.systems.ur4rec.retriever import Retriever
from rectest.systems.ur4rec.sasrec import SequenceModel
from rectest.systems.ur4rec.training import BRANCHES, Alternation, LossWeights

__all__ = ["UR4Rec", "standardised"]

_SMALLEST_SPREAD = 1e-6


class UR4Rec(nn.Module):
    """Everything that training moves or remembers."""

    sequence_class: type[SequenceModel] = SequenceModel
    retriever_class: type[Retriever] = Retriever

    def __init__(self, config: UR4RecConfig, *, item_text_VT: Tensor, user_text_UT: Tensor, seeds: SeedPlan) -> None:
        super().__init__()
        size = config.embedding_size
        self.weights = {"sasrec": config.sasrec_weight, "retriever": config.retriever_weight}
        self.normalise = config.normalise
        self.sasrec = self.sequence_class(
            len(item_text_VT) - 1,
            size=size,
            max_length=config.max_length,
            num_blocks=config.num_blocks,
            num_heads=config.num_heads,
            dropout=Dropout(config.sasrec_dropout, seeds.seed("dropout/sasrec")),
        )
        memory = UserMemory(
            len(user_text_UT),
            size=size,
            history=config.memory_history,
            threshold=config.memory_threshold,
            decay=config.memory_decay,
        )
        self.retriever = self.retriever_class(
            item_text_VT,
            user_text_UT,
            size=size,
            num_heads=config.retriever_heads,
            num_proxies=config.num_proxies,
            temperature=config.temperature,
            normalise=config.normalise,
            dropout=Dropout(config.retriever_dropout, seeds.seed("dropout/retriever")),
            memory=memory,
        )
        self.loss_weights = LossWeights()
        self.alternation = Alternation(threshold=config.alternation_threshold, min_steps=config.alternation_steps)
        self.trained: tuple[str, ...] = BRANCHES
        """The components whose losses the total of the last batch was made of."""

    def reset(self, seeds: SeedPlan, *, embedding_std: float) -> None:
        """Draw every parameter afresh, each from a stream named after it; biases and loss weights start at zero."""
        for name, parameter in self.named_parameters():
            generator = torch.Generator().manual_seed(seeds.seed(name))
            if "embedding" in name or "proxies" in name:
                nn.init.normal_(parameter, std=embedding_std, generator=generator)
            elif parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.constant_(parameter, 1.0 if name.endswith("norm.weight") else 0.0)
        for table in (self.sasrec.item_embedding, self.retriever.item_table):
            table.weight.data[0] = 0.0

    def components(self, users_B: Tensor, items_BL: Tensor, candidates_BC: Tensor) -> dict[str, Tensor]:
        """[B, C] by component, weights included; the fused score is their sum."""
        states_BD = self.sasrec.predicting(items_BL, 1)[:, 0]
        raw = {
            "sasrec": (states_BD[:, None] * self.sasrec.item_embedding(candidates_BC)).sum(-1),
            "retriever": self.retriever(users_B, candidates_BC),
        }
        return {name: self.weights[name] * self.calibrated(score_BC) for name, score_BC in raw.items()}

    def calibrated(self, score_BC: Tensor) -> Tensor:
        """One component's scores as they are fused."""
        return standardised(score_BC) if self.normalise else score_BC


def standardised(score_BC: Tensor) -> Tensor:
    """Each row with mean 0 and standard deviation 1 over its candidates; a constant row becomes zero."""
    centred_BC = score_BC - score_BC.mean(-1, keepdim=True)
    spread_B1 = centred_BC.square().mean(-1, keepdim=True).sqrt()
    return centred_BC / spread_B1.clamp_min(_SMALLEST_SPREAD)
