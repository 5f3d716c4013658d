"""A Lightning module whose training step is the loss, where Lightning is installed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rectest import assert_gradient_parity

lightning = pytest.importorskip("lightning.pytorch", exc_type=ImportError)


class Tower(lightning.LightningModule):
    """A table and a layer, trained by what its own training step returns."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(12, 4)
        self.out = nn.Linear(4, 12)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Mean cross entropy of the next item."""
        loss = F.cross_entropy(self.out(self.items(batch["last"])), batch["next"])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """What Lightning would step."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


def loss(model: Tower, batch: dict[str, Tensor]) -> Tensor:
    """Its training step, outside of a trainer."""
    return model.training_step(batch, 0)


def adam(_parameters) -> torch.optim.Optimizer:
    """The rate that the module configures."""
    return torch.optim.Adam(_parameters, lr=0.01)


def batch_of(rows: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randint(0, 10, (rows,), generator=generator) for name in ("last", "next")}


def test_its_training_step_is_the_loss():
    results = assert_gradient_parity(Tower, loss, batch_of(8), world_sizes=(1, 2), accumulation=2, optimizer=adam)

    assert {"parity/gradient", "parity/rows", "parity/optimizer_state"} <= {result.check for result in results}


def test_an_uneven_last_batch_is_red():
    with pytest.raises(AssertionError, match="uneven shards averaged equally"):
        assert_gradient_parity(Tower, loss, batch_of(7), world_sizes=(2,))
