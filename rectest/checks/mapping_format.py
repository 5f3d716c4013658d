"""How raw ids are written: the one format of a map and the ids that differ from it, and ids that differ only in style.

Ids of one shape (digits here, letters there) are judged by one of them, so that a regular expression sees some hundred
ids of ten million; ids that are not plain ASCII are judged one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.checks.mapping_hashes import EACH_BYTE, TOPS, each_block, equal_hashes, mixed
from rectest.checks.mapping_ids import LONG, RawIds, Words
from rectest.checks.result import CheckResult, count_of, judged, sample
from rectest.checks.result import places as ranges

__all__ = ["FORMATS", "KEY_PATTERNS", "canonical", "key_pattern", "written_alike"]

Mask = npt.NDArray[np.bool_]

_CAPITALS = "ten capitals or digits (ASIN, ISBN)"

FORMATS = (
    ("integers", re.compile(r"-?[0-9]+")),
    ("decimals", re.compile(r"-?[0-9]+\.[0-9]+")),
    (_CAPITALS, re.compile(r"[0-9A-Z]{10}")),
    ("hexadecimal", re.compile(r"(?:0x)?[0-9a-f]{8,}(?:-[0-9a-f]{4,})*", re.IGNORECASE)),
    ("a prefix and a number", re.compile(r"[A-Za-z]+[_:#-]?[0-9]+")),
)
"""Formats of raw ids, the narrowest first; a map of no such format holds free text, in which nothing is odd."""

FORMAT_SHARE = 0.9
"""A format is the map's own when this share of the ids has it; the others are then outliers."""

MIXED_LEAST = 10
"""Two formats that share the ids of a map between them are two vocabularies from so many ids of each on, where each has
more than what outliers may be."""

KEY_PATTERNS: Mapping[str, str] = {
    "asin": "[0-9A-Z]{10}",
    "isbn": "[0-9]{9}[0-9X]|97[89][0-9]{10}",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "int": "0|[1-9][0-9]*",
}
"""Formats that can be promised by name; an ISBN-10 of a book is its ASIN, so ``asin`` takes both."""

_NUMBER = re.compile(r"(-?)0*([0-9]+)(?:\.0*)?")
_ZEROS, _LETTERS = EACH_BYTE * np.uint64(ord("0")), EACH_BYTE * np.uint64(ord("a"))
_PREFIXES = np.array([int.from_bytes(x, "little") for x in (b"0x", b"0X")], dtype=np.uint64)
_SEVEN, _ALL_BITS = np.uint64(7), np.uint64(255)


def key_pattern(name: str) -> re.Pattern[str]:
    """The promised pattern of this name, or of this regular expression.

    Raises:
        ValueError: neither a name nor a regular expression.
    """
    try:
        return re.compile(KEY_PATTERNS.get(name, name))
    except re.error as error:
        msg = f"key pattern {name!r} is no regular expression ({error}); known names: {', '.join(KEY_PATTERNS)}"
        raise ValueError(msg) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shapes:
    """Ids sorted into classes within which no format of ours can tell two ids apart."""

    examples: list[str]
    """One id of each class, stripped."""

    counts: npt.NDArray[np.int64]
    of: npt.NDArray[np.int64]
    """The class of each id."""


def written_alike(ids: RawIds, name: str, *, promised: re.Pattern[str] | None = None) -> list[CheckResult]:
    """Whether ids that are not blank have one format, promised or their own, and differ in more than style."""
    uniform = _uniform(ids)
    return [_key_format(ids, name, uniform, promised), _collisions(ids, name, uniform)]


def _key_format(ids: RawIds, name: str, uniform: str | None, promised: re.Pattern[str] | None) -> CheckResult:
    if promised is not None:
        title, bad = f"pattern {promised.pattern}", _without(ids, promised, uniform)
    elif uniform is not None:
        title, bad = uniform, np.zeros(0, dtype=np.int64)
    else:
        title, bad = _majority(ids)
    worst = ids.texts(bad[:6].tolist())
    return judged(
        "mapping/key_format",
        name,
        ok=not bad.size,
        figure=f"{title}; {count_of(bad.size, len(ids), 'ids differ')}",
        expected="one format for all raw ids" if promised is None else f"all raw ids match {promised.pattern}",
        limit="0",
        worst=repr(worst[0]) if worst else "",
        outside=sample(map(repr, worst)) if worst else "",
        detail="ids of another format never match the ids of other files, so their events are lost" if worst else "",
        advice="read id columns as text, and strip them, before anything else",
        rows=f"entries {ranges(bad.tolist())}" if bad.size else "",
    )


