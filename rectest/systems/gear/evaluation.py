"""What is asked at evaluation, what the model is given for it, and whether that is what the log says.

Candidates are drawn and kept in `candidates`, counted a second time in `promises`.

Shapes: U users, L rows, C candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rectest.data.interactions import digest_arrays
from rectest.systems.gear.batches import GEARData, windows
from rectest.systems.gear.candidates import seen_candidates
from rectest.systems.gear.promises import HeldOut, repeated_slots
from rectest.systems.protocol import EvalSet

__all__ = ["candidate_digests", "figures", "held_out_set", "own_items", "protocol_invariants"]

IntArray = npt.NDArray[np.int64]


def held_out_set(data: GEARData, split: str, *, max_length: int, candidates: IntArray | None) -> EvalSet:
    """Everybody's held-out row of `split`; it is relevant where its behaviour is the target.

    The inputs are the rows before it, and its own behaviour and time: the next behaviour and when it comes are given.
    """
    places, starts = data.held_out_place(split), data.train_starts
    cut = windows(data.rows, starts, places + 1, width=max_length)
    wanted = (data.rows.behaviours[places] == data.target).astype(np.int64)
    bounds = list(zip(starts.tolist(), places.tolist(), wanted.tolist(), strict=True))
    inputs = {**cut, "items": cut["items"][:, :-1]}
    return EvalSet(
        split=split,
        users=data.users,
        histories=[data.rows.items[start:place] for start, place, _ in bounds],
        relevant=[data.rows.items[place : place + count] for _, place, count in bounds],
        inputs={name: torch.from_numpy(values) for name, values in inputs.items()},
        candidates=candidates,
    )


def own_items(data: GEARData) -> list[IntArray]:
    """Every item of each user with enough rows, held-out ones included."""
    ends = data.rows.offsets[data.users + 1]
    return [data.rows.items[start:end] for start, end in zip(data.train_starts.tolist(), ends.tolist(), strict=True)]


def figures(eval_set: EvalSet) -> HeldOut:
    """What the evaluation really asks and gives."""
    elapsed_UL, relevant = eval_set.inputs["elapsed"], np.concatenate(eval_set.relevant)
    return HeldOut(
        num_users=len(eval_set),
        num_targets=len(relevant),
        item_sum=int(relevant.sum()),
        known_sum=int(eval_set.inputs["items"][:, -1].sum()),
        gap_sum=int((elapsed_UL[:, -1] - elapsed_UL[:, -2]).sum()),
    )


def candidate_digests(sets: Mapping[str, EvalSet]) -> dict[str, str]:
    """A digest of the candidates of each split that has some."""
    return {
        f"candidates_{split}": digest_arrays([("items", found.candidates)])
        for split, found in sets.items()
        if found.candidates is not None
    }


def protocol_invariants(data: GEARData, sets: Mapping[str, EvalSet]) -> dict[str, list[Any]]:
    """``[obtained, expected]`` of each split: its figures, and what must not stand among its candidates."""
    found: dict[str, list[Any]] = {}
    for split, eval_set in sets.items():
        found[f"{split}_rows"] = [figures(eval_set).plain, data.promised[split].plain]
        if eval_set.candidates is None:
            continue
        seen = seen_candidates(eval_set.candidates, own_items(data), data.rows.items[data.held_out_place(split)])
        found[f"{split}_candidates_seen"] = [seen, 0]
        found[f"{split}_candidates_repeated"] = [repeated_slots(eval_set.candidates), 0]
    return found
