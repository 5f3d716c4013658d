"""Pinned lines and libraries: what they get is counted and equal in every run."""

from rectest.divergence.inside.source_pins import Pins

SITE = "train.py:3:main"


def test_only_pinned_lines_are_held():
    """The pin names a line and function exactly."""
    pins = Pins([f"site:{SITE}", "seed:numpy", "hash"])

    assert [True, False] == [pins.holds(SITE), pins.holds("train.py:4:main")]
    assert [False, True, False] == [pins.library(name) for name in ("random", "numpy", "torch")]


def test_seeds_count_up():
    """Two generators made at one line are different ones; other lines get nothing."""
    pins = Pins([f"site:{SITE}"])

    assert [0, 1, None, 2] == [pins.seed(SITE), pins.seed(SITE), pins.seed("other.py:1:f"), pins.seed(SITE)]


def test_octets_differ_by_request_and_not_by_run():
    """Identifiers stay distinct; another run gets the same."""
    first, second = Pins([f"site:{SITE}"]), Pins([f"site:{SITE}"])
    expected = [first.octets(SITE, 16) for _ in range(3)]

    assert expected == [second.octets(SITE, 16) for _ in range(3)]
    assert len(set(expected)) == 3
    assert {16} == {len(octets) for octets in expected}


def test_the_clock_goes_on():
    """A script that waits for time to pass does not wait for ever."""
    pins = Pins([f"site:{SITE}"])

    assert pins.clock(SITE) < pins.clock(SITE)
