"""Report 001: a hybrid retriever whose metrics are those of chance. What needs no training.

What needs the data of the report is in `r001_data`, what needs trainings in `r001_runs`.

The claim of each entry is the report's, or that of a later text of the same project where it says so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rectest.claims import rules
from rectest.claims.claim import Book, Measured, Stated, finding
from rectest.claims.statistics import chi_square_tail, joint_chi_square

if TYPE_CHECKING:
    from rectest.claims.runs import Runs

__all__ = ["BOOK"]

BOOK = Book("001", "hybrid retriever: low metrics, flat retrieval loss")

ALPHA = 1e-3
"""Level at which chance is rejected, as everywhere in the checks."""

METRICS = {"hit@5": 0.0544, "ndcg@10": 0.0465, "mrr": 0.0542, "mean_rank": 49.09}
SETTING = {"num_users": 938, "num_candidates": 100}
SIZES = {"num_items": 1659, "size": 256, "frozen": 22_713_216}
LOSSES = {"start": 1.20, "end": 0.37, "steps": 240}
SCORER_RANK = 27.9
"""Mean rank among 100 of a sequence model of the quality that the project saw when it was served alone."""


@BOOK.claim(
    1,
    "the model overfits: the train loss falls by 70 % while the validation metrics stay low",
    stated={"metrics": METRICS, **SETTING},
    counter={"metrics": {"hit@5": 0.211, "ndcg@10": 0.176, "mrr": 0.154, "mean_rank": 27.9}},
)
def overfitting(stated: Stated, _runs: Runs) -> Measured:
    """Overfitting needs a ranking with signal: all four metrics against random ranking, one by one and jointly."""
    from rectest.metrics.bounds import chance, z_score

    num_users, metrics = stated["num_users"], stated["metrics"]
    outcomes = rules.rank_outcomes(stated["num_candidates"])
    chi = joint_chi_square(np.array(list(metrics.values())), outcomes, num_users=num_users)
    p = chi_square_tail(chi, degrees=len(metrics))
    parts = []
    for name, value in metrics.items():
        mean, error = chance(name, num_candidates=[stated["num_candidates"]] * num_users, num_relevant=1)
        parts.append(f"{name} {value:g} (chance {mean:.4g}, z {z_score(value, mean, error):+.2f})")
    return Measured(
        figure=f"{'; '.join(parts)}; jointly chi2({len(metrics)}) = {chi:.2f}, p = {p:.2g}",
        verdict=finding(p < ALPHA),
        truth="all four are chance: the served ranking carries no signal at all, so there is nothing to overfit",
        where="rectest.metrics.bounds.chance, rectest.checks.chance, rectest.checks.overfitting",
    )


def _switching(stated: Stated) -> list[list[int]]:
    shape = {"steps": stated["steps"], "noise": stated["noise"], "num_runs": stated["num_runs"]}
    own = rules.falling_losses(stated["start"], stated["end"], **shape, seed=1)
    other = rules.falling_losses(stated["retrieval"], stated["retrieval"], **shape, seed=2)
    pairs = zip(own, other, strict=True)
    return [rules.alternation_switches({"a": a, "b": b}, threshold=stated["threshold"]) for a, b in pairs]


@BOOK.claim(
    2,
    "the alternation never leaves the sequence model because its threshold of 0.01 is too high",
    stated={**LOSSES, "retrieval": 22.0, "threshold": 0.01, "noise": 0.05, "num_runs": 50},
    counter={"noise": 0.0},
)
def threshold_too_high(stated: Stated, _runs: Runs) -> Measured:
    """The documented rule on a loss that falls as reported, with noise of a batch; and with half the threshold."""
    found, lower = _switching(stated), _switching({**stated, "threshold": stated["threshold"] / 2})
    switched = sum(map(bool, found))
    mean, mean_lower = (np.mean([len(steps) for steps in group]) for group in (found, lower))
    return Measured(
        figure=f"{switched} of {len(found)} simulated runs switch, {mean:.1f} times each; with half the threshold "
        f"{mean_lower:.1f} times",
        verdict=finding(switched == 0),
        truth="the direction is reversed (it switches when the change is *below* the threshold), and with any noise it "
        "switches; `train=SAS, switch=0` is the first stage, in which the alternation is never called",
        where="rectest.claims.rules.alternation_switches",
    )


@BOOK.claim(
    3,
    "the alternation ran during the logged epoch and stayed with the sequence model (0 switches)",
    stated={"losses_read": 0.0, "steps": 30, "threshold": 0.01},
    counter={"steps": 9},
)
def alternation_ran(stated: Stated, _runs: Runs) -> Measured:
    """It reads loss keys that nobody writes, and gets the default."""
    read = np.full(stated["steps"], stated["losses_read"])
    steps = rules.alternation_switches({"a": read, "b": read}, threshold=stated["threshold"])
    return Measured(
        figure=f"with its misnamed losses (always {stated['losses_read']:g}) it switches at steps "
        f"{', '.join(map(str, steps)) or 'none'}",
        verdict=finding(not steps),
        truth="it did not run at all; where it runs it toggles every 5 steps whatever the losses are",
        where="rectest.claims.rules.alternation_switches",
    )


@BOOK.claim(
    4,
    "the memory is unused because its threshold of 20 interactions is too high",
    stated={"threshold": 20, "epochs": 7, "counted": 0.0, "per_epoch": 1},
    counter={"counted": 7.0},
)
def memory_threshold(stated: Stated, _runs: Runs) -> Measured:
    """A threshold leaves the counter running: every user is seen once an epoch."""
    expected = stated["epochs"] * stated["per_epoch"]
    explains = stated["counted"] >= expected * 0.5 and expected < stated["threshold"]
    return Measured(
        figure=f"{stated['counted']:g} interactions counted a user, {expected} after {stated['epochs']} epochs if "
        "only the threshold stood in the way",
        verdict=finding(explains),
        truth="the counter never moved: training never asks the memory to update, so no threshold matters",
        where="arithmetic; a counter that must move is rectest.checks.effect",
    )


@BOOK.claim(
    5,
    "the model has 27 M parameters",
    stated={**SIZES, "logged": 27_168_644},
    counter={"size": 128},
)
def parameter_count(stated: Stated, _runs: Runs) -> Measured:
    """Layer by layer from the described architecture."""
    trainable, total = _sizes(stated)
    return Measured(
        figure=f"{total:,} = {stated['frozen']:,} frozen text encoder + {trainable:,} trainable",
        verdict=finding(total == stated["logged"]),
        truth="five sixths of it are a frozen text encoder, which cannot overfit",
        where="rectest.systems.ur4rec.parameters.formula_count",
    )


def _sizes(stated: Stated) -> tuple[int, int]:
    from rectest.systems.ur4rec.parameters import formula_count

    count = formula_count(num_items=stated["num_items"], size=stated["size"])
    return count.trainable, count.trainable + stated["frozen"]


@BOOK.claim(
    6,
    "halving the hidden size leaves about 7 M parameters, half of the model",
    stated={**SIZES, "halved": 128, "promised": 7e6, "reduction": 0.5},
    counter={"frozen": 5_600_000, "reduction": 0.3},
)
def halved_size(stated: Stated, _runs: Runs) -> Measured:
    """The same count at half the size."""
    before, all_before = _sizes(stated)
    after, all_after = _sizes({**stated, "size": stated["halved"]})
    return Measured(
        figure=f"{all_after / 1e6:.2f} M in all ({all_after / all_before - 1:+.0%}), "
        f"{after / 1e6:.2f} M trainable ({after / before - 1:+.0%})",
        verdict=finding(abs(all_after - stated["promised"]) <= 0.05 * stated["promised"]),
        truth="most parameters are frozen and do not shrink; of those that learn 69 % go, not 50 %"
        if after < 0.4 * before
        else "",
        where="rectest.systems.ur4rec.parameters.formula_count",
    )


@BOOK.claim(
    7,
    "27 M parameters for 938 users are 28,782 each",
    stated={"parameters": 27_000_000, "num_users": 938, "each": 28_782},
    counter={"each": 28_785},
)
def parameters_per_user(stated: Stated, _runs: Runs) -> Measured:
    """One division."""
    each = stated["parameters"] / stated["num_users"]
    return Measured(
        figure=f"{each:,.0f}",
        verdict=finding(round(each) == stated["each"]),
        truth="27,168,644 / 938 = 28,964; of trainable ones 4,750; neither number says whether a model overfits",
        where="arithmetic",
    )


@BOOK.claim(
    8,
    "an mrr of 0.0542 means an average rank of about 18",
    stated={"mrr": 0.0542, "mean_rank": 49.09},
    counter={"mean_rank": 18.5},
)
def mrr_is_a_rank(stated: Stated, _runs: Runs) -> Measured:
    """1 / mrr is the harmonic mean of the ranks."""
    harmonic = 1 / stated["mrr"]
    return Measured(
        figure=f"1 / mrr = {harmonic:.2f} is the harmonic mean; the printed arithmetic mean is {stated['mean_rank']}",
        verdict=finding(abs(harmonic - stated["mean_rank"]) < 1),
        truth="random ranking of 100 gives the same pair: 19.3 and 50.5",
        where="rectest.metrics.bounds",
    )


@BOOK.claim(
    9,
    "uncertainty weighting balances the two losses",
    stated={"total": 23.51, "parts": (1.2841, 22.2282), "decimals": 2},
    counter={"total": 20.27},
)
def weights_learn(stated: Stated, _runs: Runs) -> Measured:
    """With learned weights the total is not the plain sum of its parts."""
    plain = sum(stated["parts"])
    stuck = abs(plain - stated["total"]) <= 0.5 * 10 ** -stated["decimals"]
    return Measured(
        figure=f"logged total {stated['total']} against the plain sum {plain:.4f}",
        verdict=finding(not stuck),
        truth="the log-variances stand at 0, where every weight is exactly 1: no optimizer holds them",
        where="arithmetic on the log; rectest.checks.learning holds every trainable parameter to having moved",
    )


@BOOK.claim(
    10,
    "an epoch has 30 batches at size 32 and 60 at size 16",
    stated={"num_users": 938, "batches": {32: 30, 16: 60}},
    counter={"batches": {32: 30, 16: 59}},
)
def batches_per_epoch(stated: Stated, _runs: Runs) -> Measured:
    """One sample a user and epoch."""
    counted = {size: math.ceil(stated["num_users"] / size) for size in stated["batches"]}
    return Measured(
        figure=", ".join(f"{num} at size {size}" for size, num in counted.items()),
        verdict=finding(counted == dict(stated["batches"])),
        where="arithmetic",
    )


@BOOK.claim(
    11,
    "the learning rate is 3.00e-05 after the first epoch of a warm-up over 100 steps to 1e-4",
    stated={"peak": 1e-4, "warm_up_steps": 100, "steps": 30, "logged": 3.00e-5},
    counter={"warm_up_steps": 30},
)
def warm_up(stated: Stated, _runs: Runs) -> Measured:
    """Linear warm-up."""
    rate = stated["peak"] * min(1.0, stated["steps"] / stated["warm_up_steps"])
    return Measured(
        figure=f"{rate:.2e}",
        verdict=finding(math.isclose(rate, stated["logged"], rel_tol=5e-3)),
        truth="the schedule works; a higher rate cannot give a signal to a ranking that noise decides",
        where="arithmetic",
    )


@BOOK.claim(
    12,
    "the metrics are low because the data set is small and the model large",
    stated={"metrics": METRICS, **SETTING, "scorer_rank": SCORER_RANK, "noise": (10.0, 25.0)},
    counter={"noise": (0.0, 1.0)},
)
def small_data(stated: Stated, _runs: Runs) -> Measured:
    """A working scorer fused with an untrained one: does the scale alone give the report's numbers?"""
    from rectest.metrics.bounds import chance

    num = stated["num_candidates"]
    shift = rules.shift_for_mean_rank(stated["scorer_rank"], num_candidates=num)
    found = [rules.mean_of_measures(rules.fused_ranks(shift, noise=f, num_candidates=num)) for f in stated["noise"]]
    explained = True
    for name, value in stated["metrics"].items():
        _, error = chance(name, num_candidates=[num] * stated["num_users"], num_relevant=1)
        low, high = sorted(one[name] for one in found)
        explained &= low - 3 * error <= value <= high + 3 * error
    alone = rules.mean_of_measures(rules.fused_ranks(shift, noise=0, num_candidates=num))
    return Measured(
        figure=f"a scorer with {_show(alone)} gives {_show(found[0])} to {_show(found[-1])} once noise of "
        f"{stated['noise'][0]:g} to {stated['noise'][-1]:g} times its spread is added",
        verdict=finding(not explained),
        truth="fusion by scale: a frozen, untrained, unnormalised retriever at weight 0.5 drowns a working scorer",
        where="rectest.claims.rules.fused_ranks (exact), the score spreads of each part in a record's probes",
    )


