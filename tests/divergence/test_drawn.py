"""Random numbers as suspects: what an installed package draws for itself is none, what a script draws is."""

from __future__ import annotations

import pytest

from fixtures.tapes import after, draw, event, hashed, inserted, of, run_of, written
from rectest.divergence.compare import compare_runs
from rectest.divergence.finding import Finding
from rectest.divergence.tapes import Event

PACKAGE = "site-packages/sympy/core/symbol.py:487:Dummy"


def with_name(run: int, site: str) -> list[Event]:
    """A run in which one number is drawn from an unseeded generator before training."""
    generator = f"random@{site.rpartition(':')[0]}#1"
    made = event(1, "setup", "seed", generator, ("entropy", run), site, value=None, how="created")
    drawn = draw(1, "setup", "random.Random.randint", ("name", run), site, generator, state=run, count=1)
    events = written()
    return inserted(events, of(events, "init"), made, drawn)


def compared(site: str, *, clock: str = "", loss: bool = True) -> Finding:
    runs = []
    for run in (0, 1):
        events = with_name(run, site)
        if clock:
            read = event(1, "setup", "entropy", "time.time", run, clock, count=1)
            events = inserted(events, of(events, "init"), read)
        runs.append(run_of(after(events, "loss") if run and loss else events))
    return compare_runs(*runs)


def test_a_clock_of_the_script_comes_before_a_name_that_a_package_draws() -> None:
    finding = compared(PACKAGE, clock="train.py:24:main")

    assert ["train.py:24:main"] == [cause.site for cause in finding.causes]


@pytest.mark.parametrize(("site", "expected"), [(PACKAGE, 0), ("train.py:3:main", 1)])
def test_only_a_name_that_a_package_draws_is_no_suspect_and_not_worth_a_word(site: str, expected: int) -> None:
    assert expected == len(compared(site).causes)
    assert expected == len(compared(site, loss=False).harmless)


OWN, ACTOR = "data.py:50:order", "site-packages/ray/actor.py:486:make"


@pytest.mark.parametrize(
    ("count", "site", "kind"), [(200, OWN, "entropy"), (1, OWN, "hash_order"), (200, ACTOR, "hash_order")]
)
def test_many_uuids_of_the_script_are_data_and_one_or_those_of_packages_are_names(
    count: int, site: str, kind: str
) -> None:
    runs = []
    for run in (0, 1):
        read = event(1, "setup", "entropy", "uuid.uuid4", run, site, count=count)
        runs.append(run_of(inserted(hashed(run), 8, read)))

    assert kind == compare_runs(*runs).causes[0].kind
