"""Report 002: similarity and sampling optimisations. What needs no training; the trained part is in `r002_runs`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rectest.claims.claim import Book, Finding, Measured, NotHere, Stated, finding
from rectest.claims.logs import id_popularity_agreement, top_overlap
from rectest.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from rectest.claims.runs import Runs

__all__ = ["BOOK"]

BOOK = Book("002", "similarity blend and smart negatives")

BLEND = ("dot", "cosine", "scaled")
OUTCOME = {"hit": 0.0225, "ndcg": 0.0111, "logged": 0.0146, "before": 0.02}


@BOOK.claim(
    1,
    "the mixed sampler draws 30 % popular negatives (10, 50, 80 % along its curriculum)",
    stated={"per_position": 1, "ratios": (0.3, 0.1, 0.5, 0.8)},
    counter={"per_position": 10},
)
def mixed_sampler(stated: Stated, _runs: Runs) -> Measured:
    """A share of n draws, rounded down, as the report's sampler computes it."""
    num = stated["per_position"]
    popular = [int(num * ratio) for ratio in stated["ratios"]]
    shares = ", ".join(
        f"int({num} x {ratio:g}) = {count}" for ratio, count in zip(stated["ratios"], popular, strict=True)
    )
    return Measured(
        figure=shares,
        verdict=finding(all(count > 0 for count in popular)),
        truth="with one negative a position the feature is switched on and draws none, in every phase; a coin per draw "
        "has the promised share",
        where="rectest.faults.adaptive_sasrec:inert_smart_negatives against rectest.data.negatives.MixedNegatives",
    )


@BOOK.claim(
    2,
    "1 / id^0.75 models how popular an item is",
    stated={"worlds": ("ml-100k", "taste-small", "tiny-repeats"), "agreement": -0.5, "top": 0.2},
    counter={"worlds": ("tiny-sorted-ids",)},
)
def id_is_popularity(stated: Stated, _runs: Runs) -> Measured:
    """Spearman's correlation of id and counted events, and how many of the top items the smallest ids are."""
    from rectest.data.worlds import load_world

    found = {}
    for name in stated["worlds"]:
        try:
            world = load_world(name)
        except DataError:
            continue  # the real data are not in the cache; the synthetic worlds decide
        num_top = round(stated["top"] * world.num_items)
        found[name] = (id_popularity_agreement(world), top_overlap(world, num_top))
    return Measured(
        figure="; ".join(
            f"{name}: Spearman {rho:+.2f}, top-{stated['top']:.0%} overlap {share:.0%}"
            for name, (rho, share) in found.items()
        ),
        verdict=finding(all(rho <= stated["agreement"] for rho, _ in found.values())),
        truth="ids agree with popularity where somebody happened to number items that way, so that a test on such "
        "data passes by accident; popularity must be counted",
        where="rectest.claims.logs.id_popularity_agreement; rectest.faults.adaptive_sasrec:id_as_popularity",
    )


def _states_and_items(stated: Stated) -> tuple[Tensor, Tensor]:
    """Unit normal states, and items whose lengths vary log-normally."""
    import torch

    generator = torch.Generator().manual_seed(0)
    states = torch.randn(stated["num_states"], stated["size"], generator=generator, dtype=torch.float64)
    items = torch.randn(stated["num_items"], stated["size"], generator=generator, dtype=torch.float64)
    lengths = torch.exp(stated["length_sd"] * torch.randn(stated["num_items"], 1, generator=generator))
    return states, items * lengths


@BOOK.claim(
    3,
    "adding cosine to the training score improves what is served",
    stated={
        "cosine": (0.3, 3.0, 10.0, 30.0, 100.0),
        "size": 64,
        "num_states": 200,
        "num_items": 2000,
        "length_sd": 0.3,
        "enough": 0.95,
    },
    counter={"length_sd": 0.0, "cosine": (0.3, 3.0)},
)
def served_is_trained(stated: Stated, _runs: Runs) -> Measured:
    """Serving is by inner product alone: how much of the trained score's top 10 does it return?"""
    import torch

    from rectest.systems.adaptive_sasrec.similarity import AdaptiveSimilarity, Similarity, top_k_overlap

    states, items = _states_and_items(stated)
    if stated["length_sd"] == 0:
        items = items / torch.linalg.vector_norm(items, dim=1, keepdim=True)
    served = Similarity("dot", embedding_size=stated["size"]).catalogue(states, items)
    blend = AdaptiveSimilarity(*BLEND, embedding_size=stated["size"])
    overlap = {}
    with torch.no_grad():
        for weight in stated["cosine"]:
            blend.weight["cosine"].fill_(weight)
            overlap[weight] = float(top_k_overlap(blend.catalogue(states, items), served, k=10).mean())
    return Measured(
        figure="top-10 overlap " + ", ".join(f"{value:.2f} at weight {weight:g}" for weight, value in overlap.items()),
        verdict=finding(min(overlap.values()) >= stated["enough"]),
        truth="the blend is used in training only: the more the cosine is learned, the less of it is served; how fast "
        "depends on how long states and items are",
        where="rectest.systems.adaptive_sasrec.similarity.top_k_overlap; rectest.faults.adaptive_sasrec:serve_with_dot",
    )


