"""Every setting has a range, and leaving it is refused by name."""

from __future__ import annotations

import dataclasses

import pytest

from rectest.errors import ConfigError
from rectest.systems.adaptive_sasrec.system import AdaptiveSASRec

BAD = {
    "steps": [0],
    "eval_every": [0],
    "patience": [0],
    "batch_size": [0],
    "learning_rate": [0.0, -1.0],
    "eval_block": [0],
    "embedding_size": [0],
    "num_blocks": [0],
    "num_heads": [0, 5],
    "max_length": [0],
    "dropout": [-0.1, 1.0],
    "embedding_std": [0.0],
    "similarity": [[], ["dot", "dot"], ["euclidean"], ["dot", "cosine"]],
    "bilinear_init": ["zeros"],
    "serve_with": ["cosine"],
    "popular_ratio": [-0.1, 1.1],
    "popularity_power": [-1.0, 5.0],
    "curriculum": [True],
    "eval_candidates": [0],
}
FREE = {"norm_first", "adaptive", "smart_negatives", "negatives_exclude_own", "exclude_seen"}
"""Switches, of which every value is good."""


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values], ids=str
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        AdaptiveSASRec.from_settings({name: value})


def test_every_setting_is_covered():
    assert {f.name for f in dataclasses.fields(AdaptiveSASRec.Config)} == set(BAD) | FREE


@pytest.mark.parametrize("name", sorted(FREE - {"exclude_seen"}))
def test_switches_are_booleans(name):
    with pytest.raises(ConfigError, match=f"{name}.* needs bool"):
        AdaptiveSASRec.from_settings({name: "yes"})


def test_a_misspelt_setting_is_refused_with_a_hint():
    with pytest.raises(ConfigError, match="did you mean 'popular_ratio'"):
        AdaptiveSASRec.from_settings({"popular_ration": 0.3})


def test_settings_survive_a_round_trip():
    chosen = {"similarity": ["dot", "cosine"], "adaptive": True, "smart_negatives": True, "curriculum": True}
    settings = AdaptiveSASRec.from_settings(chosen).settings()

    assert settings == AdaptiveSASRec.from_settings(settings).settings()
    assert settings["similarity"] == ("dot", "cosine")


def test_all_features_are_off_by_default():
    config = AdaptiveSASRec().config

    assert (
        config.similarity,
        config.adaptive,
        config.smart_negatives,
        config.curriculum,
        config.dropout,
        config.serve_with,
    ) == (("dot",), False, False, False, 0.0, "trained")
