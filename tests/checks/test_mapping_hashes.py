"""Equal hashes are found without sorting, in any number of them, and blocks of work keep their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks import mapping_hashes
from rectest.checks.mapping_hashes import BLOCK, each_block, equal_hashes


@pytest.mark.parametrize("num", [11, 300_000])
def test_equal_hashes_are_found_among_any_number(num: int) -> None:
    rng = np.random.default_rng(0)
    hashes = rng.permutation(num * 7)[:num].astype(np.uint64) * np.uint64(1 << 20)
    hashes[[1, 4, 9]] = hashes[5]
    hashes[num - 1] = hashes[0]

    assert [0, 1, 4, 5, 9, num - 1] == equal_hashes(hashes).tolist()


def test_blocks_are_taken_in_their_order() -> None:
    assert [0, BLOCK, 2 * BLOCK, 3 * BLOCK, 4 * BLOCK] == each_block(lambda block: block.start, 4 * BLOCK + 1)
    assert [] == each_block(lambda block: block.start, 0)


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(0, 2**64 - 1))
@settings(max_examples=50, deadline=None)
def test_equal_hashes_are_those_that_occur_more_than_once(numbers, factor) -> None:
    hashes = np.array(numbers, dtype=np.uint64) * np.uint64(factor | 1)
    expected = [i for i, number in enumerate(numbers) if numbers.count(number) > 1]
    with pytest.MonkeyPatch.context() as patch:
        for few in (1 << 17, 1):
            patch.setattr(mapping_hashes, "_FEW", few)
            assert expected == equal_hashes(hashes).tolist()
