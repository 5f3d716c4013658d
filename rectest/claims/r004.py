"""Report 004: a table of metrics, a graph that is none, and conclusions from one run. Arithmetic on what it printed.

Trainings of the system are in `r004_runs`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from rectest.claims.claim import Book, Measured, Stated, finding

if TYPE_CHECKING:
    from rectest.claims.runs import Runs

__all__ = ["BOOK"]

BOOK = Book("004", "multi-behaviour model on Retail")

RECALL = {"recall@1": 0.6200, "recall@5": 0.7803, "recall@10": 0.8915, "recall@20": 0.9618, "recall@50": 0.9618}
NDCG = {"ndcg@1": 0.6200, "ndcg@5": 0.7063, "ndcg@10": 0.7244, "ndcg@20": 0.7384, "ndcg@50": 0.7524}
SHIFTED = {"recall@1": 0.6200, "recall@5": 0.7803, "recall@20": 0.8915, "recall@50": 0.9618}
"""The same recalls with those from 0.8915 on one cut-off further."""

EPOCHS = {0: (0.2739, 0.4588), 50: (0.7145, 0.8288), 100: (0.7227, 0.8367), 175: (0.7193, 0.8343)}
"""nDCG@10 and Recall@10 of epochs other than the best."""

SIZES = {"num_items": 99_037, "num_behaviours": 4, "embedding_size": 32, "num_layers": 4}
ROW = {"dataset": "retail", "split": "valid", "protocol": "1+99", "metric": "ndcg@10", "model": "GEAR", "value": 0.7244}
OTHER = {"dataset": "tmall2014-alipay", "split": "test", "protocol": "not stated", "metric": "ndcg@10"}
"""Rows of the comparison, as the report describes them."""

NUM_USERS = 147_894
DIGITS = 4


def _violations(table: Mapping[str, float]) -> int:
    from rectest.metrics.coherence import coherence_violations

    return len(coherence_violations(table, single_relevant=True, decimals=DIGITS))


@BOOK.claim(
    1,
    "Recall@10 is 0.8915 at the best epoch",
    stated={"recall": RECALL, "ndcg": NDCG},
    counter={"recall": {**SHIFTED, "recall@10": 0.8360}},
)
def recall_at_ten(stated: Stated, _runs: Runs) -> Measured:
    """What any ranking can have, the changes that make the table possible, and what they leave for lost cells."""
    from rectest.checks.coherence import check_tables
    from rectest.checks.metric_repair import Rules

    table = {**stated["recall"], **stated["ndcg"]}
    rules = Rules(single_relevant=True, decimals=dict.fromkeys(table, DIGITS))
    result, mended = check_tables({"best": table}, {"best": rules}, name="best epoch")
    texts = [repair.text for repair in mended]
    texts += [
        f"{name} is then in [{low:.4f}, {high:.4f}]"
        for repair in mended
        for name, (low, high) in repair.unknown.items()
    ]
    return Measured(
        figure="; ".join([result.figure, *texts]),
        verdict=finding(not result.red),
        truth="the recall column slipped by one cell: 0.8915 is Recall@20 and 0.9618 is Recall@50",
        where="rectest.checks.coherence.check_tables and metric_repair",
    )


@BOOK.claim(
    2,
    "Recall is saturated at 20: there is no new relevant item between ranks 21 and 50",
    stated={"recall@20": 0.9618, "recall@50": 0.9618, "ndcg@20": 0.7384, "ndcg@50": 0.7524},
    counter={"ndcg@50": 0.7384},
)
def saturated(stated: Stated, _runs: Runs) -> Measured:
    """nDCG can only grow where somebody's item is found."""
    grown = stated["ndcg@50"] - stated["ndcg@20"]
    low, high = grown * math.log2(22), grown * math.log2(51)
    return Measured(
        figure=f"ndcg grows by {grown:.4f} there, which takes {low:.3f} to {high:.3f} more recall",
        verdict=finding(not _violations(dict(stated))),
        truth="an artefact of the slipped column",
        where="rectest.metrics.coherence",
    )


