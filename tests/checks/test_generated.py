"""Generated ids: exact shares of recent items, ids that exist, lists without repeats, matches that agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import find, red_checks
from rectest.checks.generated import expected_share, generated_ids, matching, normalised, recent_share, round_trip
from rectest.checks.result import Verdict

KNOWN = tuple(f"{a} {b}" for a in "abc" for b in range(4))
LISTS = [["a 0", "b 1", "c 2"], ["b 3", "a 1", "c 0"]]


def recent_ids(lengths, *, num_recent=5):
    """Front-padded recent items, as many as each history has."""
    ids = np.zeros((len(lengths), num_recent), dtype=np.int64)
    for row, length in enumerate(lengths):
        shown = min(length, num_recent)
        ids[row, num_recent - shown :] = np.arange(1, shown + 1)
    return ids


def test_the_expected_share_of_prefixes_counts_them():
    """A user of 7 items gives prefixes of 1 to 5: (1 + 2 + 3 + 4 + 5) / 25."""
    assert expected_share([1, 2, 3, 4, 5], num_recent=5) == 0.6


def test_healthy_recent_items_are_green_although_many_slots_are_empty():
    """Report 003 called less than 90 % suspicious; 60 % is exactly what these histories give."""
    result = recent_share(recent_ids([1, 2, 3, 4, 5]), [1, 2, 3, 4, 5])

    assert result.check == "generated/recent_share"
    assert result.verdict is Verdict.PASS
    assert result.figure == "60 % of 25 slots are filled"


def test_keys_of_another_format_find_nothing():
    result = recent_share(np.zeros((5, 5), dtype=np.int64), [1, 2, 3, 4, 5])

    assert result.verdict is Verdict.FAIL
    assert "keys of another format" in result.detail


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=30), data=st.data())
def test_one_lost_item_is_seen(lengths, data):
    ids = recent_ids(lengths)
    row = data.draw(st.integers(0, len(lengths) - 1))
    assert not recent_share(ids, lengths).red
    assert expected_share(lengths, 5) == pytest.approx((ids != 0).mean())
    ids[row, -1] = 0

    result = recent_share(ids, lengths)

    assert result.verdict is Verdict.FAIL
    assert result.worst.startswith(f"sample {row}:")


def test_equal_sums_in_other_samples_are_still_red():
    ids = recent_ids([2, 3])[::-1]

    assert recent_share(ids, [2, 3]).verdict is Verdict.FAIL


@pytest.mark.parametrize(("ids", "lengths"), [(np.zeros((0, 5)), []), (np.zeros((2, 5)), [1]), (np.zeros(5), [1])])
def test_recent_items_without_histories_are_not_green(ids, lengths):
    assert recent_share(ids, lengths).verdict is Verdict.NOT_MEASURED


@pytest.mark.parametrize(("lengths", "num_recent"), [([], 5), ([1], 0), ([-1], 5)])
def test_no_share_without_samples(lengths, num_recent):
    with pytest.raises(ValueError, match="need samples with lengths"):
        expected_share(lengths, num_recent)


def test_lists_of_existing_ids_are_green():
    assert red_checks(generated_ids(LISTS, KNOWN)) == set()


@pytest.mark.parametrize("wrong", [[["a 0", "a 9"], LISTS[1]], [[], LISTS[1]], [["a 0 </s>"], LISTS[1]]])
def test_an_id_of_no_item_or_no_id_is_red(wrong):
    assert red_checks(generated_ids(wrong, KNOWN)) == {"generated/valid"}


def test_an_id_given_twice_is_red():
    results = generated_ids([["a 0", "b 1", "a 0"], LISTS[1]], KNOWN)

    assert red_checks(results) == {"generated/distinct"}
    assert find(results, "generated/distinct").worst == "user 0: 'a 0'"
    assert find(results, "generated/distinct").outside.startswith("1 of 2 users")


@pytest.mark.parametrize(("lists", "known"), [([], KNOWN), ([[], []], KNOWN), (LISTS, [])])
def test_nothing_generated_is_not_green(lists, known):
    assert {Verdict.NOT_MEASURED} == {result.verdict for result in generated_ids(lists, known)}


@settings(max_examples=40, deadline=None)
@given(data=st.data(), num_users=st.integers(1, 8))
def test_under_a_trie_both_ways_of_matching_agree(data, num_users):
    lists = [data.draw(st.lists(st.sampled_from(KNOWN), max_size=5, unique=True)) for _ in range(num_users)]
    targets = [data.draw(st.sampled_from(KNOWN)) for _ in range(num_users)]

    assert matching(lists, targets, KNOWN).verdict is Verdict.PASS


@pytest.mark.parametrize("change", [lambda t: t.replace(" ", "|"), lambda t: f"{t} ", lambda t: t.upper()])
def test_separators_that_stick_to_outputs_are_red(change):
    """Report 003 would have loosened the match; the strings are wrong, not the match."""
    lists = [[change(one) for one in own] for own in LISTS]

    result = matching(lists, ["b 1", "b 2"], KNOWN)

    assert result.check == "generated/matching"
    assert result.verdict is Verdict.FAIL
    assert result.figure == "0 strict hits, 1 normalised ones, of 2"
    assert "separators" in result.detail


def test_a_fuzzy_hit_on_another_item_is_called_false():
    result = matching([["a-1"]], ["a 1"], ["a 1", "a-1"])

    assert result.verdict is Verdict.FAIL
    assert "1 of 1 are OTHER items" in result.detail


def test_a_target_that_is_no_id_is_red():
    result = matching(LISTS, ["a 0", "z 9"], KNOWN)

    assert result.verdict is Verdict.FAIL
    assert result.outside == "targets that are no id: 'z 9'"


def test_codes_that_meet_when_separators_vanish_stay_apart():
    assert normalised("1|23") != normalised("12|3")
    assert matching([["1|23"]], ["12|3"], ["1|23", "12|3"]).verdict is Verdict.PASS


def test_matching_needs_a_target_for_each_list():
    assert matching([], [], KNOWN).verdict is Verdict.NOT_MEASURED
    with pytest.raises(ValueError, match="need one target for each of 2 lists, got 1"):
        matching(LISTS, ["a 0"], KNOWN)


def test_ids_that_come_back_are_green():
    ids = dict(enumerate(KNOWN, start=1))

    assert round_trip(ids, dict(ids)).verdict is Verdict.PASS


def test_a_tokenizer_that_drops_separators_is_red():
    ids = {1: "a-b", 2: "ab", 3: "c"}

    result = round_trip(ids, {item: text.replace("-", "") for item, text in ids.items()})

    assert result.check == "generated/round_trip"
    assert result.verdict is Verdict.FAIL
    assert result.worst == "item 1: 'a-b' becomes 'ab'"
    assert "2 items share" in result.outside


@settings(max_examples=30, deadline=None)
@given(lost=st.sets(st.integers(1, len(KNOWN)), min_size=1))
def test_every_lost_id_is_counted(lost):
    ids = dict(enumerate(KNOWN, start=1))
    decoded = {item: text for item, text in ids.items() if item not in lost}

    assert round_trip(ids, decoded).figure.startswith(f"{len(lost)} of {len(ids)} ids")


def test_two_items_of_one_id_are_red_and_no_item_is_no_verdict():
    twins = {1: "a", 2: "a"}

    assert "no match can tell them apart" in round_trip(twins, dict(twins)).detail
    assert round_trip({}, {}).verdict is Verdict.NOT_MEASURED
