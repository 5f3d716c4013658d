"""Report 001, continued: what needs MovieLens-100K (the report's own data) or a forward pass of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rectest.claims import rules
from rectest.claims.claim import Finding, Measured, Stated, finding
from rectest.claims.logs import last_state_shares, popularity_among_candidates
from rectest.claims.r001 import BOOK

if TYPE_CHECKING:
    from rectest.claims.runs import Runs
    from rectest.data.interactions import Sequences

__all__ = ["positive_sequences"]

DATA = {"world": "ml-100k", "min_rating": 4.0, "min_events": 5}
TARGETS = {"hit@5": (0.10, 0.15), "ndcg@10": (0.08, 0.12), "mrr": (0.10, 0.15)}


def positive_sequences(stated: Stated) -> Sequences:
    """The report's setting: events with a good rating, of users with enough of them.

    Raises:
        DataError: MovieLens-100K is not in the cache.
    """
    from rectest.data.behaviours import positive_ratings
    from rectest.data.worlds import load_world

    world = positive_ratings(
        load_world(stated["world"]), at_least=stated["min_rating"], min_events=stated["min_events"]
    )
    return world.interactions.sequences()


def _cuts(lengths: np.ndarray, share: float) -> np.ndarray:
    return np.floor(share * lengths + 1e-9).astype(np.int64)


@BOOK.claim(
    16,
    "MovieLens-100K with ratings of 4 and more leaves 938 users",
    stated={**DATA, "num_users": 938},
    counter={"min_events": 20},
)
def users_left(stated: Stated, _runs: Runs) -> Measured:
    """The run of the report is reproducible from public data."""
    sequences = positive_sequences(stated)
    positions = int((_cuts(sequences.lengths, 0.8) - 1).sum())
    return Measured(
        figure=f"{len(sequences)} users, {len(sequences.items):,} events; the last item of each as target gives "
        f"{len(sequences)} an epoch, every position would give {positions:,}",
        verdict=finding(len(sequences) == stated["num_users"]),
        truth="the epoch is small because only the last item of each user is a target, not because the data are small",
        where="rectest.data.behaviours.positive_ratings",
    )


@BOOK.claim(
    17,
    "hit@5 of 0.10-0.15, ndcg@10 of 0.08-0.12 and mrr of 0.10-0.15 would be a good result",
    stated={**DATA, "targets": TARGETS, "num_drawn": 99},
    counter={"targets": {"hit@5": (0.30, 0.35), "ndcg@10": (0.30, 0.35), "mrr": (0.30, 0.35)}},
)
def targets_beat_popularity(stated: Stated, _runs: Runs) -> Measured:
    """An aim below counting is no aim: popularity of the training events under the report's own protocol."""
    sequences = positive_sequences(stated)
    lengths = sequences.lengths
    known, shown = _cuts(lengths, 0.8), _cuts(lengths, 0.9)
    starts = sequences.offsets[:-1]
    counts = _counts(sequences, known)
    laws = popularity_among_candidates(counts, sequences.items[starts + shown - 1], num_drawn=stated["num_drawn"])
    found = rules.mean_of_measures(laws.mean(axis=0))
    beaten = [name for name, (_, high) in stated["targets"].items() if high > found[name]]
    return Measured(
        figure="popularity: " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()),
        verdict=finding(len(beaten) == len(stated["targets"])),
        truth="every aim lies below what counting events reaches without a model (one draw of candidates gave "
        "hit@10 0.446; ours is the exact mean over all draws)",
        where="rectest.claims.logs.popularity_among_candidates (exact); rectest.checks.chance.popularity_floor",
    )


def _counts(sequences: Sequences, known: np.ndarray) -> np.ndarray:
    """[V+1] events among the first `known` of each user."""
    train = sequences.items[sequences.positions() < np.repeat(known, sequences.lengths)]
    return np.bincount(train, minlength=1683 if sequences.items.max() < 1683 else int(sequences.items.max()) + 1)


@BOOK.claim(
    18,
    "the sequence model reads the state of the newest item",
    stated={**DATA, "width": 50, "share": 0.8},
    counter={"width": 5},
)
def last_state(stated: Stated, _runs: Runs) -> Measured:
    """Histories are left-padded and the state is taken at (number of real items) - 1."""
    lengths = _cuts(positive_sequences(stated).lengths, stated["share"]) - 1
    padding, stale = last_state_shares(lengths, width=stated["width"])
    return Measured(
        figure=f"{padding:.1%} of the users are scored from a padding state, {stale:.1%} from an older item's: "
        f"{padding + stale:.1%} in all",
        verdict=finding(padding + stale < 0.5),
        truth="left padding with an index made for right padding; extra padding must change no state",
        where="rectest.claims.logs.last_state_shares; the padding probe of a record",
    )


@BOOK.claim(
    19,
    "evaluation gave NaN because dropout was 0.1 (a sister document)",
    stated={"dropouts": (0.1, 0.0), "width": 12, "num_real": 5},
    counter={"num_real": 12},
)
def dropout_made_nan(stated: Stated, _runs: Runs) -> Measured:
    """NaN scores of left-padded histories in torch's own encoder layer, with and without dropout, in all four modes."""
    found = {rate: _num_nan(rate, stated["width"], stated["num_real"]) for rate in stated["dropouts"]}
    with_dropout, without = (found[rate] for rate in stated["dropouts"])
    modes = ", ".join(f"{mode} {count}" for mode, count in with_dropout.items())
    return Measured(
        figure=f"NaN states at dropout {stated['dropouts'][0]}: {modes}; at dropout {stated['dropouts'][1]} "
        f"{'the same' if with_dropout == without else 'others'}",
        verdict=finding(with_dropout != without) if any(with_dropout.values()) else Finding.UNDECIDABLE,
        truth="dropout does nothing in evaluation; a left-padded row under a causal mask has no place to look at, and "
        "only the fused path of evaluation without gradients turns that into NaN",
        where="torch.nn.TransformerEncoderLayer; the mode probe of a record",
    )


def _num_nan(dropout: float, width: int, num_real: int) -> dict[str, int]:
    """Non-finite states by mode, of one left-padded history."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=dropout, batch_first=True)
    states = torch.randn(1, width, 8, generator=generator)
    padding = torch.arange(width)[None] < width - num_real
    causal = torch.ones(width, width, dtype=torch.bool).triu(1)
    counts = {}
    for mode in ("train", "eval"):
        for gradients in ("grad", "no_grad"):
            layer.train(mode == "train")
            with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(gradients == "grad"):
                out = layer(states, src_mask=causal, src_key_padding_mask=padding)
            counts[f"{mode}/{gradients}"] = int((~torch.isfinite(out)).any(-1).sum())
    return counts
