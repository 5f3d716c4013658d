"""The graph table: LightGCN (He et al., SIGIR 2020) over the bipartite graph of training interactions.

K layers of symmetric-normalised propagation, averaged; trained with BPR on uniform negatives. It is trained on the
CPU in half a second whatever device the model is on, so the table is one for all of them, and then it is frozen.

Shapes: U users, V items (row 0 is padding), G size of a row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from rectest.data.interactions import Sequences
from rectest.errors import DataError
from rectest.seeding import SeedPlan

__all__ = ["bipartite", "propagate", "train_graph"]

FloatTable = npt.NDArray[np.float32]

_MAX_CELLS = 1 << 28
_BATCH_SIZE = 2048
_LEARNING_RATE = 0.02
_DECAY = 1e-4
"""L2 on the rows of a batch before propagation, as in the paper."""


def bipartite(train: Sequences, num_items: int) -> Tensor:
    """[U, V+1] 1 / sqrt(degree of user * degree of item) at each edge, each counted once; 0 elsewhere.

    Raises:
        DataError: the graph is too large to be held densely.
    """
    if len(train) * (num_items + 1) > _MAX_CELLS:
        msg = f"{len(train)} users by {num_items} items are more than {_MAX_CELLS} cells; use a smaller world"
        raise DataError(msg)
    edges_UV = torch.zeros(len(train), num_items + 1)
    edges_UV[torch.from_numpy(train.owners()), torch.from_numpy(train.items.copy())] = 1.0
    by_user, by_item = (edges_UV.sum(dim).clamp_min(1.0).rsqrt() for dim in (1, 0))
    return edges_UV * by_user[:, None] * by_item[None]


def propagate(edges_UV: Tensor, users_UG: Tensor, items_VG: Tensor, *, num_layers: int) -> tuple[Tensor, Tensor]:
    """The mean of the layers 0..K of both sides; in each, a node is the normalised sum of its neighbours."""
    user_sum, item_sum = users_UG, items_VG
    for _ in range(num_layers):
        users_UG, items_VG = edges_UV @ items_VG, edges_UV.T @ users_UG
        user_sum, item_sum = user_sum + users_UG, item_sum + items_VG
    return user_sum / (num_layers + 1), item_sum / (num_layers + 1)


def train_graph(
    train: Sequences, num_items: int, seeds: SeedPlan, *, size: int, num_layers: int, num_steps: int
) -> FloatTable:
    """[V+1, G] unit rows, row 0 zero; trained on `train` alone, from streams of `seeds`."""
    edges_UV = bipartite(train, num_items)
    generator = torch.Generator().manual_seed(seeds.seed("tables"))
    users_UG, items_VG = (
        (0.1 * torch.randn(rows, size, generator=generator)).requires_grad_() for rows in edges_UV.shape
    )
    optimizer = torch.optim.Adam([users_UG, items_VG], lr=_LEARNING_RATE)
    owners, items = torch.from_numpy(train.owners()), torch.from_numpy(train.items.copy())
    rng = seeds.rng("triples")
    for _ in range(num_steps):
        edge = torch.from_numpy(rng.integers(len(items), size=min(_BATCH_SIZE, len(items))))
        other = torch.from_numpy(rng.integers(1, num_items + 1, size=len(edge)))
        optimizer.zero_grad()
        _bpr(edges_UV, users_UG, items_VG, (owners[edge], items[edge], other), num_layers).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        _, final_VG = propagate(edges_UV, users_UG, items_VG, num_layers=num_layers)
        table: FloatTable = functional.normalize(final_VG, dim=1).numpy()
    table[0] = 0.0
    return table


def _bpr(
    edges_UV: Tensor, users_UG: Tensor, items_VG: Tensor, triples: tuple[Tensor, Tensor, Tensor], num_layers: int
) -> Tensor:
    """Mean of softplus(negative - positive), with the decay of the rows that take part."""
    user, positive, negative = triples
    all_users, all_items = propagate(edges_UV, users_UG, items_VG, num_layers=num_layers)
    chosen = all_users[user]
    margin = (chosen * (all_items[positive] - all_items[negative])).sum(1)
    rows = (users_UG[user], items_VG[positive], items_VG[negative])
    decay = torch.stack([row.square().sum(1).mean() for row in rows]).sum()
    return functional.softplus(-margin).mean() + _DECAY / 2 * decay
