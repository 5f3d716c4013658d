"""Why the properties of data are properties: logs, splits, stages, features and candidate sets.

What only run records have is in `records`.
"""

from __future__ import annotations

from collections.abc import Mapping

from rectest.audits.theory import Theory
from rectest.audits.theory.records import RECORDS

__all__ = ["THEORY"]

_LOGS: Mapping[str, Theory] = {
    "data/time_unit": Theory(
        claim="All times of a log are in one unit.",
        why="From 1980 to 2200 the seconds lie between 3.2e8 and 7.3e9, the milliseconds a thousand times higher, and "
        "so "
        "on: the windows of the units are decades apart, so that one log with times in two windows has two units.",
        red="Files of two sources were put together, or one part was converted. Sorted by time, all of one unit come "
        "first, and leave-last-out holds out the other.",
        exempt="Times that are no moments, such as steps, lie in no window and are not judged.",
    ),
    "data/time_constant": Theory(
        claim="Times differ between events.",
        why="An order by a constant is the order of the rows, whatever that is: a stable sort keeps it, others do not.",
        red="The column was filled with the time of the export, or cut to the day or the year.",
        exempt="A log whose rows are in the order of events may do without times; then give no column of times.",
    ),
    "data/time_range": Theory(
        claim="Times are moments that have been and that a system can have logged.",
        why="0 and -1 stand for 'unknown', and a clock that runs ahead writes what is to come; both are the first or "
        "last "
        "event of their user, and what is last becomes the test target.",
        red="Events before 1980 among later ones, or later than a day from now.",
        exempt="Logs whose times are steps.",
    ),
    "data/tie_order": Theory(
        claim="Events of one user at one moment are not ordered by their ids.",
        why="In a tie of distinct items, disjoint neighbours are ascending with probability 1/2 each and "
        "independently, "
        "when order and ids have nothing to do with each other, so the number of ascending pairs is binomial. "
        "Neighbours at different times show how often ids ascend anyway; their rate, at its upper limit, is the one "
        "to beat.",
        red="The log was sorted by item before time, or exported from a table with items as keys. A model that sees "
        "the "
        "ids as numbers, or a sampler that takes the last, learns the order of the ids and not of the events.",
        exempt="Ties whose order means nothing are harmless to models that take a moment as a set.",
    ),
    "data/repeated_events": Theory(
        claim="No event (user, item, time) is there twice.",
        why="A person does one thing to one item at one moment; a copy comes from an import that ran twice, or a join.",
        red="Copies weigh double in training, and a split may put one of two into training and the other into the "
        "test.",
        exempt="Logs of several kinds of events, where a view and a purchase share a second.",
    ),
    "data/returns": Theory(
        claim="How often users come back to an item is told and not judged.",
        why="It decides which protocol fits: where nobody returns, seen items are no candidates; where many do, "
        "excluding "
        "them makes targets unreachable.",
        red="Never.",
    ),
    "data/dominating_user": Theory(
        claim="No single user has a tenth of all events.",
        why="The most active of MovieLens-100K's 943 users has 0.74 %. Losses are means over events, so that one user "
        "with "
        "a tenth of them has a tenth of every gradient.",
        red="A crawler, a shared account, or rows without a user that were given one common id.",
        exempt="Logs of fewer than 20 users.",
    ),
}

_SPLITS: Mapping[str, Theory] = {
    "splits/disjoint": Theory(
        claim="No event is in two parts of a split.",
        why="With times an event is (user, item, time), and parts of one log share none. Without times pairs are "
        "compared: "
        "if held-out pairs come back from training more often than pairs come back within training (Fisher's exact "
        "test), they are the same events.",
        red="Copies in the log before it was split; a training file that was made of everything; a valid file that is "
        "the "
        "test file.",
        exempt="Users who return to items, which is why pairs are tested against the rate of returns.",
    ),
    "splits/time_order": Theory(
        claim="What is held out of a user comes after what is trained on.",
        why="A recommender predicts the future. The mean share of a user's other events that lie before a held-out "
        "one is "
        "1 for an ordered split, 1/2 for a random one and 0 for a reversed one; the protocol is named by it. Meng et "
        "al., Exploring Data Splitting Strategies (RecSys 2020); Ji et al., A Critical Study on Data Leakage, "
        "arXiv 2010.11060.",
        red="A random split of a log with times (a warning); single rows out of order in an ordered split; a "
        "descending "
        "sort, which holds out the first events.",
        exempt="Random splits and whole held-out users, when --protocol says so. A split that keeps each user's order "
        "but "
        "not the world's is in order with a note; --protocol temporal asks for more.",
    ),
    "splits/cold_users": Theory(
        claim="Fewer than a tenth of the held-out events are of users whom training has not met.",
        why="A model of user ids has no row for them: whatever it learns, its recall is at most one minus their share.",
        red="A filter that ran after the split, ids made anew for each part, or a split by time of a growing platform.",
        exempt="Splits that hold out whole users, for models that read histories.",
    ),
    "splits/cold_items": Theory(
        claim="Fewer than a tenth of the held-out events are of items that training has not met.",
        why="A model of item ids has no trained row for them: its recall is at most one minus their share.",
        red="As for users; or two forms of one id, such as 0042 and 42, one in each file.",
        exempt="Models that read contents.",
    ),
}