def _show(found: dict[str, float]) -> str:
    return f"hit@5 {found['hit@5']:.3f} / ndcg@10 {found['ndcg@10']:.3f} / mean rank {found['mean_rank']:.1f}"


@BOOK.claim(
    13,
    "a retrieval loss of 22 is what a retriever shows that has not learned yet",
    stated={"loss": 22.0},
    counter={"loss": 0.7},
)
def untrained_loss(stated: Stated, _runs: Runs) -> Measured:
    """Binary cross-entropy of logits without any spread is ln 2; from there on it grows with their sd."""
    spread = stated["loss"] * math.sqrt(2 * math.pi)
    return Measured(
        figure=f"ln 2 = {math.log(2):.3f} for logits near 0; {stated['loss']:g} takes logits with an sd of "
        f"about {spread:.0f}",
        verdict=finding(stated["loss"] < 1.5 * math.log(2)),
        truth="the loss measures the scale of unnormalised scores (divided by 0.07), not how little was learned",
        where="E softplus(x) = sd / sqrt(2 pi) for a wide normal x",
    )


@BOOK.claim(
    14,
    "weighting the sequence model 0.7 against 0.3 lifts hit@5 to 0.10",
    stated={"weights": (0.7, 0.3), "noise": (10.0, 25.0), "target": 0.10, "scorer_rank": SCORER_RANK, **SETTING},
    counter={"weights": (0.99, 0.01)},
)
def fusion_weights(stated: Stated, _runs: Runs) -> Measured:
    """The same exact law with the noise scaled by the ratio of the weights."""
    num = stated["num_candidates"]
    shift = rules.shift_for_mean_rank(stated["scorer_rank"], num_candidates=num)
    own, other = stated["weights"]
    laws = [rules.fused_ranks(shift, noise=noise * other / own, num_candidates=num) for noise in stated["noise"]]
    hits = sorted(rules.mean_of_measures(law)["hit@5"] for law in laws)
    return Measured(
        figure=f"hit@5 {hits[0]:.3f} to {hits[1]:.3f} at {own:g}/{other:g}",
        verdict=finding(hits[0] >= stated["target"]),
        truth="with scales 10 to 25 times apart a weight of 0.7 changes little; normalise both scores instead",
        where="rectest.claims.rules.fused_ranks",
    )


@BOOK.claim(
    15,
    "random ranking has hit@10 = 0.6 % (a sister document)",
    stated={"k": 10, "num_candidates": 100, "baseline": 0.006},
    counter={"baseline": 0.1},
)
def random_baseline(stated: Stated, _runs: Runs) -> Measured:
    """10 places of 100."""
    from rectest.metrics.bounds import chance

    mean, _ = chance(f"hit@{stated['k']}", num_candidates=stated["num_candidates"], num_relevant=1)
    return Measured(
        figure=f"{100 * mean:g} % among {stated['num_candidates']} candidates",
        verdict=finding(math.isclose(mean, stated["baseline"], rel_tol=0.05)),
        truth="0.6 % is 10 of the 1,682 items of the catalogue: the baseline of another protocol",
        where="rectest.metrics.bounds.chance",
    )
