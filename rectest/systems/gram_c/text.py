"""How ids, histories and words are written, and which token each piece of text becomes.

An id is ``a7 b12 c0 d3``: one letter for the level, the code behind it; a history is ids joined by `HISTORY_SEPARATOR`.
Every part of an id has a token of its own for each level, words are hashed. Nothing here knows a model.

Tokens: 0 padding, 1 start, 2 unknown, 3 end, then the codes level by level, then the words.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rectest.systems.gram_c.ids import ItemIds

__all__ = [
    "END",
    "FIRST_CODE",
    "HISTORY_SEPARATOR",
    "LEVEL_SEPARATOR",
    "PAD",
    "START",
    "UNKNOWN",
    "Vocabulary",
    "id_texts",
    "join_history",
    "normalised",
    "split_history",
]

IntArray = npt.NDArray[np.int64]

PAD, START, UNKNOWN, END, FIRST_CODE = range(5)

LEVEL_SEPARATOR = " "
HISTORY_SEPARATOR = " ; "


def id_texts(ids: ItemIds) -> tuple[str, ...]:
    """The id of every item as text, by item; "" for the padding."""
    rows = ids.codes[1:].tolist()
    return ("", *(LEVEL_SEPARATOR.join(f"{chr(97 + i)}{code}" for i, code in enumerate(row)) for row in rows))


def join_history(texts: list[str]) -> str:
    """Ids as one text, in the order given.

    >>> join_history(["a1 b0", "a0 b3"])
    'a1 b0 ; a0 b3'
    """
    return HISTORY_SEPARATOR.join(texts)


def split_history(text: str) -> list[str]:
    """The ids of a history text.

    >>> split_history("a1 b0 ; a0 b3")
    ['a1 b0', 'a0 b3']
    """
    return text.split(HISTORY_SEPARATOR)


def normalised(text: str) -> str:
    """What is left to compare when case and spaces are forgiven.

    >>> normalised(" A1  b0 ")
    'a1 b0'
    """
    return " ".join(text.lower().split())


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """The tokens of one system."""

    num_levels: int
    num_codes: int
    num_words: int

    @property
    def num_generated(self) -> int:
        """Tokens that the decoder can write: the end and all codes, which stand together from `END` on."""
        return 1 + self.num_levels * self.num_codes

    def __len__(self) -> int:
        """All tokens with the padding."""
        return END + self.num_generated + self.num_words

    def code(self, level: int, code: int) -> int:
        """The token of a code at a level, both from 0."""
        return FIRST_CODE + level * self.num_codes + code

    def word(self, word: str) -> int:
        """The token that a word is hashed to, the same in every process."""
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        return FIRST_CODE + self.num_levels * self.num_codes + int.from_bytes(digest, "little") % self.num_words

    def id_tokens(self, text: str) -> list[int]:
        """The tokens of an id's text; one unknown token for anything else."""
        parts = text.split(LEVEL_SEPARATOR)
        if len(parts) != self.num_levels:
            return [UNKNOWN]
        codes = [self._code_of(part, level) for level, part in enumerate(parts)]
        return [UNKNOWN] if -1 in codes else [self.code(level, code) for level, code in enumerate(codes)]

    def text(self, tokens: list[int]) -> str:
        """The id text that generated tokens stand for; other tokens are left out."""
        codes = [token - FIRST_CODE for token in tokens if FIRST_CODE <= token < END + self.num_generated]
        return LEVEL_SEPARATOR.join(f"{chr(97 + code // self.num_codes)}{code % self.num_codes}" for code in codes)

    def _code_of(self, part: str, level: int) -> int:
        number = part[1:]
        fits = part[:1] == chr(97 + level) and number.isdecimal() and int(number) < self.num_codes
        return int(number) if fits and str(int(number)) == number else -1

    def token_table(self, texts: tuple[str, ...]) -> IntArray:
        """[V+2, levels] the id tokens of each item; row 0 is padding, the last row is an unknown id."""
        table = np.zeros((len(texts) + 1, self.num_levels), dtype=np.int64)
        for item, text in enumerate(texts[1:], start=1):
            tokens = self.id_tokens(text)
            table[item, : len(tokens)] = tokens
        table[-1, 0] = UNKNOWN
        return table

    def word_table(self, words: tuple[tuple[str, ...], ...], length: int) -> IntArray:
        """[V+2, length] the word tokens of each item, cut; row 0 is padding, the last row is an unknown item."""
        table = np.zeros((len(words) + 1, length), dtype=np.int64)
        for item, own in enumerate(words[1:], start=1):
            tokens = [self.word(word) for word in own[:length]]
            table[item, : len(tokens)] = tokens
        table[-1, 0] = UNKNOWN
        return table
