"""Generated item ids: what a decoder constrained by a trie must give, and exact expectations for its inputs.

Report 003 took "more than 90 % non-zero" for healthy where the data itself gives 69.9 %, and blamed strict string
matching for missed hits where a trie can only give ids that exist. Both have exact answers, computed here from the
histories and from the set of ids; nothing is estimated. Everything takes plain arrays and strings, so that it can
judge files and logs of other projects as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, count_of, judged, not_measured, percent, sample

__all__ = ["expected_share", "generated_ids", "matching", "normalised", "recent_share", "round_trip"]


def expected_share(history_lengths: npt.ArrayLike, num_recent: int) -> float:
    """Share of filled slots when each sample shows its last `num_recent` items, padded where it has fewer.

    >>> expected_share([1, 2, 5, 9], num_recent=5)
    0.65

    Raises:
        ValueError: no sample, no slot, or a negative length.
    """
    lengths = np.asarray(history_lengths, dtype=np.int64).reshape(-1)
    if not lengths.size or num_recent < 1 or lengths.min() < 0:
        msg = f"need samples with lengths of at least 0 and a slot each, got {lengths.size} samples, {num_recent} slots"
        raise ValueError(msg)
    return float(np.minimum(lengths, num_recent).sum() / (lengths.size * num_recent))


def recent_share(
    recent_ids: npt.ArrayLike, history_lengths: npt.ArrayLike, *, name: str = "recent items"
) -> CheckResult:
    """Whether each sample has exactly as many recent items as its history gives (``generated/recent_share``).

    Args:
        recent_ids: int[S, R], 0 where there is none.
        history_lengths: int[S], items that were known before each sample's target.
    """
    check = "generated/recent_share"
    ids, lengths = np.asarray(recent_ids), np.asarray(history_lengths).reshape(-1)
    if ids.ndim != 2 or not ids.size or len(ids) != lengths.size:
        missing = f"recent items {list(ids.shape)} of {lengths.size} samples"
        return not_measured(check, name, missing, advice="keep recent_item_ids [S, R] and one history length a sample")
    obtained, expected = (ids != 0).sum(axis=1), np.minimum(lengths, ids.shape[1])
    bad = np.flatnonzero(obtained != expected)
    wanted = expected_share(lengths, ids.shape[1])
    nothing = not obtained.any()
    return judged(
        check,
        name,
        ok=not bad.size,
        figure=f"{percent(float(obtained.sum() / ids.size))} of {ids.size} slots are filled",
        expected=f"{percent(wanted)}, counted from the lengths of the histories",
        limit="equal in every sample",
        worst=f"sample {bad[0]}: {obtained[bad[0]]} recent items, its history gives {expected[bad[0]]}"
        if bad.size
        else "",
        outside=count_of(bad.size, len(ids), "samples") if bad.size else "",
        detail=_why_recent(nothing=nothing) if bad.size else "",
        advice="look ids up by the key format of the map, and fail on an unknown one instead of taking 0",
    )


def _why_recent(*, nothing: bool) -> str:
    if nothing:
        return "no recent item was ever found, so the prefix is the same for everybody: keys of another format"
    return "items are lost or invented on the way into the sample"


def generated_ids(
    generated: Sequence[Sequence[str]], known: Collection[str], *, name: str = "generated ids"
) -> list[CheckResult]:
    """Whether every generated id exists (``generated/valid``), and no user is given one twice (``generated/distinct``).

    Args:
        generated: per user, the generated ids, best first.
        known: the ids of all items.
    """
    flat = [(user, one) for user, own in enumerate(generated) for one in own]
    if not flat or not known:
        missing = "nothing was generated" if not flat else "no item has an id"
        return [not_measured(check, name, missing) for check in ("generated/valid", "generated/distinct")]
    catalogue = frozenset(known)
    unknown = [(user, one) for user, one in flat if one not in catalogue]
    empty = [user for user, own in enumerate(generated) if not own]
    valid = judged(
        "generated/valid",
        name,
        ok=not unknown and not empty,
        figure=count_of(len(unknown), len(flat), "generated ids are of no item"),
        expected=f"one of {len(catalogue)} ids, and some for every user",
        limit="0",
        worst=f"user {unknown[0][0]}: {unknown[0][1]!r}" if unknown else "",
        outside=f"nothing generated for {count_of(len(empty), len(generated), 'users')}" if empty else "",
        detail="the decoder is not constrained by the trie of these ids, or its ids are of another version"
        if unknown
        else "",
        advice="build the trie from the ids in use, end token included, and mask with it at every step",
    )
    return [valid, _distinct(generated, len(flat), name)]


def _distinct(generated: Sequence[Sequence[str]], total: int, name: str) -> CheckResult:
    repeated = {user: [i for i, num in Counter(own).items() if num > 1] for user, own in enumerate(generated)}
    users = [user for user, twice in repeated.items() if twice]
    lost = sum(len(own) - len(set(own)) for own in generated)
    return judged(
        "generated/distinct",
        name,
        ok=not users,
        figure=count_of(lost, total, "places repeat an id of the same list"),
        limit="0",
        worst=f"user {users[0]}: {repeated[users[0]][0]!r}" if users else "",
        outside=count_of(len(users), len(generated), "users") if users else "",
        detail="a list of k places holds fewer than k items, so hit@k is that of a smaller k" if users else "",
        advice="keep beams with different prefixes, and cut the list after repeats are dropped",
    )


def normalised(text: str) -> str:
    """Text without what a fuzzy match ignores: case, and which signs stand between runs of letters and digits.

    The runs stay apart, so that the codes 1, 23 and 12, 3 are not taken for one id.

    >>> normalised(" Ab-01 |c"), normalised("ab 01 c") == normalised("ab 0 1 c")
    ('ab 01 c', False)
    """
    return " ".join("".join(sign if sign.isalnum() else " " for sign in text.casefold()).split())


def matching(
    generated: Sequence[Sequence[str]], targets: Sequence[str], known: Collection[str], *, name: str = "matching"
) -> CheckResult:
    """Whether strict and normalised matching find the same hits, as they must under a trie (``generated/matching``).

    Every generated string is then the text of one item, so a target that is there is there literally. A hit that
    only `normalised` texts have is either a string that is no id (separators, special tokens, other spacing), or
    another item whose id looks alike, a false hit. The two are told apart.

    Raises:
        ValueError: there is not one target for each list.
    """
    if len(generated) != len(targets):
        msg = f"need one target for each of {len(generated)} lists, got {len(targets)}"
        raise ValueError(msg)
    if not targets:
        return not_measured("generated/matching", name, "no list was generated")
    catalogue = frozenset(known)
    strict = [target in own for own, target in zip(generated, targets, strict=True)]
    only: list[tuple[str, str]] = []
    for own, target, hit in zip(generated, targets, strict, strict=True):
        alike = [one for one in own if normalised(one) == normalised(target)]
        only += [(target, alike[0])] if alike and not hit else []
    false_hits = [pair for pair in only if pair[1] in catalogue]
    foreign = [target for target in targets if target not in catalogue]
    return judged(
        "generated/matching",
        name,
        ok=not only and not foreign,
        figure=f"{sum(strict)} strict hits, {sum(strict) + len(only)} normalised ones, of {len(targets)}",
        expected="equal hits: under a trie every output is literally an id",
        limit="0 apart, and every target an id",
        worst=f"target {only[0][0]!r}, generated {only[0][1]!r}" if only else "",
        outside=f"targets that are no id: {sample(map(repr, foreign))}" if foreign else "",
        detail=_why_apart(len(only), len(false_hits)) if only else "",
        advice="compare item indices, not texts: look every output up in the trie, and fail where it is not found",
    )


def _why_apart(num: int, num_false: int) -> str:
    if num_false:
        return f"{num_false} of {num} are OTHER items with similar ids, so the fuzzy hits are false"
    return "outputs are not the ids they are compared with: separators, special tokens or spacing stuck to them"


def round_trip(ids: Mapping[int, str], decoded: Mapping[int, str], *, name: str = "item ids") -> CheckResult:
    """Whether encoding an id to tokens and decoding them gives it back, for every item (``generated/round_trip``).

    Also red where two items have one decoded text, since no match can then tell them apart.

    Args:
        ids: id text by item index.
        decoded: what decode(encode(id)) gave, by item index.
    """
    check = "generated/round_trip"
    if not ids:
        return not_measured(check, name, "no item has an id")
    lost = [item for item in ids if decoded.get(item) != ids[item]]
    times = Counter(decoded.values())
    same = [item for item in ids if item in decoded and times[decoded[item]] > 1]
    worst = f"item {lost[0]}: {ids[lost[0]]!r} becomes {decoded.get(lost[0])!r}" if lost else ""
    shared = f"{len(same)} items share their decoded text: {sample(same)}" if same else ""
    return judged(
        check,
        name,
        ok=not lost and not same,
        figure=count_of(len(lost), len(ids), "ids do not survive encoding and decoding"),
        expected="decode(encode(id)) == id for every item, and no two alike",
        limit="0",
        worst=worst,
        outside=shared,
        detail="such an item can be generated and never matched"
        if lost
        else ("no match can tell them apart" * bool(same)),
        advice="check every item, not a sample; keep separators out of what the tokenizer merges or drops",
    )
