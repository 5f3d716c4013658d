"""Why the properties of a run record are properties, as far as tables, id maps and metrics are not concerned."""

from __future__ import annotations

from collections.abc import Mapping

from rectest.audits.theory import Theory

__all__ = ["RECORDS"]

_EVALUATION: Mapping[str, Theory] = {
    "purity/random": Theory(
        claim="Evaluating draws from no global generator.",
        why="What evaluation draws is missing from training: how often one evaluates would decide what is trained.",
        red="Candidates sampled with the global generator, or dropout left on.",
    ),
    "purity/model": Theory(
        claim="Evaluating changes no parameter and no buffer.",
        why="A measurement must leave what it measures as it was.",
        red="Batch statistics in training mode, memories that grow, an optimiser that is stepped.",
    ),
    "purity/repeatable": Theory(
        claim="The same weights evaluated twice give the same ranks.",
        why="Otherwise two evaluations differ though nothing was learned between them.",
        red="Dropout in evaluation, candidates drawn anew.",
    ),
    "purity/imports": Theory(
        claim="Importing a system changes no setting of the whole process.",
        why="A result would depend on what else was imported, and in which order.",
        red="Default types, seeds or thread counts set at the top of a module.",
    ),
    "purity": Theory(
        claim="Evaluation leaves training alone and repeats itself.",
        why="See purity/random, purity/model and purity/repeatable.",
        red="The loop did not watch the evaluations, so nothing is known.",
    ),
    "checkpoint/best": Theory(
        claim="The weights that are tested are those of the best evaluation.",
        why="Evaluated again on the validation part, they must give what the curve says of that step, to the bit.",
        red="The last weights were tested, or the best were loaded into another object.",
    ),
    "evaluation/batch_means": Theory(
        claim="Metrics are means over users, and not means of batch means.",
        why="The last batch is shorter: a mean of means gives its users more weight than the others.",
        red="Averages of averages.",
        exempt="User counts that every batch size divides.",
    ),
    "invariance/modes": Theory(
        claim="Scores are finite in training and evaluation mode, with and without gradients.",
        why="A score that is not finite beats or loses to everything, by the ranker's choice.",
        red="Softmax over rows that are masked whole, divisions by a length of zero.",
    ),
    "invariance/blocks": Theory(
        claim="A user has the same scores alone and in company, up to rounding.",
        why="Users are independent: no sum goes over the users of a block.",
        red="A reduction over the first dimension, squeeze() on a block of one, statistics of the batch.",
    ),
    "invariance/padding": Theory(
        claim="More padding before a history changes no score, up to rounding.",
        why="Padding stands for nothing.",
        red="Attention to padding, positions counted from the wrong end, means over padded length.",
    ),
    "invariance": Theory(
        claim="Scores depend on the user alone.",
        why="See invariance/blocks and invariance/padding.",
        red="The scores were not probed.",
    ),
}

_TRAINING: Mapping[str, Theory] = {
    "learning/moved": Theory(
        claim="Every trainable parameter has moved at the end.",
        why="A parameter in the optimiser and the loss gets a gradient; one that is where it began had none.",
        red="Frozen branches, detached tensors, parameters that the optimiser does not have.",
    ),
    "learning/optimized": Theory(
        claim="Every trainable parameter is in an optimiser.",
        why="One that is not is never changed, whatever its gradient.",
        red="Modules made after the optimiser, or kept in plain lists.",
    ),
    "learning/branch": Theory(
        claim="Every branch that a system names learns: parameters move, its own loss falls.",
        why="A sum hides a part that stands still.",
        red="A weight of zero, a detached output, a loss that is not added.",
    ),
    "learning/loss_falls": Theory(
        claim="The loss is lower late than early, by more than its noise.",
        why="Means over parts of the curve differ by a multiple of their standard error when something is learned.",
        red="A learning rate of zero, labels that do not fit the inputs, a loss of constants.",
    ),
    "learning/overfitting": Theory(
        claim="The monitored metric does not fall from its best by more than noise while the loss still falls.",
        why="What is learned then is true of the training part alone.",
        red="Too many steps, too many parameters, leaks that hold for training only.",
    ),
    "learning/parameters_per_user": Theory(
        claim="How many parameters there are for each training user is told.",
        why="It says how much could be learned by heart; where a limit is given it is judged.",
        red="More than the limit.",
    ),
    "learning": Theory(
        claim="What should learn does.",
        why="See learning/moved, learning/optimized and learning/loss_falls.",
        red="The record does not say.",
    ),
    "fusion/scale": Theory(
        claim="No part of a summed score is so wide that the others decide nothing.",
        why="Where one part spreads r times as wide as another, the other decides a share of pairs that falls as 1/r.",
        red="Parts on different scales, such as a cosine beside a dot product.",
    ),
    "fusion/best_part": Theory(
        claim="A sum ranks no worse than the best of its parts.",
        why="Weights could always leave the other parts out.",
        red="A part at chance added with full weight.",
    ),
    "configuration/read": Theory(
        claim="Every setting that was given was read.",
        why="A setting that nobody reads does nothing, and an ablation of it compares a program with itself.",
        red="A misspelt key, a default that overwrites it, a file that is not loaded.",
    ),
    "effect": Theory(
        claim="What a setting promises of data or curves is what happened.",
        why="The promise is computed from settings and data before training, and compared with what was counted in it.",
        red="A temperature, a share or a schedule that is set and not used.",
    ),
}

_TWO_RUNS: Mapping[str, Theory] = {
    "reproducible": Theory(
        claim="Two runs of one spec in one environment are equal to the last bit.",
        why="Everything that is drawn comes from seeds, and deterministic algorithms add in one order.",
        red="An unseeded generator, hash order, threads, atomic additions; the first differing stage names it.",
    ),
    "seed_liveness": Theory(
        claim="Another seed draws other parameters, batches and negatives.",
        why="Where it does not, a spread over seeds is the spread of one run.",
        red="A seed set inside the program, or a stage that is drawn from a fixed one.",
    ),
    "inputs/comparable": Theory(
        claim="Runs that are compared are about one task: data, split, protocol and measure.",
        why="Among 100 candidates a hit is easier than among all; on other data it is another hit.",
        red="A validation figure beside test figures, or sampled beside full rankings.",
    ),
}

RECORDS: Mapping[str, Theory] = {**_EVALUATION, **_TRAINING, **_TWO_RUNS}
