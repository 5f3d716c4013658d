"""The tree of ids on the model's device, as the tensors that scoring and searching need.

Shapes: N nodes, M prefixes with a choice, C codes per level, L levels, I ids (leaves), O generated tokens.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rectest.systems.gram_c.text import END, FIRST_CODE, START
from rectest.systems.gram_c.trie import Trie

__all__ = ["IdTree"]


class IdTree(nn.Module):
    """A `Trie` on the model's device."""

    child: Tensor
    """[N, C] the node behind each code of each node, -1 where there is none."""

    tokens_M: Tensor
    depth_M: Tensor
    mask_MM: Tensor
    allowed_MC: Tensor
    choice_IL: Tensor
    """Where in [M * C, then one 0] the probability of each code of each id stands."""

    served: Tensor
    """[I] The item that each id, written as text, is found to be; 0 where it is found to be none."""

    def __init__(self, trie: Trie, served: npt.NDArray[np.int64]) -> None:
        super().__init__()
        self.num_levels, self.num_codes, self.first_leaf = trie.num_levels, trie.child.shape[1], trie.first_leaf
        self.num_nodes = np.bincount(trie.depth).tolist()
        branching = np.bincount(trie.depth[trie.num_children > 1], minlength=trie.num_levels + 1)
        self.has_choice = (branching > 0).tolist()
        nodes = trie.deciding()
        place = np.full(len(trie.parent), -1)
        place[nodes] = np.arange(len(nodes))
        path, codes = place[trie.path()], trie.codes
        choice = np.where(path >= 0, path * self.num_codes + codes, len(nodes) * self.num_codes)
        depth, code = trie.depth[nodes], trie.code[nodes]
        tokens = np.where(depth > 0, FIRST_CODE + (depth - 1) * self.num_codes + code, START)
        arrays = {
            "child": trie.child,
            "tokens_M": tokens,
            "depth_M": depth,
            "mask_MM": trie.ancestors(nodes),
            "allowed_MC": trie.child[nodes] >= 0,
            "choice_IL": choice,
            "served": served,
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))

    def code_logits(self, logits_BMO: Tensor, level_BM: Tensor) -> Tensor:
        """[B, M, C] the logits of the codes of each place's level."""
        first = FIRST_CODE - END
        offsets_C = torch.arange(self.num_codes, device=level_BM.device)
        index_BMC = first + level_BM[..., None] * self.num_codes + offsets_C
        return logits_BMO.gather(-1, index_BMC.expand(*logits_BMO.shape[:2], -1))
