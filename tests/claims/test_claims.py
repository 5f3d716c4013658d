"""Every claim without training: its verdict comes out, is another one under its counter-input, and is explained."""

from __future__ import annotations

from functools import cache

import pytest

from rectest.claims.catalogue import BOOKS, chosen
from rectest.claims.claim import Book, Claim, Finding, Measured, NotHere, Stated, finding
from rectest.claims.runs import Runs
from rectest.errors import DataError, UnknownNameError

CLAIMS = [claim for book in BOOKS for claim in book.claims]
ARITHMETIC = [claim for claim in CLAIMS if not claim.needs_training]


@cache
def judged(claim: Claim) -> Measured:
    """What the claim comes to as it is stated, measured once for all tests."""
    return claim.judge(Runs())


def missing_data(measured: Measured) -> bool:
    return measured.figure.startswith("not measured:") and "ml-100k" in measured.figure


LONG = ("001.16", "001.17", "001.24")
"""Claims whose arithmetic takes seconds."""


@pytest.mark.parametrize(
    "claim",
    [pytest.param(claim, marks=[pytest.mark.slow] if claim.number in LONG else []) for claim in ARITHMETIC],
    ids=lambda claim: claim.number,
)
def test_a_counter_input_changes_the_verdict(claim):
    """A measurement that can come out one way only measures nothing."""
    measured = judged(claim)
    if missing_data(measured):
        pytest.skip("MovieLens-100K is not in the cache; get it with: rectest data ml-100k")

    assert claim.counter, "a claim needs a counter-input"
    assert measured.verdict != claim.judge(Runs(), **claim.counter).verdict
    assert measured.figure
    assert measured.where
    assert measured.command == f"rectest reports {claim.number}"


@pytest.mark.parametrize("claim", ARITHMETIC, ids=lambda claim: claim.number)
def test_the_counter_changes_only_what_is_stated(claim):
    """A misspelt counter would change nothing but the dictionary."""
    optional = {"temperature"}

    assert set(claim.counter) - optional <= set(claim.stated)


def test_numbers_are_in_order_and_told_once():
    for book in BOOKS:
        numbers = [int(claim.number.rpartition(".")[2]) for claim in book.claims]

        assert numbers == sorted(set(numbers))
        assert all(
            claim.number == f"{book.report}.{number}" for claim, number in zip(book.claims, numbers, strict=True)
        )


def test_every_report_is_there():
    assert [book.report for book in BOOKS] == ["000", "001", "002", "003", "004", "evaluators"]


class TestKnownFigures:
    """Numbers of the reports that were worked out by hand elsewhere, against the printed figures."""

    @pytest.mark.parametrize(
        ("number", "texts"),
        [
            ("000.6", ("1280", "0.348 %")),
            ("000.8", ("1.63", "4.54")),
            ("001.1", ("z +0.62", "z +0.22", "z +0.61", "z -1.50", "chi2(4) = 3.95", "p = 0.41")),
            ("001.3", ("10, 15, 20, 25, 30",)),
            ("001.5", ("27,168,644", "4,455,428")),
            ("001.6", ("24.07 M", "1.36 M")),
            ("001.8", ("18.45",)),
            ("001.10", ("59 at size 16",)),
            ("002.4", ("2 of 4", "0.525")),
            ("002.6", ("0.01463",)),
            ("003.4", ("x10.5", "x21")),
            ("003.5", ("2054", "514")),
            ("003.7", ("0.027 to 0.060",)),
            ("003.8", ("z = 2.4",)),
            ("004.1", ("0.8915 belongs to recall@20", "[0.8308, 0.8417]")),
            ("004.4", ("3,245,664", "12.98 MB", "71 modules")),
            ("004.5", ("203,456",)),
            ("004.9", ("0.0454", "9,904")),
            ("004.14", ("11.66",)),
            ("004.15", ("54 users", "2.37")),
        ],
    )
    def test_figures(self, number, texts):
        (claim,) = chosen([number])
        figure = judged(claim).figure

        assert [text for text in texts if text not in figure] == []


class TestClaim:
    @pytest.fixture
    def book(self) -> Book:
        book = Book("900", "a report of our own")

        @book.claim(1, "two is three", stated={"two": 2}, counter={"two": 3})
        def two(stated: Stated, runs: Runs) -> Measured:
            return Measured(figure=str(stated["two"]), verdict=finding(stated["two"] == 3))

        @book.claim(2, "the data are there")
        def absent(stated: Stated, runs: Runs) -> Measured:
            msg = "no such data"
            raise DataError(msg)

        return book

    def test_the_verdict_follows_the_stated_number(self, book):
        claim = book.claims[0]

        assert claim.judge(Runs()).verdict is Finding.REFUTED
        assert claim.judge(Runs(), two=3).verdict is Finding.CONFIRMED
        assert not claim.needs_training

    def test_what_is_not_at_hand_is_undecidable_and_named(self, book):
        measured = book.claims[1].judge(Runs())

        assert measured.verdict is Finding.UNDECIDABLE
        assert measured.figure == "not measured: no such data"

    def test_a_number_cannot_be_taken_twice(self, book):
        with pytest.raises(ValueError, match=r"there are two claims 900\.1"):
            book.claim(1, "again")

    def test_an_unexpected_error_is_not_swallowed(self):
        def broken(stated: Stated, runs: Runs) -> Measured:
            return stated["nothing"]

        with pytest.raises(KeyError):
            Claim(report="900", number="900.9", said="", measure=broken).judge(Runs())


class TestChosen:
    def test_reports_and_single_claims(self):
        assert [claim.number for claim in chosen(["004.2", "000.5"])] == ["000.5", "004.2"]
        assert {claim.report for claim in chosen(["003"])} == {"003"}
        assert len(chosen([])) == len(CLAIMS)

    @pytest.mark.parametrize(("name", "kind"), [("005", "report"), ("004.99", "claim")])
    def test_an_unknown_one_is_refused(self, name, kind):
        with pytest.raises(UnknownNameError, match=f"unknown {kind} '{name}'"):
            chosen([name])


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.needs_training], ids=lambda claim: claim.number)
def test_without_training_nothing_is_decided(claim):
    measured = claim.judge(Runs())

    assert measured.verdict is Finding.UNDECIDABLE
    assert "not measured" in measured.figure


def test_not_here_is_an_error_of_ours():
    with pytest.raises(NotHere, match="2 trainings"):
        Runs().prepare([*chosen(["000.1"])[0].specs()])
