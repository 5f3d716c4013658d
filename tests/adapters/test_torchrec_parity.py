"""TorchRec tables fed by a `KeyedJaggedTensor`, which only its own functions can cut, where TorchRec is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from rectest import ParityCase, assert_gradient_parity

torchrec = pytest.importorskip("torchrec", exc_type=ImportError)

KEYS = ("user", "item")


@dataclass
class Clicks:
    """Jagged ids of several features, and whether they were clicked."""

    ids: torchrec.KeyedJaggedTensor
    clicked: Tensor


class Clicker(nn.Module):
    """Pooled embeddings of all features and a layer."""

    def __init__(self) -> None:
        super().__init__()
        tables = [
            torchrec.EmbeddingBagConfig(name=f"{key}_table", embedding_dim=4, num_embeddings=10, feature_names=[key])
            for key in KEYS
        ]
        self.bags = torchrec.EmbeddingBagCollection(tables=tables, device=torch.device("cpu"))
        self.out = nn.Linear(4 * len(KEYS), 1)

    def forward(self, ids: torchrec.KeyedJaggedTensor) -> Tensor:
        """A score for each row."""
        return self.out(self.bags(ids).values()).squeeze(-1)


def loss(model: nn.Module, batch: Clicks) -> Tensor:
    """Mean over rows."""
    return F.binary_cross_entropy_with_logits(model(batch.ids), batch.clicked)


def batch_of(rows: int) -> Clicks:
    """Rows with 0 to 3 ids of each feature, some more than once."""
    generator = torch.Generator().manual_seed(4)
    lengths = torch.randint(0, 4, (len(KEYS) * rows,), generator=generator)
    values = torch.randint(0, 8, (int(lengths.sum()),), generator=generator)
    ids = torchrec.KeyedJaggedTensor.from_lengths_sync(keys=list(KEYS), values=values, lengths=lengths)
    return Clicks(ids, torch.randint(0, 2, (rows,), generator=generator).float())


def shard(batch: Clicks, start: int, stop: int) -> Clicks:
    """Some rows of every feature."""
    parts = [batch.ids[key] for key in KEYS]
    lengths = torch.cat([part.lengths()[start:stop] for part in parts])
    values = torch.cat([part.values()[int(part.offsets()[start]) : int(part.offsets()[stop])] for part in parts])
    ids = torchrec.KeyedJaggedTensor.from_lengths_sync(keys=list(KEYS), values=values, lengths=lengths)
    return Clicks(ids, batch.clicked[start:stop])


def num_rows(batch: Clicks) -> int:
    return len(batch.clicked)


def without_mean(model: nn.Module, loss: Callable[..., Tensor]) -> Callable[[Sequence[Clicks]], None]:
    """Tables are summed over ranks, everything else is averaged."""

    def step(batches: Sequence[Clicks]) -> None:
        for batch in batches:
            (loss(model, batch) / len(batches)).backward()
        for name, parameter in model.named_parameters():
            dist.all_reduce(parameter.grad)
            if not name.startswith("bags."):
                parameter.grad /= dist.get_world_size()

    return step


def build() -> nn.Module:
    torch.manual_seed(3)
    return Clicker()


@pytest.fixture
def case() -> ParityCase:
    return ParityCase(build=build, loss=loss, batch=batch_of(8), shard=shard, num_rows=num_rows)


def test_pooled_tables_under_ddp(case):
    results = assert_gradient_parity(case, world_sizes=(1, 2), accumulation=2)

    assert {"parity/gradient", "parity/rows", "parity/shares"} <= {result.check for result in results}


def test_tables_of_another_scale_are_named(case):
    with pytest.raises(AssertionError, match=r"(?s)parity/gradient.*bags\.embedding_bags\.\w+_table\.weight"):
        assert_gradient_parity(case, world_sizes=(2,), strategy=without_mean)


def test_rows_are_known_by_what_they_hold(case):
    with pytest.raises(AssertionError, match=r"parity/shares"):
        assert_gradient_parity(case, world_sizes=(2,), shard=first_rows)


def first_rows(batch: Clicks, start: int, stop: int) -> Clicks:
    """A wrong shard: every rank gets the first rows."""
    return shard(batch, 0, stop - start) if stop - start > 1 else shard(batch, start, stop)
