"""Similarities: hand-computed scores, one formula for training and serving, and what of a blend can be identified."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.seeding import SeedPlan
from rectest.systems.adaptive_sasrec.similarity import (
    SIMILARITIES,
    AdaptiveSimilarity,
    Similarity,
    top_k_overlap,
)

X = torch.tensor([[3.0, 4.0]])
Y = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
SEEDS = SeedPlan(root=1)


def made(kind: type[Similarity], *names: str, size: int = 2, bilinear_init: str = "xavier") -> Similarity:
    similarity = kind(*names, embedding_size=size)
    similarity.reset(SEEDS, bilinear_init=bilinear_init)
    return similarity


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dot", [3.0, 8.0, 0.0]),
        ("cosine", [0.6, 0.8, 0.0]),
        ("scaled", [3 / math.sqrt(2), 8 / math.sqrt(2), 0.0]),
        ("bilinear", [3.0, 8.0, 0.0]),
    ],
)
def test_scores_by_hand(name, expected):
    obtained = made(Similarity, name, bilinear_init="identity").catalogue(X, Y)

    torch.testing.assert_close(obtained, torch.tensor([expected]))


def test_blend_starts_with_the_weights_of_the_report():
    similarity = made(AdaptiveSimilarity, "dot", "cosine", "scaled")
    obtained = similarity.catalogue(X, Y)[0, 1]

    expected = {"dot": 0.5, "cosine": 0.3, "scaled": 0.2, "temperature": 1.0}

    assert expected == pytest.approx({name: similarity.weights()[name] for name in expected})
    assert obtained.item() == pytest.approx(0.5 * 8 + 0.3 * 0.8 + 0.2 * 8 / math.sqrt(2))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    names=st.sets(st.sampled_from(SIMILARITIES), min_size=1),
    adaptive=st.booleans(),
    num_items=st.integers(1, 9),
)
def test_training_and_catalogue_scores_are_one_formula(seed, names, adaptive, num_items):
    generator = torch.Generator().manual_seed(seed)
    states, items = (torch.randn(n, 6, generator=generator) for n in (4, num_items))
    kind = AdaptiveSimilarity if adaptive else Similarity
    similarity = made(kind, *(sorted(names) if adaptive else sorted(names)[:1]), size=6)

    aligned = similarity(states[:, None].expand(-1, num_items, -1), items[None].expand(4, -1, -1))

    torch.testing.assert_close(aligned, similarity.catalogue(states, items))


def test_blocks_of_the_catalogue_change_no_score(monkeypatch):
    items = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    similarity = made(AdaptiveSimilarity, *SIMILARITIES, size=8)
    whole = similarity.catalogue(items[:5], items)
    monkeypatch.setattr("rectest.systems.adaptive_sasrec.similarity._ITEM_BLOCK", 7)

    torch.testing.assert_close(whole, similarity.catalogue(items[:5], items))


def test_dot_and_scaled_cannot_be_told_apart():
    """Moving weight from dot to scaled at the rate sqrt(D) changes curves and no score: watch the effective weights."""
    first, second = (made(AdaptiveSimilarity, "dot", "cosine", "scaled", size=16) for _ in range(2))
    with torch.no_grad():
        second.weight["dot"] -= 0.4
        second.weight["scaled"] += 0.4 * math.sqrt(16)
        second.temperature *= 2.0
        for weight in second.weight.values():
            weight /= 2.0
    states, items = torch.randn(2, 30, 16, generator=torch.Generator().manual_seed(3))

    assert first.weights()["scaled"] != pytest.approx(second.weights()["scaled"], rel=0.5)
    assert first.effective_weights() == pytest.approx(second.effective_weights(), rel=1e-5)
    torch.testing.assert_close(first.catalogue(states, items), second.catalogue(states, items), atol=1e-5, rtol=1e-5)


def test_effective_weights_explain_the_score():
    similarity = made(AdaptiveSimilarity, "dot", "cosine", "scaled", size=16)
    states, items = torch.randn(2, 10, 16, generator=torch.Generator().manual_seed(4))
    dot, cosine = (made(Similarity, name, size=16).catalogue(states, items) for name in ("dot", "cosine"))
    weight = similarity.effective_weights()

    torch.testing.assert_close(
        weight["dot"] * dot + weight["cosine"] * cosine, similarity.catalogue(states, items), atol=1e-5, rtol=1e-5
    )
    assert weight["dot"] == pytest.approx(0.5 + 0.2 / 4)


def test_zero_rows_give_no_nan_forward_or_backward():
    states = torch.zeros(2, 4, requires_grad=True)
    items = torch.zeros(2, 4, requires_grad=True)
    made(AdaptiveSimilarity, *SIMILARITIES, size=4)(states, items).sum().backward()

    assert torch.isfinite(states.grad).all()
    assert torch.isfinite(items.grad).all()


def test_fixed_similarities_have_no_parameters_but_bilinear():
    sizes = {name: sum(p.numel() for p in made(Similarity, name).parameters()) for name in SIMILARITIES}

    assert sizes == {"dot": 0, "cosine": 0, "scaled": 0, "bilinear": 4}


def test_overlap_by_hand():
    first = torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    second = torch.tensor([[4.0, 1.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0]])

    assert top_k_overlap(first, second, k=2).tolist() == [0.5, 1.0]


def test_overlap_with_dot_falls_as_the_cosine_weighs_more():
    """Report 002's system trains with the blend and retrieves by inner product; its loss grows with beta."""
    generator = torch.Generator().manual_seed(0)
    states, items = torch.randn(100, 32, generator=generator), torch.randn(500, 32, generator=generator)
    items = items * torch.rand(500, 1, generator=generator)
    dot = made(Similarity, "dot", size=32).catalogue(states, items)
    similarity = made(AdaptiveSimilarity, "dot", "cosine", "scaled", size=32)
    overlap = []
    for beta in (0.3, 10.0, 100.0):
        similarity.weight["cosine"].data.fill_(beta)
        overlap.append(float(top_k_overlap(similarity.catalogue(states, items), dot, k=10).mean()))

    assert overlap[0] > 0.95
    assert overlap[0] > overlap[1] > overlap[2]
    assert overlap[2] < 0.7


@pytest.mark.parametrize(("other", "k"), [((2, 3), 1), ((2, 4), 0), ((2, 4), 5)])
def test_overlap_refuses_bad_input(other, k):
    with pytest.raises(ValueError, match="two equal shapes and k in 1"):
        top_k_overlap(torch.zeros(2, 4), torch.zeros(other), k=k)