@BOOK.claim(
    3,
    "Recall@10 rises to 0.8915 at epoch 145 and falls back to 0.8343 at 175",
    stated={"ndcg": 0.7244, "recall": 0.8915, "epochs": EPOCHS, "from": 50},
    counter={"recall": 0.8400},
)
def ratio(stated: Stated, _runs: Runs) -> Measured:
    """nDCG over recall at one cut-off hardly moves late in training; the best epoch against its neighbours."""
    ratios = {e: n / r for e, (n, r) in stated["epochs"].items() if e >= stated["from"]}
    own, mean = stated["ndcg"] / stated["recall"], float(np.mean(list(ratios.values())))
    reach = max(abs(value - mean) for value in ratios.values())
    return Measured(
        figure=f"ndcg@10 / recall@10: {', '.join(f'{v:.3f} at {e}' for e, v in ratios.items())}, {own:.3f} at the "
        f"best; the neighbours' ratio gives recall {stated['ndcg'] / mean:.3f}",
        verdict=finding(abs(own - mean) <= 3 * max(reach, 1e-3)),
        truth="epoch 145 has about 0.840 as its neighbours do",
        where="arithmetic on the printed epochs",
    )


@BOOK.claim(
    4,
    "the model is graph-enhanced",
    stated={**SIZES, "num_users": NUM_USERS, "megabytes": 12.98, "modules": 71},
    counter={"megabytes": 31.91},
)
def graph(stated: Stated, _runs: Runs) -> Measured:
    """What two tables and plain encoder layers have, against the printed size and number of modules."""
    from rectest.systems.gear.model import num_parameters

    known = num_parameters(**{key: stated[key] for key in SIZES})
    left = round(stated["megabytes"] * 1e6 / 4) - known
    rounding = 0.005e6 / 4
    users = stated["num_users"] * stated["embedding_size"]
    modules = _num_modules(stated)
    return Measured(
        figure=f"{known:,} parameters = {known * 4 / 1e6:.2f} MB and {modules} modules without any graph, "
        f"{stated['megabytes']} MB and {stated['modules']} printed; left: {left:,} +- {rounding:,.0f}; user nodes "
        f"would need {users:,}",
        verdict=finding(left > rounding or modules < stated["modules"]),
        truth="the name is Generalized Alternating Regressor; nothing is left for a graph, its benefits are invented",
        where="rectest.systems.gear.model.num_parameters; torch modules counted",
    )


def _num_modules(stated: Stated) -> int:
    """Modules below the root: three stacks of encoder layers, two tables, dropout, norm, and an unused position."""
    from torch import nn

    size = stated["embedding_size"]
    layer = nn.TransformerEncoderLayer(size, 2, 4 * size, batch_first=True)
    stacks = [nn.TransformerEncoder(layer, num, enable_nested_tensor=False) for num in (1, 1, stated["num_layers"])]
    tables = [nn.Embedding(1, 1), nn.Embedding(1, 1)]
    parts = nn.ModuleDict({str(i): part for i, part in enumerate([*stacks, *tables, nn.Dropout(), nn.LayerNorm(size)])})
    position = 1
    return sum(1 for _ in parts.modules()) - 1 + position


@BOOK.claim(
    5,
    "an epoch has 1,156 steps and training 203,455 in all",
    stated={"num_users": NUM_USERS, "batch_size": 128, "epochs": 176, "per_epoch": 1156, "steps": 203_455},
    counter={"steps": 203_456},
)
def num_steps(stated: Stated, _runs: Runs) -> Measured:
    """Batches of an epoch times epochs."""
    per_epoch = math.ceil(stated["num_users"] / stated["batch_size"])
    total = per_epoch * stated["epochs"]
    return Measured(
        figure=f"{per_epoch:,} an epoch, {total:,} in all",
        verdict=finding(per_epoch == stated["per_epoch"] and total == stated["steps"]),
        truth=f"the logger counts steps from 0: its last one is {total - 1:,}",
        where="arithmetic",
    )


@BOOK.claim(
    6,
    "early stopping at epoch 175 follows from patience 30 and a best epoch of 145",
    stated={"best": 145, "patience": 30, "stopped": 175},
    counter={"patience": 20},
)
def early_stop(stated: Stated, _runs: Runs) -> Measured:
    """The best epoch plus the patience."""
    end = stated["best"] + stated["patience"]
    return Measured(figure=f"{end}", verdict=finding(end == stated["stopped"]), where="arithmetic")


