"""Report 004, continued: precision, percentages, stability, averaging. No training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rectest.claims.claim import Measured, Stated, finding
from rectest.claims.r004 import BOOK, NUM_USERS, SIZES

if TYPE_CHECKING:
    from rectest.claims.runs import Runs

__all__: list[str] = []

RTX_4090 = {"flops": 82.6e12, "bytes": 1008e9}
"""float32 operations and bytes of memory a second, by its data sheet."""

CHANGES: tuple[tuple[str, str, str], ...] = (
    ("0.274", "0.687", "151"), ("0.687", "0.714", "3.9"), ("0.714", "0.723", "1.3"), ("0.723", "0.724", "0.2"),
    ("0.724", "0.719", "-0.7"), ("0.6200", "0.7063", "13.9"), ("0.6200", "0.7244", "16.8"),
    ("0.6200", "0.7384", "19.1"), ("0.6200", "0.7524", "21.4"), ("0.7244", "0.7524", "3.9"),
    ("0.6200", "0.7803", "25.9"), ("0.6200", "0.8915", "43.8"), ("0.6200", "0.9618", "55.1"),
    ("10.911", "8.7735", "-19.6"), ("10.911", "8.7077", "-20.2"), ("10.911", "8.6854", "-20.4"),
    ("10.911", "8.6780", "-20.5"),
)  # fmt: skip
"""From, to and percentage as printed: the number of digits says how far each may be from its true value."""


@BOOK.claim(
    10,
    "the model is bound by arithmetic, so that TF32 makes it faster",
    stated={**SIZES, **RTX_4090},
    counter={"embedding_size": 1024},
)
def bound_by_arithmetic(stated: Stated, _runs: Runs) -> Measured:
    """Operations a written byte of the dominant product (all logits) against what the card can do in that time."""
    per_byte = 2 * stated["embedding_size"] / 4
    ridge = stated["flops"] / stated["bytes"]
    return Measured(
        figure=f"the output layer does {per_byte:g} operations a written byte; the card could do {ridge:.0f}",
        verdict=finding(per_byte > ridge),
        truth="with an inner dimension of 32 the time goes into writing logits, which TF32 does not make smaller",
        where="arithmetic intensity (roofline)",
    )


@BOOK.claim(
    11,
    "the printed percentages follow from the printed values",
    stated={"changes": CHANGES},
    counter={"changes": (("0.6200", "0.7244", "18.6"),)},
)
def percentages(stated: Stated, _runs: Runs) -> Measured:
    """Every relative change, within what the rounding of its three numbers leaves open."""
    wrong = []
    for texts in stated["changes"]:
        (start, start_slack), (end, end_slack), (printed, slack) = map(_printed, texts)
        low = 100 * ((end - end_slack) / (start + start_slack) - 1) - slack
        high = 100 * ((end + end_slack) / (start - start_slack) - 1) + slack
        if not low <= printed <= high:
            wrong.append(f"{printed:+g} % is {100 * (end / start - 1):+.2f} %")
    return Measured(
        figure=f"{len(stated['changes']) - len(wrong)} of {len(stated['changes'])} hold"
        + (f"; {', '.join(wrong)}" if wrong else ""),
        verdict=finding(not wrong),
        where="arithmetic",
    )


def _printed(text: str) -> tuple[float, float]:
    """A printed number, and half a unit of its last digit."""
    return float(text), 0.5 * 10.0 ** -len(text.partition(".")[2])


@BOOK.claim(
    12,
    "ndcg@10 is stable from epoch 100 on: range 0.717-0.724, sd about 0.003, amplitude +-0.5 %",
    stated={"low": 0.717, "high": 0.724, "sd": 0.003, "amplitude": 0.5, "epochs": 76},
    counter={"sd": 0.005},
)
def stability(stated: Stated, _runs: Runs) -> Measured:
    """Which sd a range allows (Popoviciu's bound above, two outliers below), and the half range over its middle."""
    width = stated["high"] - stated["low"]
    least, most = width / math.sqrt(2 * stated["epochs"]), width / 2
    amplitude = 100 * most / ((stated["high"] + stated["low"]) / 2)
    fits = least <= stated["sd"] <= most and round(amplitude, 1) == stated["amplitude"]
    return Measured(
        figure=f"the range allows an sd of {least:.4f} to {most:.4f} (uniform: {width / math.sqrt(12):.4f}); "
        f"amplitude +-{amplitude:.2f} %",
        verdict=finding(fits),
        truth="possible, and close to the largest sd of that range; epochs of one run say nothing about another seed",
        where="arithmetic",
    )


@BOOK.claim(
    14,
    "a train loss of 10.911 at epoch 0 is that of a working model",
    stated={"loss": 10.911, "num_items": 99_037, "num_behaviours": 4, "alpha": 0.1},
    counter={"loss": 11.9},
)
def first_loss(stated: Stated, _runs: Runs) -> Measured:
    """Uniform guessing: ln(V + 1) + alpha ln(N + 1)."""
    level = math.log(stated["num_items"] + 1) + stated["alpha"] * math.log(stated["num_behaviours"] + 1)
    return Measured(
        figure=f"chance is {level:.2f}; the first epoch's mean is {stated['loss']}",
        verdict=finding(stated["loss"] < level),
        where="arithmetic",
    )


@BOOK.claim(
    15,
    "the metric is a mean over users",
    stated={"num_users": NUM_USERS, "batch_size": 128},
    counter={"batch_size": 2},
)
def batch_means(stated: Stated, _runs: Runs) -> Measured:
    """A mean of batch means weighs the users of a short last batch more."""
    num, size = stated["num_users"], stated["batch_size"]
    batches, last = math.ceil(num / size), num % size or size
    weight = (1 / batches / last) / (1 / num)
    most = abs(1 / batches - last / num)
    return Measured(
        figure=f"the {last} users of the last batch weigh {weight:.2f} times; at most {most:.5f} of the metric",
        verdict=finding(math.isclose(weight, 1.0)),
        truth="small here, and larger the fewer batches there are",
        where="arithmetic",
    )


@BOOK.claim(
    16,
    "175 minutes are one minute an epoch",
    stated={"minutes": 175, "epochs": 176},
    counter={"minutes": 350},
)
def minutes(stated: Stated, _runs: Runs) -> Measured:
    """One division."""
    each = stated["minutes"] / stated["epochs"]
    return Measured(figure=f"{each:.2f} minutes", verdict=finding(round(each) == 1), where="arithmetic")


@BOOK.claim(
    17,
    "3.2 M parameters make it parameter-efficient",
    stated={**SIZES},
    counter={"num_items": 500, "embedding_size": 64},
)
def efficient(stated: Stated, _runs: Runs) -> Measured:
    """Which share of the parameters is the item table, which the catalogue dictates."""
    from rectest.systems.gear.model import num_parameters

    total = num_parameters(**{key: stated[key] for key in SIZES})
    table = (stated["num_items"] + 1) * stated["embedding_size"]
    return Measured(
        figure=f"{table / total:.1%} of {total:,} are the item table; the network has {total - table:,}",
        verdict=finding(table / total < 0.5),
        truth="the number says how large the catalogue is and how short its vectors are, not how good the network is",
        where="rectest.systems.gear.model.num_parameters",
    )