@BOOK.claim(
    4,
    "watching alpha, beta, gamma and the temperature shows which similarity is best",
    stated={"size": 64, "num_states": 20, "num_items": 50, "length_sd": 0.3, "names": BLEND},
    counter={"names": ("dot", "cosine"), "temperature": False},
)
def weights_are_readable(stated: Stated, _runs: Runs) -> Measured:
    """The rank of the scores' Jacobian: how many directions of the weights change any score at all."""
    import torch

    from rectest.systems.adaptive_sasrec.similarity import Similarity

    states, items = _states_and_items(stated)
    columns = [Similarity(name, embedding_size=stated["size"]).catalogue(states, items) for name in stated["names"]]
    start = {"dot": 0.5, "cosine": 0.3, "scaled": 0.2}
    if stated.get("temperature", True):
        columns.append(torch.stack([start[name] * c for name, c in zip(stated["names"], columns, strict=True)]).sum(0))
    jacobian = torch.stack([column.flatten() for column in columns], dim=1)
    rank = int(torch.linalg.matrix_rank(jacobian, rtol=1e-9))
    spread = [float(column.std()) for column in columns[:2]]
    share = start["cosine"] * spread[1] / (start["dot"] * spread[0])
    effective = start["dot"] + (start["scaled"] / math.sqrt(stated["size"]) if "scaled" in stated["names"] else 0.0)
    return Measured(
        figure=f"{rank} of {len(columns)} weights can be told apart; at the start the dot product weighs "
        f"{effective:.3f} and the cosine term has {share:.1%} of its spread",
        verdict=finding(rank == len(columns)),
        truth="dot and scaled dot are one function, f = T[(a + g / sqrt D) dot + b cos]; alpha, gamma and T drift "
        "against each other without any effect",
        where="rectest.systems.adaptive_sasrec.similarity.AdaptiveSimilarity.effective_weights",
    )


@BOOK.claim(
    5,
    "the quoted sampler runs as printed",
    stated={
        "given": ("self", "user_seq", "popular_ratio", "random_ratio"),
        "assigned": ("popular_negs", "random_negs"),
        "read": ("self", "user_seq", "num_popular", "num_random", "popular_negs", "random_negs"),
    },
    counter={"given": ("self", "user_seq", "num_popular", "num_random")},
)
def quoted_sampler(stated: Stated, _runs: Runs) -> Measured:
    """Names that are read and neither given nor assigned."""
    unknown = [n for n in stated["read"] if n not in {*stated["given"], *stated["assigned"]}]
    return Measured(
        figure=f"{len(unknown)} names without a value{': ' if unknown else ''}{', '.join(unknown)}",
        verdict=finding(not unknown),
        truth="as printed it stops with a NameError; the file behind it defines them, one as a share rounded down",
        where="set arithmetic on the quoted names",
    )


@BOOK.claim(
    6,
    "the score of the submission follows from HR@10 and NDCG@10",
    stated={**OUTCOME, "weights": (0.31, 0.69)},
    counter={"weights": (0.5, 0.5)},
)
def score_formula(stated: Stated, _runs: Runs) -> Measured:
    """0.31 HR + 0.69 NDCG."""
    score = stated["weights"][0] * stated["hit"] + stated["weights"][1] * stated["ndcg"]
    return Measured(
        figure=f"{score:.5f}, logged {stated['logged']}",
        verdict=finding(abs(score - stated["logged"]) <= 5e-5),
        where="arithmetic",
    )


@BOOK.claim(
    7,
    "the optimised system ends above the baseline",
    stated={**OUTCOME},
    counter={"before": 0.0140},
)
def outcome(stated: Stated, _runs: Runs) -> Measured:
    """The score that the same project logged afterwards against that of its baseline."""
    change = stated["logged"] / stated["before"] - 1
    return Measured(
        figure=f"{stated['logged']} against about {stated['before']}: {change:+.0%}",
        verdict=finding(change > 0),
        truth="the features were never measured: neither AUC nor recall is computed in that training loop",
        where="arithmetic",
    )


