"""What can be read off a log without training: popularity floors, left padding, ids against counts.

All of it is exact given the log; nothing is drawn.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rectest.data.world import World

__all__ = [
    "id_popularity_agreement",
    "last_state_shares",
    "popularity_among_candidates",
    "top_overlap",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def last_state_shares(lengths: Ints, *, width: int) -> tuple[float, float]:
    """Shares of left-padded histories whose state number `n - 1` is padding, and whose it is not the newest item's.

    With n real items at the right end of `width` places, place n - 1 is padding for 2 n <= width, an older item for
    other n < width, and the newest one only for a full history.

    >>> last_state_shares(np.array([1, 25, 26, 49, 50, 70]), width=50)
    (0.3333333333333333, 0.3333333333333333)
    """
    real = np.minimum(lengths, width)
    padding = 2 * real <= width
    return float(padding.mean()), float((~padding & (real < width)).mean())


def popularity_among_candidates(counts: Ints, targets: Ints, *, num_drawn: int) -> Floats:
    """[U, C] the law of each target's rank by `counts` [V+1] among itself and `num_drawn` distinct uniform others.

    Exact: the number of more popular others is hypergeometric, and within equal counts every order is as likely.
    """
    from scipy.stats import hypergeom

    num_items = len(counts) - 1
    above = np.array([(counts[1:] > counts[target]).sum() for target in targets])
    equal = np.array([(counts[1:] == counts[target]).sum() for target in targets])
    places = np.arange(num_drawn + 1)
    laws = {}
    for more, ties in {(int(a), int(e)) for a, e in zip(above, equal, strict=True)}:
        better = np.arange(more, more + ties)[:, None]  # the target stands anywhere among its equals
        laws[more, ties] = hypergeom.pmf(places[None, :], num_items - 1, better, num_drawn).mean(axis=0)
    return np.stack([laws[int(a), int(e)] for a, e in zip(above, equal, strict=True)])


def id_popularity_agreement(world: World) -> float:
    """Spearman's correlation of item id and counted events; -1 where the smallest ids are the most popular."""
    from scipy.stats import spearmanr

    counts = world.popularity()[1:]
    return float(spearmanr(np.arange(1, len(counts) + 1), counts).statistic)


def top_overlap(world: World, num_top: int) -> float:
    """Share of the `num_top` smallest ids that are among the `num_top` most popular items."""
    counts = world.popularity()[1:]
    top = np.argsort(-counts, kind="stable")[:num_top]
    return float((top < num_top).mean())
