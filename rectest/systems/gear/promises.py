"""What the prepared data promises, counted a second time by other code, straight from the world's log.

Report 004 quoted 147,894 users for a number of loop iterations; how many of them were scored nobody counted. Every
figure here is taken from the raw rows with plain sorting, so that a slip in the indexed path (a row off by one,
behaviours in another order) cannot be in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.data.world import World

__all__ = ["HeldOut", "held_out_figures", "held_out_rows", "repeated_slots"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """Figures about the held-out rows of one split, over all users with enough rows."""

    num_users: int
    num_targets: int
    """Rows of the target behaviour: the users that are scored."""

    item_sum: int
    """Sum of their item ids: another row of the same user has another one."""

    known_sum: int
    """Sum of the items of the rows before, over all users: the newest that may be known."""

    gap_sum: int
    """Sum of the times since the row before, over all users."""

    @property
    def plain(self) -> list[int]:
        """The figures in the order of the fields."""
        return [self.num_users, self.num_targets, self.item_sum, self.known_sum, self.gap_sum]


def held_out_rows(world: World, *, min_rows: int) -> npt.NDArray[np.bool_]:
    """[N] the last two rows, in time order, of every user with at least `min_rows`."""
    held = np.zeros(len(world.interactions), dtype=bool)
    for rows in _by_user(world):
        if len(rows) >= min_rows:
            held[rows[-2:]] = True
    return held


def held_out_figures(world: World, *, min_rows: int, target: int) -> dict[str, HeldOut]:
    """The figures of ``valid`` (the last row but one) and of ``test`` (the last), target being a behaviour's code."""
    log = world.interactions
    assert log.behaviour is not None
    kept = np.array([rows[-3:] for rows in _by_user(world) if len(rows) >= min_rows], dtype=np.int64).reshape(-1, 3)
    found = {}
    for split, place in (("valid", 1), ("test", 2)):
        row, before = kept[:, place], kept[:, place - 1]
        wanted = log.behaviour[row] == target
        gaps = np.ones(len(row), dtype=np.int64) if log.time is None else log.time[row] - log.time[before]
        found[split] = HeldOut(
            num_users=len(row),
            num_targets=int(wanted.sum()),
            item_sum=int(log.item[row[wanted]].sum()),
            known_sum=int(log.item[before].sum()),
            gap_sum=int(gaps.sum()),
        )
    return found


def _by_user(world: World) -> list[list[int]]:
    """Row numbers of each user, oldest first, equal times in file order."""
    log = world.interactions
    users: list[list[int]] = [[] for _ in range(world.num_users)]
    rows = range(len(log)) if log.time is None else np.argsort(log.time, kind="stable").tolist()
    owner = log.user.tolist()
    for row in rows:
        users[owner[row]].append(row)
    return users


def repeated_slots(candidates: IntArray) -> int:
    """How many slots of [U, C] candidates repeat another slot of their row.

    >>> repeated_slots(np.array([[4, 2, 4, 4], [1, 2, 3, 5]]))
    2
    """
    ordered = np.sort(candidates, axis=1)
    return int((ordered[:, 1:] == ordered[:, :-1]).sum())