def _without(ids: RawIds, pattern: re.Pattern[str], uniform: str | None) -> npt.NDArray[np.int64]:
    if pattern.pattern == KEY_PATTERNS["asin"] and uniform == _CAPITALS:
        return np.zeros(0, dtype=np.int64)
    return np.array([i for i in range(len(ids)) if not pattern.fullmatch(ids[i])], dtype=np.int64)


def _uniform(ids: RawIds) -> str | None:
    """The format of ids that are all digits, or all ten capitals and digits; None for any other map."""
    if ids.all_digits:
        return FORMATS[0][0]
    return _CAPITALS if ids.shortest == 10 == ids.longest and ids.all_capitals else None


def _within(words: Words, first: str, last: str) -> Words:
    """The top bit of each byte that is a character from `first` to `last`."""
    low = words & ~TOPS
    found = (low + EACH_BYTE * np.uint64(128 - ord(first))) & ~(low + EACH_BYTE * np.uint64(127 - ord(last)))
    return found & ~words & TOPS


def _majority(ids: RawIds) -> tuple[str, npt.NDArray[np.int64]]:
    """The narrowest format of all ids, or else of nearly all, and the places of the ids that differ from it.

    Integers mixed with decimals are never one format, whatever their shares: that is what a missing value does to an
    integer column. Space around an id is always odd, and does not keep it from having a format.
    """
    shapes = _shapes(ids)
    fits = np.array([[bool(p.fullmatch(raw)) for raw in shapes.examples] for _, p in FORMATS], dtype=bool)
    title, odd = _usual(fits, shapes.counts)
    spaced = [i for i in _edges(ids).tolist() if ids[i] != ids[i].strip()]
    bad = np.flatnonzero(odd[shapes.of])
    return title, np.concatenate([spaced, np.setdiff1d(bad, spaced)]).astype(np.int64) if spaced else bad


def _usual(fits: Mask, counts: npt.NDArray[np.int64]) -> tuple[str, Mask]:
    """The format of the map, and which classes of ids differ from it; `fits` is [formats, classes]."""
    nums, total = fits @ counts, int(counts.sum())
    if nums[0] and nums[1]:
        usual, other = (0, 1) if nums[1] <= nums[0] else (1, 0)
        return FORMATS[usual][0], fits[other]
    for least in (float(total), FORMAT_SHARE * total):
        for (title, _), fit, num in zip(FORMATS, fits, nums.tolist(), strict=True):
            if num >= least - 1e-9 * total:
                return title, ~fit
    return _mixed(fits, counts) or ("free text", np.zeros(len(counts), dtype=bool))


def _mixed(fits: Mask, counts: npt.NDArray[np.int64]) -> tuple[str, Mask] | None:
    """The two formats of a map that has two vocabularies, and the classes of ids not in the larger one; else None."""
    own = np.where(fits.any(axis=0), fits.argmax(axis=0), len(FORMATS))
    nums = np.bincount(own, counts, minlength=len(FORMATS) + 1)[: len(FORMATS)]
    usual, other = np.argsort(-nums, kind="stable")[:2].tolist()
    total = counts.sum()
    if nums[usual] + nums[other] < FORMAT_SHARE * total or nums[other] < max(MIXED_LEAST, (1 - FORMAT_SHARE) * total):
        return None
    return f"{FORMATS[usual][0]} mixed with {FORMATS[other][0]}", own != usual


def _shapes(ids: RawIds) -> _Shapes:
    """The classes of ids by their length, the places of their digits, letters and other bytes, and the letters' kinds.

    The formats ask no more than whether a letter is lower-case and whether it is hexadecimal, but for the x of 0x.
    """
    found = np.concatenate(each_block(lambda block: _shape_hashes(ids, block), len(ids)))
    _, first, of, counts = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    examples = [raw.strip() for raw in ids.texts(first.tolist())]
    odd = np.flatnonzero(_odd(ids))
    if not odd.size:
        return _Shapes(examples=examples, counts=counts, of=of)
    counts = counts - np.bincount(of[odd], minlength=len(counts))
    of[odd] = len(counts) + np.arange(odd.size)
    examples += [raw.strip() for raw in ids.texts(odd.tolist())]
    return _Shapes(examples=examples, counts=np.concatenate([counts, np.ones(odd.size, dtype=np.int64)]), of=of)


