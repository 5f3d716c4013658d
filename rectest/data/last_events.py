"""Which rows of a log are the last events of their users: what leave-k-out protocols hold back from training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rectest.data.interactions import Interactions

__all__ = ["last_events"]


def last_events(log: Interactions, count: int, *, min_events: int = 0) -> NDArray[np.bool_]:
    """bool[N]: the `count` last rows of every user with at least `min_events` rows, in the order of `sequences`.

    A user with fewer than `count` rows has all of them marked. ValueError for a `count` below 1.
    """
    if count < 1:
        msg = f"count must be at least 1, got {count}"
        raise ValueError(msg)
    keys = (log.user,) if log.time is None else (log.time, log.user)
    order = np.lexsort(keys)
    lengths = np.bincount(log.user, minlength=log.num_users)
    ends = np.repeat(np.cumsum(lengths), lengths)
    picked = (np.arange(len(log)) >= ends - count) & (np.repeat(lengths, lengths) >= min_events)
    mask = np.zeros(len(log), dtype=np.bool_)
    mask[order] = picked
    return mask
