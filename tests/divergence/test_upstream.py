"""Files as suspects: what an earlier run left is one, what a preparation of the same run writes anew is none."""

from __future__ import annotations

import pytest

from fixtures.tapes import event, inserted, other_fields, run_of, written
from rectest.divergence.compare import compare_runs
from rectest.divergence.finding import Finding
from rectest.divergence.tapes import Event

FIELDS = ("user", "seq", "pos", "neg")


def prepared(*, rewrites: bool) -> Finding:
    """Two runs of a wrapper: a preparation writes ids, the training reads them; the second may find them there."""
    runs = []
    for run in (0, 1):
        wrote = event(1, "setup", "file", "ids.npy", "", "prepare.py:2:main", mode="w")
        read = event(1, "setup", "file", "ids.npy", run, "train.py:4:main", mode="r", size=9)
        start = event(1, "setup", "environment", "process", "", "", python="3.12.1")
        training = inserted(written(), 6, read)
        tapes: dict[str, list[Event]] = {
            "main": [start, *([wrote] if rewrites or not run else [])],
            "main~2": other_fields(training, *FIELDS) if run else training,
        }
        runs.append(run_of(tapes))
    return compare_runs(*runs)


@pytest.mark.parametrize(
    ("rewrites", "expected"),
    [(True, ("data", "prepare.py:2:main", "")), (False, ("cache", "train.py:4:main", "pristine"))],
)
def test_a_file_that_each_run_prepares_anew_is_no_leftover(rewrites: bool, expected: tuple[str, ...]) -> None:
    finding = prepared(rewrites=rewrites)

    cause = finding.causes[0]
    assert expected == (finding.stage, cause.site, cause.pin)
    assert rewrites != ("first run had written" in cause.what)
