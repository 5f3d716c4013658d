"""Exact scores: the log-probability of every item's id under the decoder constrained to the tree of ids.

At each prefix only codes that some id goes on with are allowed and their probabilities sum to 1, so those of all ids
do too. All prefixes at which there is a choice are one sequence for the decoder, in which each sees its ancestors.

Shapes: B users, M prefixes with a choice, C codes per level, I ids (leaves), V items, O generated tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rectest.systems.gram_c.model import GramC
from rectest.systems.gram_c.text import START
from rectest.systems.gram_c.tree import IdTree

__all__ = ["catalogue", "exact_scores", "overlap", "prefix_effect"]


def exact_scores(model: GramC, tree: IdTree, memory: tuple[Tensor, Tensor]) -> Tensor:
    """[B, I] log-probability of every id."""
    tokens_BM = tree.tokens_M[None].expand(len(memory[0]), -1)
    logits_BMO = model.write(tokens_BM, tree.depth_M, tree.mask_MM, memory)
    logits_BMC = tree.code_logits(logits_BMO, tree.depth_M[None])
    logs_BMC = logits_BMC.masked_fill(~tree.allowed_MC, -torch.inf).log_softmax(-1)
    flat = torch.cat([logs_BMC.flatten(1), torch.zeros_like(logs_BMC[:, 0, :1])], dim=1)
    chosen = flat.index_select(1, tree.choice_IL.flatten())
    return chosen.reshape(len(chosen), *tree.choice_IL.shape).sum(-1)


def catalogue(scores_BI: Tensor, served_I: Tensor, num_items: int) -> Tensor:
    """[B, V+1] scores of items out of those of ids, of which minus infinity means not generated.

    An item that was not generated stands 1 + item / (V + 1) below the lowest one that was: never tied, and in an order
    that no model chose. So does an item whose id is not found to be it, and the padding.
    """
    found_I = served_I > 0
    scores_BV = torch.full((len(scores_BI), num_items + 1), -torch.inf, device=scores_BI.device)
    scores_BV[:, served_I[found_I]] = scores_BI[:, found_I]
    generated_BV = scores_BV > -torch.inf
    lowest_B1 = scores_BV.masked_fill(~generated_BV, torch.inf).amin(1, keepdim=True)
    lowest_B1 = torch.where(torch.isfinite(lowest_B1), lowest_B1, torch.zeros_like(lowest_B1))
    below_V = 1 + torch.arange(num_items + 1, device=scores_BI.device) / (num_items + 1)
    return torch.where(generated_BV, scores_BV, lowest_B1 - below_V)


def overlap(first_BV: Tensor, second_BV: Tensor, *, k: int) -> float:
    """Mean share of the k best items (padding left out) under the first scores that the second rank there too."""
    depth = min(k, first_BV.shape[1] - 1)
    best, other = (
        scores_BV[:, 1:].argsort(dim=1, descending=True, stable=True)[:, :depth] for scores_BV in (first_BV, second_BV)
    )
    return float((best[:, :, None] == other[:, None, :]).any(-1).double().mean())


@torch.no_grad()
def prefix_effect(model: GramC) -> float:
    """Mean |difference| that the recent items make, through the prefix, to the first token's logits of some users.

    They are held against nobody's recent items, in two passes of one shape: where the recent items do not arrive, both
    are the same to the bit and the difference is zero.
    """
    recent = model.recent_seen()
    first = torch.zeros(1, dtype=torch.int64, device=recent.device)
    start = torch.full((len(recent), 1), START, device=recent.device)
    was_training = model.decoder.training
    model.decoder.eval()
    logits = [
        model.write(start, first, first[:, None] == first, model.memory_seen(given))
        for given in (recent, torch.zeros_like(recent))
    ]
    model.decoder.train(was_training)
    return float((logits[0] - logits[1]).abs().mean())
