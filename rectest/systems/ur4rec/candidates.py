"""Evaluation: the users of a split, and for each the held-out item at a random place among drawn candidates.

Candidates are part of the protocol, not of a run: every seed is judged on the same ones. A drawn candidate is none of
the user's own items, and one that training has seen: a phantom that was never trained is beaten by anything. `audit`
counts both, so that a record can show it.

Shapes: U users, C candidates, L sequence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from rectest.data.interactions import Sequences
from rectest.errors import WorldError
from rectest.seeding import SeedPlan
from rectest.systems.adaptive_sasrec.batches import left_padded
from rectest.systems.protocol import EvalSet
from rectest.systems.ur4rec.batches import UR4RecData

__all__ = ["audit", "draw_candidates", "make_eval_set"]

IntArray = npt.NDArray[np.int64]

_CANDIDATE_SEEDS = SeedPlan(root=20_251_210).child("eval_candidates")


def make_eval_set(
    data: UR4RecData, split: str, *, num_candidates: int, max_length: int, own: Sequence[IntArray] | Sequences
) -> EvalSet:
    """All users with a target in `split`; what came before it is their history.

    Args:
        own: [U] per user, the items that are no candidates of theirs.
    """
    place = data.held_out.place(split)
    users = np.flatnonzero(place >= 0)
    histories = [data.held_out.sequences[int(user)][: place[user]] for user in users]
    targets = np.array([data.held_out.sequences[int(user)][place[user]] for user in users], dtype=np.int64)
    return EvalSet(
        split=split,
        users=users,
        histories=histories,
        relevant=list(targets[:, None]),
        inputs={
            "users": torch.from_numpy(users),
            "items": torch.from_numpy(left_padded(Sequences.from_lists(histories), max_length)),
        },
        candidates=draw_candidates(
            data, [own[int(user)] for user in users], targets, num_drawn=num_candidates, rng=_CANDIDATE_SEEDS.rng(split)
        ),
    )


def draw_candidates(
    data: UR4RecData, own: Sequence[IntArray], targets: IntArray, *, num_drawn: int, rng: np.random.Generator
) -> IntArray:
    """[U, 1 + N] distinct items of the pool that are not the user's `own`, and the target, in random order.

    Raises:
        WorldError: a user leaves too few items.
    """
    rows = np.zeros((len(targets), 1 + num_drawn), dtype=np.int64)
    for row, target in enumerate(targets):
        taken = np.zeros(data.num_items + 1, dtype=bool)
        taken[own[row]] = taken[target] = True
        others = data.pool[~taken[data.pool]]
        if len(others) < num_drawn:
            problem = f"a user leaves {len(others)} items to draw {num_drawn} candidates from; lower num_candidates"
            raise WorldError(data.world, problem)
        rows[row] = rng.permutation(np.append(rng.choice(others, num_drawn, replace=False), target))
    return rows


def audit(data: UR4RecData, eval_set: EvalSet) -> dict[str, int]:
    """How many drawn candidates training never saw (``phantom``), and how many the user already had (``seen``)."""
    phantom = seen = 0
    for row, user in enumerate(eval_set.users.tolist()):
        of_row = np.asarray(eval_set.candidates)[row]
        drawn = of_row[of_row != eval_set.relevant[row][0]]
        had = np.zeros(data.num_items + 1, dtype=bool)
        had[data.held_out.sequences[user]] = True
        phantom += int((data.counts[drawn] == 0).sum())
        seen += int(had[drawn].sum())
    return {"phantom": phantom, "seen": seen}