@BOOK.claim(
    7,
    "there is no overfitting",
    stated={"best": 0.7244, "last": 0.7193, "train": (8.6854, 8.6780), "num_users": NUM_USERS, "z": 3.09},
    counter={"last": 0.7240},
)
def no_overfitting(stated: Stated, _runs: Runs) -> Measured:
    """The fall of validation after the best epoch in standard errors, while the train loss still falls."""
    sd = _ndcg_sd(stated["best"])
    drop = stated["best"] - stated["last"]
    error = sd / math.sqrt(stated["num_users"])
    fewest = math.ceil((stated["z"] * sd / drop) ** 2)
    falls = stated["train"][1] < stated["train"][0]
    return Measured(
        figure=f"ndcg@10 {-drop / stated['best']:+.1%} ({drop / error:.1f} SE of {error:.5f}, {stated['num_users']:,} "
        f"users) while the train loss {'falls' if falls else 'rises'}; clear from {fewest:,} users on",
        verdict=finding(not (falls and drop > stated["z"] * error)),
        truth="the report says both: 'no overfitting' in its findings, 'slight overfitting' in its phases; the number "
        "of validation users is unknown (only those whose last event is a purchase)",
        where="arithmetic; rectest.checks.overfitting",
    )


def _ndcg_sd(mean: float) -> float:
    """sd of one user's ndcg@10 if hits lie where the table has them: 1 at rank 1, 0 beyond 10, the rest between."""
    first, hit = 0.6200, SHIFTED["recall@5"] + (mean - NDCG["ndcg@5"]) * math.log2(8.5)
    between = (mean - first) / (hit - first)
    return math.sqrt(max(0.0, first + (hit - first) * between**2 - mean**2))


@BOOK.claim(
    8,
    "0.7244 stands far above 0.2649 and 0.2619 of the other models",
    stated={"rows": (ROW, {**OTHER, "model": "A", "value": 0.2649}, {**OTHER, "model": "B", "value": 0.2619})},
    counter={"rows": ({**OTHER, "model": "A", "value": 0.2649}, {**OTHER, "model": "B", "value": 0.2619})},
)
def comparison(stated: Stated, _runs: Runs) -> Measured:
    """Only results of the same data, split and protocol can be compared."""
    from rectest.checks.inputs import comparable_results

    (result,) = comparable_results([dict(row) for row in stated["rows"]])
    keys = [key for key in ("dataset", "split", "protocol") if len({row[key] for row in stated["rows"]}) > 1]
    return Measured(
        figure=f"the rows differ in {', '.join(keys) or 'nothing'} ({result.verdict})",
        verdict=finding(not result.red),
        truth="other data, another split and another task: the table compares nothing",
        where="rectest.checks.inputs.comparable_results",
    )


@BOOK.claim(
    9,
    "the relevant item is nearly always among the ten best of the catalogue",
    stated={"num_candidates": 100, "num_items": 99_037, "k": 10, "recall": 0.8915},
    counter={"num_candidates": 99_037},
)
def among_candidates(stated: Stated, _runs: Runs) -> Measured:
    """What chance gives on 1 + 99 candidates, and which rank of the catalogue the tenth of them stands for."""
    from rectest.metrics.bounds import chance

    num = stated["num_candidates"]
    names = ("ndcg@10", "recall@10", "recall@50")
    values = [chance(name, num_candidates=num, num_relevant=1)[0] for name in names]
    rank = round(stated["k"] * stated["num_items"] / num)
    levels = ", ".join(f"{name} {value:.3g}" for name, value in zip(names, values, strict=True))
    return Measured(
        figure=f"chance: {levels}; rank {stated['k']} of "
        f"{num} stands for about rank {rank:,} of {stated['num_items']:,}",
        verdict=finding(rank <= stated["k"] and stated["recall"] > 0.5),
        truth="99 uniform candidates, on validation, with the next behaviour and its time given",
        where="rectest.metrics.bounds.chance",
    )
