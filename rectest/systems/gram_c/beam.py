"""Beam search constrained by the tree of ids, for whole batches, deterministic, each id at most once.

At every level the best `beam_size` prefixes are kept, under the same constrained probabilities as the exact scores:
with a beam as wide as the catalogue both are equal. An id outside the beam was not generated and has minus infinity.

Shapes: B users, K beam, C codes per level, I ids, d tokens written so far.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rectest.systems.gram_c.model import GramC
from rectest.systems.gram_c.text import FIRST_CODE, START
from rectest.systems.gram_c.tree import IdTree

__all__ = ["beam_scores"]


@torch.no_grad()
def beam_scores(model: GramC, tree: IdTree, memory: tuple[Tensor, Tensor], *, beam_size: int) -> Tensor:
    """[B, I] log-probabilities of the ids that the search finds, minus infinity for the others."""
    if beam_size < 1:
        msg = f"beam_size must be at least 1, got {beam_size}"
        raise ValueError(msg)
    device, num_users = memory[0].device, len(memory[0])
    tokens_BKd = torch.full((num_users, 1, 1), START, device=device)
    nodes_BK = torch.zeros((num_users, 1), dtype=torch.int64, device=device)
    scores_BK = torch.zeros((num_users, 1), device=device)
    for depth in range(tree.num_levels):
        found = (scores_BK[..., None] + _next_logs(model, tree, memory, tokens_BKd, nodes_BK)).flatten(1)
        # A level has that many prefixes or more behind those that were kept, so that no beam is ever empty.
        width = min(beam_size, tree.num_nodes[depth + 1])
        # A stable sort, because top-k may order ties differently on different devices.
        ordered, index = found.sort(dim=1, descending=True, stable=True)
        scores_BK, beam_BK, code_BK = (
            ordered[:, :width],
            index[:, :width] // tree.num_codes,
            index[:, :width] % tree.num_codes,
        )
        written_BKd = tokens_BKd.gather(1, beam_BK[..., None].expand(-1, -1, tokens_BKd.shape[2]))
        token_BK1 = (FIRST_CODE + depth * tree.num_codes + code_BK)[..., None]
        tokens_BKd = torch.cat([written_BKd, token_BK1], dim=2)
        nodes_BK = tree.child[nodes_BK.gather(1, beam_BK), code_BK]
    missing_BI = torch.full((num_users, len(tree.served)), -torch.inf, device=device)
    return missing_BI.scatter(1, nodes_BK - tree.first_leaf, scores_BK)


def _next_logs(
    model: GramC, tree: IdTree, memory: tuple[Tensor, Tensor], tokens_BKd: Tensor, nodes_BK: Tensor
) -> Tensor:
    """[B, K, C] log-probability of each code after each beam; minus infinity where no id goes on so.

    All beams are one sequence, in which a token sees those before it in its own beam. Where ids leave no choice at
    this level the probability is 1, and the model is not asked.
    """
    num_beams, width = tokens_BKd.shape[1:]
    allowed_BKC = tree.child[nodes_BK] >= 0
    if not tree.has_choice[width - 1]:
        return torch.zeros(allowed_BKC.shape, device=nodes_BK.device).masked_fill(~allowed_BKC, -torch.inf)
    place = torch.arange(num_beams * width, device=nodes_BK.device)
    beam, depth = place // width, place % width
    mask = (beam[:, None] == beam[None, :]) & (depth[None, :] <= depth[:, None])
    logits = model.write(tokens_BKd.flatten(1), depth, mask, memory)[:, width - 1 :: width]
    level_BK = torch.full_like(nodes_BK, width - 1)
    return tree.code_logits(logits, level_BK).masked_fill(~allowed_BKC, -torch.inf).log_softmax(-1)
