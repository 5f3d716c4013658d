"""Why the properties of tables are properties."""

from __future__ import annotations

from collections.abc import Mapping

from rectest.audits.theory import Theory

__all__ = ["THEORY"]

_ROWS: Mapping[str, Theory] = {
    "embeddings": Theory(
        claim="An embedding table is floating point [rows, dim], and everything given beside it has one entry a row.",
        why="Every other property is one of rows; counts or initial values of another length belong to another table.",
        red="NOT MEASURED with the two shapes: the wrong tensor of a checkpoint, counts without the padding row, or a "
        "table that grew after it was initialised.",
    ),
    "embeddings/finite": Theory(
        claim="No entry is NaN or infinite.",
        why="The inner product of a row that holds NaN is NaN for every user, and every comparison with NaN is false: "
        "a ranker that counts the competitors above the target then gives the target the first rank. The sum of "
        "squares of a row is finite exactly when its entries are (up to overflow, which is looked at again in "
        "float64), so one pass finds them all.",
        red="Metrics jump to 1 or to 0. Causes: a diverging learning rate, log or division of zero in the loss, "
        "overflow of float16, a row that was allocated and never written.",
    ),
    "embeddings/padding_row": Theory(
        claim="The padding row is exactly zero before and after training.",
        why="A padded place then adds nothing to a sum or an inner product. torch gives the row padding_idx no "
        "gradient, so what initialisation wrote there stays: nn.init.xavier_normal_(embedding.weight) after "
        "nn.Embedding(..., padding_idx=0) overwrites the zeros that the constructor set.",
        red="Scores depend on how much padding a sequence has, so batching changes results. Causes: initialisation of "
        "the whole weight, a table without padding_idx, weight decay or averaging of a row that was not zero.",
        exempt="A table without padding has none; name no padding row.",
    ),
    "embeddings/norm": Theory(
        claim="Every row but the padding has the promised length.",
        why="Normalising and measuring each round: a sum of D squares is within D eps of exact, its root within half "
        "of that, and scaling rounds every entry once more (Higham, Accuracy and Stability of Numerical Algorithms, "
        "3.1), so lengths may be off by (D + 4) eps of the type that the table is stored in, relatively. More is no "
        "rounding.",
        red="Rows of another length win or lose inner products by it, though the model ranks by cosine. Causes: "
        "normalising in the loss and not where the table is exported, rows added later, a lossy conversion after "
        "normalising, normalised columns in place of rows.",
        exempt="A table that promises no length is held to embeddings/exploding and embeddings/spread in its place.",
    ),
    "embeddings/exploding": Theory(
        claim="No row is many times as long as rows of the same popularity.",
        why="Lengths grow with popularity, since popular rows get more updates; within one popularity they vary by a "
        "small factor, nearly log-normally. A row is outside when it is 10 times the median of its decile and 12 "
        "robust deviations (1.4826 MAD, the deviation of a normal law) above it in log length; in 24 trained "
        "factorisations no row was both. Medians are those of all rows up to 262,144, of every n-th row beyond.",
        red="One item is recommended to everybody. Causes: gradients of repeated ids summed in place of averaged, no "
        "clipping, an id that stands for many (unknown, default).",
    ),
    "embeddings/spread": Theory(
        claim="Rows of every popularity decile have comparable lengths.",
        why="Under an inner product a row's length is its prior. Deciles whose medians differ by more than a factor of "
        "20, or that fell below a tenth of their start, were not reached by training but by decay or by an optimizer "
        "that scales with frequency; 24 healthy factorisations reached a factor of 4.8.",
        red="Rare items are never recommended, or only they are. Causes: weight decay on rows that no batch touches "
        "(dense AdamW on a large table), frequency-scaled learning rates, rows that were never initialised.",
        exempt="A factorisation of raw counts has long rows for popular items; in an audit it is a warning.",
    ),
    "embeddings/zero_rows": Theory(
        claim="No row but the padding is all zero.",
        why="A zero row has inner product 0 with everything, just as padding has; no continuous initialisation gives "
        "one.",
        red="Its item scores 0 for everybody. Causes: ids of a map that the exporter never filled in, "
        "weight[padding_idx] = 0 with padding_idx None (which zeroes the whole table), float16 underflow.",
        exempt="A row that is meant to be unused is padding; name it so.",
    ),
    "embeddings/duplicates": Theory(
        claim="No two rows are equal bit by bit.",
        why="N independent rows of D numbers with m mantissa bits have at most N (N - 1) / 2 * 2^(-(m - 1) D) equal "
        "pairs in expectation (birthday bound): below 1e-30 for 10 million rows of 8 float32. Rows with equal "
        "fingerprints are compared byte by byte, so no two different rows are reported; equal rows have equal "
        "fingerprints wherever they lie, so none is missed.",
        red="Several items share one vector and always rank together. Causes: ids mapped twice, a default vector for "
        "unknown items, a broadcast copy, identical features in a content encoder.",
        exempt="Rows so short that chance makes equal ones are not judged; the figure says so. In an audit it is a "
        "warning: items with exactly the same users have equal rows in a factorisation.",
    ),
    "embeddings/collapse": Theory(
        claim="Rows do not all point one way.",
        why="The mean cosine over all pairs follows from the sum s of the N directions: (|s|^2 - N) / (N (N - 1)), one "
        "pass and no pairs. It is near 0 without a common direction; popularity alone gave up to 0.67 in 24 trained "
        "factorisations; above 0.95 the mean angle is below 18 degrees and items differ by length only.",
        red="All users get the same list. Causes: no negatives, a constant input, a temperature far too high, "
        "averaging layers that smooth everything (graph convolutions too deep).",
    ),
    "embeddings/dead_rows": Theory(
        claim="Rows that took part in batches differ from their initial values; rows of a frozen table do not.",
        why="A gradient that reaches a row changes some bit of it. A rare row may be masked by chance in its few "
        "appearances, so only rows with 5 of them count, or more than half of all rows.",
        red="The table keeps its random values and the tower adapts around them. Causes: detach, requires_grad = "
        "False, a table that was replaced or resized after the optimizer was made, sparse gradients that an optimizer "
        "skips.",
        exempt="Needs the initial table and the counts of a recorded run; a table alone is not asked.",
    ),
    "embeddings/untouched_rows": Theory(
        claim="Rows that no batch used still have their initial bits.",
        why="Without decay an optimizer has no term for a row of zero gradient from the start; any moved bit came from "
        "an update that was meant for another row.",
        red="Rows move that nobody trained. Causes: shifted ids, undeclared weight decay, dense momentum, wrong "
        "counts.",
        exempt="Declare moves_untouched where the optimizer decays all rows.",
    ),
}