COMMANDS = {
    "base": "main.py --batch_size 128 --lr 0.001 --num_epochs 10",
    "full": "main.py --use_adaptive_similarity --use_smart_sampling --similarity_types dot cosine scaled bilinear "
    "--norm_first --batch_size 128 --lr 0.001 --num_epochs 10 --hidden_units 64",
}
"""The first and the last command that the report gives."""


def _options(command: str) -> dict[str, tuple[str, ...]]:
    """Options of a command with their values.

    >>> _options("main.py --a 1 2 --b")
    {'a': ('1', '2'), 'b': ()}
    """
    found = {}
    for part in command.split("--")[1:]:
        name, *values = part.split()
        found[name] = tuple(values)
    return found


@BOOK.claim(
    8,
    "the full configuration against the base one shows what the new similarity gives",
    stated={**COMMANDS, "credited": ("use_adaptive_similarity", "similarity_types")},
    counter={"full": "main.py --use_adaptive_similarity --batch_size 128 --lr 0.001 --num_epochs 10"},
)
def ablation(stated: Stated, _runs: Runs) -> Measured:
    """Options in which the two commands differ, beside the credited ones."""
    base, full = _options(stated["base"]), _options(stated["full"])
    differ = [name for name in {**full, **base} if full.get(name) != base.get(name)]
    others = [name for name in differ if name not in stated["credited"]]
    return Measured(
        figure=f"{len(others)} other options differ between the commands{': ' if others else ''}{', '.join(others)}",
        verdict=finding(not others),
        truth="any difference may come from pre-normalisation, negatives or the size; change one thing at a time",
        where="the report's commands; 002.14 trains norm_first alone, rectest study ablations every feature",
    )


@BOOK.claim(
    9,
    "InfoNCE with in-batch negatives performs worse",
    stated={"world": "taste-small", "batch_size": 128, "width": 100, "void": 0.01},
    counter={"width": 1, "void": 0.1},
)
def in_batch(stated: Stated, _runs: Runs) -> Measured:
    """Negatives at the same place of other users' left-padded sequences: how many are no negatives at all?"""
    from rectest.data.worlds import load_world

    sequences = load_world(stated["world"]).interactions.sequences()
    rng = np.random.default_rng(0)
    users = rng.choice(len(sequences), size=min(stated["batch_size"], len(sequences)), replace=False)
    rows = np.zeros((len(users), stated["width"]), dtype=np.int64)
    for row, user in zip(rows, users.tolist(), strict=True):
        items = sequences[user][-stated["width"] :]
        row[stated["width"] - len(items) :] = items
    others = ~np.eye(len(users), dtype=bool)[:, :, None]
    asked = (rows[:, None, :] != 0) & others
    if not asked.any():
        msg = "a batch of one user has no in-batch negatives"
        raise NotHere(msg)
    padding = float(((rows[None, :, :] == 0) & asked).sum() / asked.sum())
    same = float(((rows[None, :, :] == rows[:, None, :]) & asked).sum() / asked.sum())
    return Measured(
        figure=f"{padding:.1%} of the negatives are padding and {same:.2%} the positive itself",
        verdict=finding(True) if padding + same < stated["void"] else Finding.UNDECIDABLE,
        truth="the measured loss was that of an implementation whose negatives are largely void, at temperature 0.1 on "
        "unnormalised products; it says nothing about InfoNCE",
        where=f"left-padded batches of {stated['world']}",
    )


@BOOK.claim(
    10,
    "the validation loss tells which similarity is better",
    stated={"temperatures": (0.5, 1.0, 2.0, 4.0), "num_users": 500, "num_items": 200, "shift": 1.0},
    counter={"temperatures": (1.0,)},
)
def loss_compares(stated: Stated, _runs: Runs) -> Measured:
    """One ranking, served at several temperatures: the metric stays, the loss moves."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(stated["num_users"], stated["num_items"]))
    scores[:, 0] += stated["shift"]
    hit = {t: float(((t * scores) >= t * scores[:, :1]).sum(axis=1).__le__(10).mean()) for t in stated["temperatures"]}
    loss = {
        t: float(np.logaddexp(0, -t * scores[:, 0]).mean() + np.logaddexp(0, t * scores[:, 1]).mean())
        for t in stated["temperatures"]
    }
    spread = max(loss.values()) - min(loss.values())
    return Measured(
        figure="; ".join(f"T {t:g}: hit@10 {hit[t]:.3f}, loss {loss[t]:.3f}" for t in stated["temperatures"]),
        verdict=finding(spread < 1e-9 or len(set(hit.values())) > 1),
        truth="the losses of two score functions are two functionals (and their negatives and split were unseeded): "
        "compare ranking metrics on the same users",
        where="BCE of one ranking at several temperatures",
    )
