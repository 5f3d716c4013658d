"""The tree of all item ids: what may follow a prefix, and which item a complete id is.

Arrays only, ready to be moved to a device; searching it is in `beam`, scoring all of it in `scoring`.

Shapes: N nodes (breadth first, 0 is the root, the last ones are leaves), C codes per level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.systems.gram_c.ids import ItemIds

__all__ = ["Trie"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trie:
    """Every prefix of every id once."""

    parent: IntArray
    """[N] -1 for the root."""

    code: IntArray
    """[N] the code that leads to a node; -1 for the root."""

    depth: IntArray
    """[N] from 0; leaves stand at the number of levels."""

    child: IntArray
    """[N, C] the node behind each code, -1 where no id goes on so."""

    codes: IntArray
    """[leaves, levels] the ids, in rising order; leaf i is node ``first_leaf + i``."""

    @classmethod
    def of(cls, ids: ItemIds) -> Trie:
        """The tree of `ids`; an id that two items share is one leaf."""
        codes = np.unique(ids.codes[1:], axis=0)
        parent, code, depth = [np.array([-1])], [np.array([-1])], [np.array([0])]
        above, first = np.zeros(len(codes), dtype=np.int64), 1
        for level in range(ids.num_levels):
            _, starts, inverse = np.unique(codes[:, : level + 1], axis=0, return_index=True, return_inverse=True)
            parent.append(above[starts])
            code.append(codes[starts, level])
            depth.append(np.full(len(starts), level + 1))
            above, first = first + inverse.reshape(-1), first + len(starts)
        parents, leading = np.concatenate(parent), np.concatenate(code)
        child = np.full((len(parents), ids.num_codes), -1, dtype=np.int64)
        child[parents[1:], leading[1:]] = np.arange(1, len(parents))
        return cls(parent=parents, code=leading, depth=np.concatenate(depth), child=child, codes=codes)

    @property
    def num_levels(self) -> int:
        return int(self.codes.shape[1])

    @property
    def first_leaf(self) -> int:
        """The node of the first complete id."""
        return len(self.parent) - len(self.codes)

    @property
    def num_children(self) -> IntArray:
        """[N] how many codes may follow."""
        counts: IntArray = (self.child >= 0).sum(axis=1)
        return counts

    def deciding(self) -> IntArray:
        """Nodes at which more than one code may follow, and the nodes on the way to them, in rising order.

        Anywhere else the tree leaves no choice, so the constrained probability is 1 and no model need be asked.
        """
        wanted = set(np.flatnonzero(self.num_children > 1).tolist()) | {0}
        for node in sorted(wanted, reverse=True):
            while (node := int(self.parent[node])) >= 0 and node not in wanted:
                wanted.add(node)
        return np.array(sorted(wanted), dtype=np.int64)

    def ancestors(self, nodes: IntArray) -> npt.NDArray[np.bool_]:
        """[M, M] whether the second of `nodes` is the first one or stands above it."""
        place = {node: i for i, node in enumerate(nodes.tolist())}
        above = np.zeros((len(nodes), len(nodes)), dtype=bool)
        for row, start in enumerate(nodes.tolist()):
            node = start
            while node >= 0:
                above[row, place[node]] = True
                node = int(self.parent[node])
        return above

    def path(self) -> IntArray:
        """[leaves, levels] the inner node at which each code of each id is chosen."""
        nodes = np.arange(self.first_leaf, len(self.parent))
        steps = []
        for _ in range(self.num_levels):
            nodes = self.parent[nodes]
            steps.append(nodes)
        return np.stack(steps[::-1], axis=1)