_SAMPLED: Mapping[str, Theory] = {
    "embeddings/near_duplicates": Theory(
        claim="No row repeats the direction of another one up to rounding.",
        why="Two copies rounded to bfloat16 have 1 - cosine <= 2^-17. Random directions get so near with a "
        "probability of at most sin(t)^(d-1) / 2 a pair, with d the effective rank; where pairs are expected by "
        "chance nothing is judged. Up to 20,000 rows are compared with each other, all of them; of more rows a "
        "sample, which finds pairs in proportion to the square of its share.",
        red="One item under two ids, a table put together from two exports, a vector that fills up unknown rows.",
        exempt="Items with the same few events get one direction from a factorisation; with --interactions pairs of "
        "items of at most two events are left out.",
    ),
    "embeddings/hubness": Theory(
        claim="No row is among the nearest neighbours of a large part of all rows.",
        why="In k-nearest-neighbour lists of random directions each row occurs k times on average, by a law near "
        "Poisson's (skewness 1/sqrt(k)). In data with a centre, rows near the centre occur far more often, the more "
        "the higher the dimension (Radovanovic, Nanopoulos and Ivanovic 2010). Sound tables have such hubs, of up to "
        "13 % of the lists; beyond a fifth the row stands for nothing and everything.",
        red="A default or average vector stored as an item, a common offset, an item that was in every batch.",
        exempt="A hub may be meant in a table of categories; it is a warning.",
    ),
    "embeddings/effective_rank": Theory(
        claim="The rows fill more than a few of their dimensions.",
        why="exp(-sum p log p) of the shares p of the singular values is the number of dimensions in use (Roy and "
        "Vetterli 2007): D for random rows, half of D or more in trained tables of 16 and 64 columns. A tenth is a "
        "table that repeats itself.",
        red="Tiled or copied columns, a collapse of a loss without negatives, weight decay that has won.",
        exempt="A table far wider than its task needs may use few dimensions; it is a warning.",
    ),
    "embeddings/one_direction": Theory(
        claim="No single direction holds nearly all of the variance.",
        why="The largest eigenvalue of the covariance over the sum of all: 1/D for random rows, up to 0.62 in sound "
        "tables of strong popularity. Above 0.9 the table is a list of numbers, usually popularity or the length of "
        "a few rows that exploded.",
        red="Outliers, no negatives, a bias that found its way into the table.",
    ),
    "embeddings/dead_dimensions": Theory(
        claim="Every column differs between rows.",
        why="A column that is the same for all items adds the same number to all scores of a user, and changes no "
        "ranking.",
        red="Columns that were never filled (concatenated features of no data), or decayed to zero.",
        exempt="A column of ones beside a bias is meant; so are the last columns of an SVD of less than full rank.",
    ),
    "embeddings/isotropy": Theory(
        claim="The rows of a trained table are not spread as evenly over all directions as random numbers.",
        why="For independent even directions the squared cosines of different rows have mean 1/D, variance "
        "2 (D - 1) / (D^2 (D + 2)), and are uncorrelated, so that their sum has a known law (John 1971, Ledoit and "
        "Wolf 2002); n D times the squared mean direction is chi-square with D degrees. Training leaves both at "
        "once. A mean of 0 and an sd of 0.125 say nothing: rows of length 1 in 64 dimensions have "
        "sd^2 = 1/64 - mean^2 = 0.125^2 whatever they hold, signal or noise.",
        red="A generator's output, a table saved before training, the wrong tensor of a checkpoint.",
        exempt="A table that was whitened on purpose is spread too evenly to be random and passes; one that has hardly "
        "left its initial values is called what it is. Settled by --interactions.",
    ),
}