_STAGES: Mapping[str, Theory] = {
    "stages/new": Theory(
        claim="A later stage has no event that the stage before has not.",
        why="Filtering and splitting only take away.",
        red="The later file was made from another version of the data, or ids, times or units were changed on the way.",
    ),
    "stages/lost": Theory(
        claim="What is lost between two stages is what a usual filter takes: a k-core, a minimum count, copies.",
        why="The smallest counts that are left are the only thresholds that such a filter can have had: any smaller "
        "one "
        "gives the same rows. So each filter can be applied to the earlier stage and compared with the later one, "
        "row by row.",
        red="Users or items dropped by a join, a truncated file, a limit on histories, a split that forgot the users "
        "with "
        "few events.",
        exempt="A filter on ratings or dates between two stages is a warning; say what it was in the paper.",
    ),
}

_LEAKS: Mapping[str, Theory] = {
    "leak/counts": Theory(
        claim="Counts of items are counts of training events.",
        why="Popularity corrects losses, draws negatives and is a feature. Counted over everything it says which items "
        "are about to be popular among held-out events; the counts of each union of parts tell which were counted.",
        red="The counts were made before the split; or they equal no union, so that nobody knows what they are of.",
        exempt="Counts of training and validation together, for the final evaluation on the test part.",
    ),
    "leak/list_target": Theory(
        claim="A list of past items does not hold the item that it is to predict, but where users return to items.",
        why="Lists hold their target as rarely as their last item stands before in them; more (Fisher's exact test) "
        "means "
        "that the list runs up to its target or past it.",
        red="An index that is off by one when sequences are cut, or one list of the whole user beside every target.",
    ),
}

_CANDIDATES: Mapping[str, Theory] = {
    "candidates/target": Theory(
        claim="The target is in its candidate set once, or, where sets are of negatives alone, not at all.",
        why="A second copy is a competitor that no model can beat or lose to; a missing target is never found.",
        red="Negatives drawn without leaving the target out: with 100 of 3,000 items that is 3 % of the rows.",
    ),
    "candidates/duplicates": Theory(
        claim="The negatives of a row are distinct.",
        why="n draws with replacement from V items leave V (1 - (1 - 1/V)^n) distinct ones, so the target has fewer "
        "competitors than the protocol says and every metric is too high.",
        red="Drawing with replacement.",
    ),
    "candidates/empty": Theory(
        claim="All rows have as many candidates.",
        why="Chance is k/C: with another C in every row, metrics of users are not comparable, and padding may be "
        "ranked.",
        red="A sampler that gives up after some tries; users who have seen nearly everything.",
    ),
    "candidates/unknown": Theory(
        claim="Every candidate is an item of the data.",
        why="An item without an event has a row that was never trained, and is no competitor.",
        red="Raw ids in one file and dense ones in the other; ids from 0 in one and from 1 in the other.",
    ),
    "candidates/seen": Theory(
        claim="Negatives are items that their user has not met.",
        why="A model that has learned its user ranks met items high. As negatives they beat the target, and the better "
        "the model the more it loses.",
        red="Draws that leave out the target alone.",
        exempt="Protocols that count returns to an item as successes.",
    ),
    "candidates/target_place": Theory(
        claim="The place of the target in its row is not the same everywhere.",
        why="Equal scores are ranked by place in a stable sort: with the target first a constant model is perfect, "
        "with "
        "the target last it is hopeless.",
        red="The target is put before or after its negatives, and rows are not shuffled.",
        exempt="Rankers that count ties as half, or average over all orders.",
    ),
    "candidates/law": Theory(
        claim="The law of the negatives is told: uniform, or by popularity.",
        why="The mean training count of a negative is known exactly for both laws, over the items that may be drawn; "
        "the "
        "observed mean lies within its standard error of the one that was used. Metrics under the two laws differ by "
        "factors: popular negatives are harder. Krichene and Rendle, On Sampled Metrics (KDD 2020).",
        red="Never; where two splits differ, candidates/same_law says so.",
    ),
    "candidates/same_law": Theory(
        claim="Negatives of validation and test follow one law.",
        why="The best step on one task need not be that of another, and the two numbers cannot be compared.",
        red="One file was made anew with another sampler.",
    ),
}

THEORY: Mapping[str, Theory] = {**_LOGS, **_SPLITS, **_STAGES, **_LEAKS, **_CANDIDATES, **RECORDS}