def _shape_hashes(ids: RawIds, block: slice) -> Words:
    shape = ids.length[block].astype(np.uint64)
    lower = np.zeros(len(shape), dtype=bool)
    beyond = np.zeros(len(shape), dtype=np.uint64)
    for turn, (words, places) in enumerate(ids.words(block)):
        digits, small = _within(words, "0", "9"), _within(words, "a", "z")
        letters = small | _within(words, "A", "Z")
        lower[places] |= small != 0
        far = _within(words, "g", "z") | _within(words, "G", "Z")
        beyond[places] += np.bitwise_count(far)
        if turn == 0:
            beyond[places] += np.isin(words & np.uint64(0xFFFF), _PREFIXES).astype(np.uint64) << np.uint64(32)
        digit_bytes, letter_bytes = (digits >> _SEVEN) * _ALL_BITS, (letters >> _SEVEN) * _ALL_BITS
        plain = (words & ~digit_bytes & ~letter_bytes) | (digit_bytes & _ZEROS) | (letter_bytes & _LETTERS)
        shape[places] = mixed(shape[places], plain)
    return mixed(shape, (beyond << np.uint64(1)) | lower)


def _odd(ids: RawIds) -> Mask:
    """Ids that are looked at one by one: long ones, those with bytes outside of ASCII, and those with space around."""
    odd: Mask = ids.length > LONG
    for block in ids.blocks():
        for words, places in ids.words(block):
            odd[block][places] |= (words & TOPS) != 0
    odd[_edges(ids)] = True
    return odd


def _edges(ids: RawIds) -> npt.NDArray[np.int64]:
    """Places of ids whose first or last byte may be of a space: nothing printable in ASCII is."""
    edges = np.stack([ids.first_bytes(), ids.last_bytes()])
    return np.flatnonzero(((edges <= ord(" ")) | (edges >= 127)).any(axis=0))


def canonical(raw: str) -> str:
    """What a raw id becomes when case, surrounding space, leading zeros and a fraction of zero are ignored.

    >>> canonical(" 0487.0"), canonical("b01A")
    ('487', 'b01a')
    """
    text = raw.strip().casefold()
    number = _NUMBER.fullmatch(text)
    return number.group(1) + number.group(2) if number else text


def _collisions(ids: RawIds, name: str, uniform: str | None) -> CheckResult:
    """Whether no two different ids are one to a reader who ignores case, space around and zeros."""
    groups = [] if _no_two_alike(ids, uniform) else _alike(ids)
    worst = sorted(set(ids.texts(groups[0]))) if groups else []
    num = sum(len(set(ids.texts(group))) for group in groups)
    return judged(
        "mapping/collisions",
        name,
        ok=not groups,
        figure=count_of(num, len(ids), "raw ids differ only in case, space or zeros"),
        limit="0",
        worst=sample(map(repr, worst)),
        outside=f"{len(groups)} groups" if groups else "",
        detail="such ids are almost surely one item that was written in two ways" if groups else "",
        advice="normalise raw ids before the map is built",
        rows=f"entries {ranges(sorted(i for group in groups for i in group))}" if groups else "",
    )


def _no_two_alike(ids: RawIds, uniform: str | None) -> bool:
    """Whether the ids are of a format in which different ids stay different: capitals, or numbers without zeros ahead.

    Ten capitals or digits have one length, so that zeros ahead tell nothing apart.
    """
    if uniform == _CAPITALS:
        return True
    return uniform is not None and not ((ids.first_bytes() == ord("0")) & (ids.length > 1)).any()


def _alike(ids: RawIds) -> list[list[int]]:
    """Groups of places whose ids differ and have one canonical form."""
    hashes = _bare_numbers(ids).hashes(fold=True).copy()
    singly = np.flatnonzero(_odd(ids) | _numbers_in_style(ids))
    if singly.size:
        hashes[singly] = RawIds.from_texts(canonical(raw) for raw in ids.texts(singly.tolist())).hashes(fold=True)
    groups: dict[str, list[int]] = {}
    for place in equal_hashes(hashes).tolist():
        groups.setdefault(canonical(ids[place]), []).append(place)
    return [group for group in groups.values() if len(set(ids.texts(group))) > 1]


def _bare_numbers(ids: RawIds) -> RawIds:
    return ids.without_leading(_digits_alone(ids), ord("0"))


def _digits_alone(ids: RawIds) -> Mask:
    """Which ids hold nothing but ASCII digits."""
    left = ids.length.copy()
    for block in ids.blocks():
        for words, places in ids.words(block):
            left[block][places] -= np.bitwise_count(_within(words, "0", "9"))
    alone: Mask = (left == 0) & (ids.length > 0)
    return alone


def _numbers_in_style(ids: RawIds) -> Mask:
    """Which ids may be numbers with a sign or a fraction: all digits but one or two bytes, which are ``-`` or ``.``."""
    left = ids.length.copy()
    signs = np.zeros(len(ids), dtype=bool)
    for block in ids.blocks():
        for words, places in ids.words(block):
            marks = _within(words, "-", ".")
            left[block][places] -= np.bitwise_count(_within(words, "0", "9") | marks)
            signs[block][places] |= marks != 0
    alike: Mask = (left == 0) & signs
    return alike
