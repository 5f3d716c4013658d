"""The memory of each user: a vector that a GRU cell renews from the user's recent interactions.

What is kept are buffers, so that a checkpoint holds them. The cell's last application is repeated whenever the memory
is read, with gradients: a memory whose cell is only applied when it is written would never learn to be read.

Shapes: B batch, D embedding, U users, H history.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UserMemory"]


class UserMemory(nn.Module):
    """Memory vectors, interaction counts, the newest interactions, and the gate through which the memory is used."""

    before_UD: Tensor
    """[U, D] the memory before the cell was last applied; zero until then."""

    summary_UD: Tensor
    """[U, D] what it was last applied to: the mean of the history at that moment."""

    history_UHD: Tensor
    """[U, H, D] the newest interactions, as a ring."""

    interactions_U: Tensor
    """[U] interactions so far."""

    def __init__(self, num_users: int, *, size: int, history: int, threshold: int, decay: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.decay = decay
        self.cell = nn.utils.skip_init(nn.GRUCell, size, size)  # type: ignore[no-untyped-call]
        self.widen = nn.utils.skip_init(nn.Linear, 3 * size, size)  # type: ignore[no-untyped-call]
        self.gate = nn.utils.skip_init(nn.Linear, size, 1)  # type: ignore[no-untyped-call]
        self.register_buffer("before_UD", torch.zeros(num_users, size))
        self.register_buffer("summary_UD", torch.zeros(num_users, size))
        self.register_buffer("history_UHD", torch.zeros(num_users, history, size))
        self.register_buffer("interactions_U", torch.zeros(num_users, dtype=torch.int64))

    def read(self, users_B: Tensor) -> Tensor:
        """[B, D] the memory of some users; zero for those that never reached the threshold."""
        renewed_BD: Tensor = self.cell(self.summary_UD[users_B], self.decay * self.before_UD[users_B])
        return renewed_BD * self.used(users_B)[:, None]

    def used(self, users_B: Tensor) -> Tensor:
        """[B] whether a user's memory holds anything yet."""
        return self.interactions_U[users_B] >= self.threshold

    def blend(self, preference_BD: Tensor, users_B: Tensor) -> Tensor:
        """[B, D] each preference moved towards the user's memory, as far as the gate opens; unused memory: as it is."""
        memory_BD = self.read(users_B)
        seen_B3D = torch.cat([preference_BD, memory_BD, preference_BD * memory_BD], dim=-1)
        open_B1: Tensor = torch.sigmoid(self.gate(functional.relu(self.widen(seen_B3D))))
        open_B1 = open_B1 * self.used(users_B)[:, None]
        return preference_BD + open_B1 * (memory_BD - preference_BD)

    @torch.no_grad()
    def update(self, users_B: Tensor, seen_BD: Tensor) -> None:
        """Count one interaction for each of `users_B` (distinct), remember it, renew the memory from the threshold on.

        `seen_BD` is the vector of what a user interacted with.
        """
        slot_B = self.interactions_U[users_B] % self.history_UHD.shape[1]
        before_BD = self.read(users_B)
        self.history_UHD[users_B, slot_B] = seen_BD
        self.interactions_U[users_B] += 1
        renewed_B1 = self.used(users_B)[:, None]
        filled_B = self.history_sizes(users_B)
        summary_BD = self.history_UHD[users_B].sum(1) / filled_B[:, None]
        self.before_UD[users_B] = torch.where(renewed_B1, before_BD, self.before_UD[users_B])
        self.summary_UD[users_B] = torch.where(renewed_B1, summary_BD, self.summary_UD[users_B])

    def history_sizes(self, users_B: Tensor) -> Tensor:
        """[B] how many interactions are remembered."""
        return self.interactions_U[users_B].clamp(max=self.history_UHD.shape[1])

    def scalars(self, users_B: Tensor) -> dict[str, float]:
        """Interactions and remembered ones, on average over some users."""
        return {
            "memory/interactions": float(self.interactions_U[users_B].double().mean()),
            "memory/history": float(self.history_sizes(users_B).double().mean()),
        }
