"""Attention with nothing as an alternative, experts, and the retriever's score."""

from __future__ import annotations

import math

import pytest
import torch

from fixtures.ur4rec import start
from rectest.systems.ur4rec.model import standardised
from rectest.systems.ur4rec.retriever import SourceAttention, unit


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return module


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_sources", [1, 3])
def test_attention_is_torch_s_own_with_a_zero_attended(num_sources):
    attention = drawn(SourceAttention(8, 2))
    queries, sources = normal(5, 8), normal(num_sources, 5, 8, seed=2)
    reference = torch.nn.MultiheadAttention(8, 2, add_zero_attn=True, batch_first=True)
    with torch.no_grad():
        parts = (attention.query, attention.key, attention.value)
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        reference.out_proj.load_state_dict(attention.output.state_dict())
    expected, _ = reference(queries[:, None], sources.transpose(0, 1), sources.transpose(0, 1))

    torch.testing.assert_close(expected[:, 0], attention(queries, *sources))


def test_queries_and_keys_of_a_single_source_learn():
    """Without the alternative of nothing the softmax of one key is 1, and half of the attention is dead weight."""
    attention = drawn(SourceAttention(8, 2))
    attention(normal(5, 8), normal(5, 8, seed=2)).square().sum().backward()

    assert all((parameter.grad != 0).any() for parameter in attention.parameters())


def test_sources_are_broadcast_against_queries():
    attention = drawn(SourceAttention(8, 2))
    queries, users = normal(3, 4, 8), normal(3, 8, seed=2)

    torch.testing.assert_close(
        attention(queries, users[:, None].expand(3, 4, 8)), attention(queries, users[:, None]), rtol=1e-5, atol=1e-6
    )


def test_unit_of_zero_is_zero_with_a_finite_gradient():
    vector = torch.zeros(2, 3, requires_grad=True)
    unit(vector).sum().backward()

    assert not unit(vector).detach().any()
    assert torch.isfinite(vector.grad).all()


def test_a_candidate_s_score_does_not_depend_on_the_others():
    run = start().steps(25)
    run.model.eval()
    users, items = torch.tensor([3, 7]), torch.tensor([[1, 2, 3, 4], [4, 9, 9, 30]])
    with torch.no_grad():
        together = run.model.retriever(users, items)
        alone = torch.cat([run.model.retriever(users, items[:, [column]]) for column in range(4)], dim=1)

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert together[1, 1] == together[1, 2]


def test_normalised_scores_are_bounded_and_raw_ones_are_not():
    """A cosine over 0.07; the raw dot product of report 001 is many times as large."""
    spreads = {}
    for normalise in (True, False):
        run = start(normalise=normalise)
        run.model.eval()
        with torch.no_grad():
            scores = run.model.retriever(torch.arange(20), torch.arange(1, 41).expand(20, 40))
        spreads[normalise] = float(scores.std())

        assert not normalise or float(scores.abs().max()) <= 1 / 0.07 + 1e-3
    assert spreads[False] > 5 * spreads[True]


def test_raw_scores_at_the_report_s_size_make_the_report_s_loss():
    """BCE of about 22 is what random scores with a spread of tens give; random cosines start near ln 2 and a bit."""
    raw, normalised = (start(normalise=normalise).steps(1).losses[0]["retriever"] for normalise in (False, True))

    assert raw > 5
    assert math.log(2) < normalised < 3


def test_standardised_rows():
    rows = standardised(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))

    torch.testing.assert_close(rows[0], torch.tensor([-1.0, 0.0, 1.0]) * math.sqrt(1.5))
    assert rows[1].tolist() == [0.0, 0.0, 0.0]


def test_standardising_keeps_the_order_of_each_row():
    scores = normal(6, 30) * 50

    assert torch.equal(scores.argsort(-1), standardised(scores).argsort(-1))
