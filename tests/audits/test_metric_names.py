"""Names as files have them: what they mean, and that nothing is guessed."""

from __future__ import annotations

import pytest

from rectest.audits.metric_names import cut_off_of, family_of, looks_like_a_metric, name_of, plain


@pytest.mark.parametrize(
    ("text", "measure", "prefix"),
    [
        ("Recall@10", "recall@10", ""),
        ("recall_at_10", "recall@10", ""),
        ("HR@10", "hit@10", ""),
        ("hit@10", "hit@10", ""),
        ("Hit Ratio@5", "hit@5", ""),
        ("metrics.hit_ratio_10", "hit@10", "metrics"),
        ("NDCG@10", "ndcg@10", ""),
        ("ndcg10", "ndcg@10", ""),
        ("NDCG @ 10", "ndcg@10", ""),
        ("Val:NDCG@10", "ndcg@10", "val"),
        ("test/mrr", "mrr", "test"),
        ("MRR@10", "mrr@10", ""),
        ("avg_rank", "mean_rank", ""),
        ("mean_rank", "mean_rank", ""),
        ("P@5", "precision@5", ""),
        ("R@20", "recall@20", ""),
        ("val_recall@10_epoch", "recall@10", "val"),
        ("valid/hit@10/dataloader_idx_0", "hit@10", "valid"),
        ("召回率@10", "recall@10", ""),
        ("**NDCG＠１０** ⭐", "ndcg@10", ""),
        ("Recall@Top10", "recall@10", ""),
    ],
)
def test_names_as_found(text: str, measure: str, prefix: str) -> None:
    name = name_of(text)

    assert name is not None
    assert (measure, prefix) == (name.measure, name.prefix)


@pytest.mark.parametrize(
    "text",
    [
        *("map@10", "epoch", "NDCG@10增长", "recall@10_std", "std recall@10", "Δ NDCG@10", "training_loss", "rank"),
        *("hour", "char", "warp", "recall@0", "", "n", "p", "delta_recall@10", "recall@10 gain", "auc", "x" * 5000),
    ],
)
def test_what_is_no_measure_is_none(text: str) -> None:
    assert name_of(text) is None


def test_what_looks_like_a_metric_is_listed_and_the_rest_is_not() -> None:
    assert all(map(looks_like_a_metric, ("map@10", "AUC", "NDCG@10增长", "ItemCoverage")))
    assert not any(map(looks_like_a_metric, ("epoch", "train_loss", "说明", "lr")))


def test_units_in_a_header() -> None:
    name = name_of("Recall@20 (%)")

    assert name is not None
    assert (name.measure, name.in_percent) == ("recall@20", True)


def test_axes_without_one_another() -> None:
    assert ("ndcg", "hit", None, None) == tuple(map(family_of, ("NDCG", "Hit Ratio", "recall@5", "epoch")))
    assert (10, 10, 5, 20, None, None) == tuple(map(cut_off_of, ("10", "K=10", "@5", "Top-20", "0", "0.5")))
    assert plain("**NDCG＠10** ⭐") == "ndcg@10"
