"""What the settings and the data promise of the inputs, computed apart from the code that makes them.

Report 003 called more than 90 % of recent items present healthy and less than 50 % broken; its healthy pipeline had
69.9 %, because short histories are many. The exact share follows from the lengths of the sequences. The functions
here count what the prepared tensors hold, and say beside it what they should hold.

Shapes: U users, V items, S samples, B batch, N+1 passages, Lp tokens.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.systems.gram_c.config import GramCConfig
from rectest.systems.gram_c.data import GramCData, Manifest, Part
from rectest.systems.gram_c.ids import ItemIds
from rectest.systems.gram_c.samples import NUM_RECENT
from rectest.systems.gram_c.steps import planned_rate
from rectest.systems.gram_c.text import (
    HISTORY_SEPARATOR,
    LEVEL_SEPARATOR,
    UNKNOWN,
    Vocabulary,
    join_history,
    normalised,
    split_history,
)

__all__ = [
    "consecutive_items",
    "expected_recent_share",
    "invariants",
    "matching_hits",
    "num_field_separators",
    "num_round_trips",
    "prepared_facts",
]

IntArray = npt.NDArray[np.int64]

_SPLITS = ("train", "valid", "test")
_MAX_PAIRS = 2000


def expected_recent_share(lengths: npt.ArrayLike, num_recent: int = NUM_RECENT) -> dict[str, float]:
    """The share of `recent_item_ids` that is not padding, by split, exactly, from the number of events of each user.

    Of a user's n >= 3 events the last two are held out. Training has a sample with each history of 1 to n - 3 items,
    validation one of n - 2, test one of n - 1; a history of j items fills min(j, num_recent) places. A shorter user
    has no targets and trains on all but the first event. A split without samples has the share NaN.

    >>> shares = expected_recent_share([3, 5], num_recent=2)
    >>> [round(share, 3) for share in shares.values()]
    [0.75, 0.75, 1.0]
    """
    totals: dict[str, list[int]] = {split: [0, 0] for split in _SPLITS}
    for n in np.asarray(lengths, dtype=np.int64).tolist():
        histories = {"train": range(1, n - 2 if n >= 3 else n), "valid": [n - 2], "test": [n - 1]}
        for split in _SPLITS if n >= 3 else ("train",):
            filled = [min(j, num_recent) for j in histories[split]]
            totals[split][0] += sum(filled)
            totals[split][1] += num_recent * len(filled)
    return {split: filled / places if places else float("nan") for split, (filled, places) in totals.items()}


def prepared_facts(data: GramCData, config: GramCConfig) -> dict[str, Any]:
    """Sizes and digests of the prepared data; under ``expected_scalars`` and ``invariants`` what must be seen of it."""
    promised = invariants(data, prefix=config.collaborative_prefix, num_passages=config.num_passages)
    return {
        "expected_scalars": _expected_scalars(config, recent_share=promised["prefix/recent_share/train"][1]),
        "invariants": promised,
        "digests": dataclasses.asdict(data.manifest),
        "recent_share": {split: promised[f"prefix/recent_share/{split}"][0] for split in _SPLITS},
        "consecutive_items": consecutive_items(data),
        "num_train_events": len(data.split.train.items),
        "num_train_samples": len(data.parts["train"].samples),
        "num_train_users": len(np.unique(data.parts["train"].samples.users)),
        "num_users_without_target": data.split.num_short,
        "users_repeat_items": data.repeats,
    }


def _expected_scalars(config: GramCConfig, *, recent_share: float) -> dict[str, float]:
    """The mean that each promised curve must have over the whole run."""
    rates = [planned_rate(step, num_steps=config.steps, warmup=config.warmup) for step in range(1, config.steps + 1)]
    expected = {
        "schedule/learning_rate": config.learning_rate * math.fsum(rates) / config.steps,
        "accumulation/deviation": 0.0,
        "prefix/recent_share": recent_share,
        "prefix/in_logits": float(config.collaborative_prefix),
    }
    return expected | ({"decoding/overlap@10": 1.0} if config.decoding == "beam" else {})


def invariants(data: GramCData, *, prefix: bool, num_passages: int) -> dict[str, list[Any]]:
    """[obtained, expected] of everything that the prepared data promises; see `rectest.checks.effects`."""
    found: dict[str, list[Any]] = {
        "ids/distinct": [data.ids.num_distinct, data.num_items],
        "ids/round_trip": [num_round_trips(data.texts, data.vocabulary, data.ids), data.num_items],
        "ids/separators_in_fields": [num_field_separators(data.texts), 0],
        "matching/strict_as_normalised": _matching(data),
        "graph/edges": [data.num_edges, len(np.unique(np.stack([_owners(data), data.split.train.items]), axis=1).T)],
    }
    now = Manifest.of(data.split.train, data.ids, data.graph, data.collator.word_tokens)
    for name in ("train", "ids", "graph", "words"):
        found[f"inputs/{name}"] = [getattr(now, name), getattr(data.manifest, name)]
    lengths = data.split.train.lengths + (data.split.valid > 0) + (data.split.test > 0)
    shares = expected_recent_share(lengths) if prefix else dict.fromkeys(_SPLITS, 0.0)
    for split, part in data.parts.items():
        recent = data.collator.recent(part.samples.histories)
        found[f"prefix/recent_share/{split}"] = [float((recent > 0).mean()), shares[split]]
        found[f"passages/{split}"] = [_passages(data, part), {"unknown": 0, "newest_first": len(part.samples)}]
    found["passages/words"] = [_words_of_newest(data, data.parts["train"], num_passages), 0]
    return found


def num_round_trips(texts: tuple[str, ...], vocabulary: Vocabulary, ids: ItemIds) -> int:
    """Items whose written id, tokenised and written again, is the same text, and whose tokens are their codes."""
    kept = 0
    for text, codes in zip(texts[1:], ids.codes[1:].tolist(), strict=True):
        tokens = vocabulary.id_tokens(text)
        kept += vocabulary.text(tokens) == text and tokens == [vocabulary.code(*pair) for pair in enumerate(codes)]
    return kept


def num_field_separators(texts: tuple[str, ...]) -> int:
    """Items whose id would come apart in a history: it holds the separator, or loses something at its ends."""
    whole = LEVEL_SEPARATOR.join(texts[1:2])
    return sum(HISTORY_SEPARATOR in text or split_history(join_history([text, whole])) != [text, whole]
               for text in texts[1:])  # fmt: skip


def matching_hits(generated: list[str], wanted: list[str]) -> tuple[int, int]:
    """How many generated texts are the wanted ones: strictly, and with case and spaces forgiven.

    >>> matching_hits(["a1 b0 ", "a0 b3"], ["a1 b0", "a0 b3"])
    (1, 2)
    """
    pairs = list(zip(generated, wanted, strict=True))
    return sum(a == b for a, b in pairs), sum(normalised(a) == normalised(b) for a, b in pairs)


def consecutive_items(data: GramCData) -> list[list[int]]:
    """Pairs of different items that follow each other in training, at most 2000: what a graph table must know."""
    train = data.split.train
    second = np.flatnonzero(train.positions() > 0)
    pairs = np.stack([train.items[second - 1], train.items[second]], axis=1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    found: list[list[int]] = pairs[:: -(-len(pairs) // _MAX_PAIRS) or 1].tolist()
    return found


def _owners(data: GramCData) -> IntArray:
    return data.split.train.owners()


def _matching(data: GramCData) -> list[int]:
    """Strict and forgiving hits of what is generated for each id, against the texts of the items that have it."""
    items = {tuple(codes): item for item, codes in enumerate(data.ids.codes.tolist()) if item}
    wanted = [data.texts[items[tuple(codes)]] for codes in data.trie.codes.tolist()]
    return list(matching_hits(list(data.generated), wanted))


def _passages(data: GramCData, part: Part) -> Mapping[str, int]:
    """Unknown tokens in all passages, and samples whose history starts with the newest item."""
    first = part.newest[:, 0]
    wanted = data.collator.id_tokens[part.samples.histories[:, -1]]
    length = min(wanted.shape[1], data.collator.word_tokens.shape[1])
    starts = data.collator.passages(part.newest)[:, 0, :length]
    known = (starts == wanted[:, :length]).all(axis=1) & (first > 0)
    return {"unknown": int((part.newest == data.num_items + 1).sum()), "newest_first": int(known.sum())}


def _words_of_newest(data: GramCData, part: Part, num_passages: int) -> int:
    """Training samples whose item passages do not say what is written of their newest items."""
    histories = part.samples.histories[:, ::-1][:, :num_passages]
    wanted = data.collator.word_tokens[histories]
    passages = data.collator.passages(part.newest)[:, 1 : 1 + histories.shape[1]]
    return int((passages != wanted).any(axis=(1, 2)).sum() + (passages == UNKNOWN).any(axis=(1, 2)).sum())