_BESIDE: Mapping[str, Theory] = {
    "embeddings/signal": Theory(
        claim="Items that follow each other in users' sequences are nearer to each other than random items of the "
        "same popularity.",
        why="It is the one thing that noise cannot have, and the only property of a table that names its items: a "
        "table of normalised random numbers passes every other check. The mean cosine of the pairs is compared with "
        "that of random pairs within blocks of like popularity, so that popular rows that lie alike earn nothing. "
        "Pairs share items, so their number is no sample size: the deviation is that of the whole sum when rows "
        "change places among items of like popularity (Mantel 1967), in closed form. More than 5 deviations is "
        "signal; the smallest excess that the pairs can show is told, and noise is only claimed where an excess of "
        "0.05 would have been seen. Every shift of up to 8 rows, the reversed table and the usual other orders of ids "
        "are tried as well, because neighbouring ids may be alike: on MovieLens a table moved by one row still has "
        "50 deviations, and the right rows have 180. Each quarter of the rows is asked among its own pairs, too: "
        "one that has no signal, though its pairs would have shown a quarter of what another one has, is a warning. "
        "Rows without signal that are strewn over the whole table only weaken it.",
        red="Random numbers, a table of another id map, a part of the rows stale or never trained, rows moved by one "
        "(0-based and 1-based indices mixed), ids sorted where the map has them in the order of the file.",
        exempt="Tables of users or categories have no pairs of this kind. Output tables beside other input tables may "
        "point apart, which is a warning.",
    ),
    "embeddings/rows_match": Theory(
        claim="The indices of the map are the rows of the table.",
        why="With V items and padding in row 0, indices are 1 to V and rows 0 to V. A largest index of V with V rows "
        "is a map that counts from 1 and a table that counts from 0.",
        red="A padding row missing or added twice, a table made before the last filter of the items.",
        exempt="More rows than indices is a warning: reserved rows (unknown, mask) are meant.",
    ),
    "embeddings/coverage": Theory(
        claim="Every item of the interactions has a row.",
        why="What has no row is dropped, or falls back to row 0, which is padding: in silence either way.",
        red="Ids as numbers in one file and as text in another, 487 and 487.0, other filters of rare items.",
        exempt="A log from before the filter has items without rows; it is a warning unless none is found.",
    ),
    "embeddings/popular_items": Theory(
        claim="The items of most events have rows that are finite and not zero.",
        why="Popularity is skewed: a hundred items are in a large part of all lists, so a fault among them costs more "
        "than a thousand rare ones. They are named, so that a person can look whether they are what they should be.",
        red="The most popular id mapped to padding, a key of another form.",
    ),
}

THEORY: Mapping[str, Theory] = {**_ROWS, **_SAMPLED, **_BESIDE}
