"""Nightly gates: which seeds a night has, and that they are judged more quietly and written nowhere."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.baseline import gating, store
from rectest.checks.result import Verdict
from rectest.plugin.nightly import ALPHA_SCALE, DATE_VARIABLE, fresh_seeds, nightly_date, nightly_look
from rectest.training.program import run_spec

MINE = """
QUALITY = 0.30

def train(run):
    rng = run.seeds.rng("noise")
    with open({log!r}, "a") as log:
        log.write(f"{{run.spec.seed}}\\n")
    for _ in range(6):
        run.step(loss=1.0 + 0.01 * float(rng.random()))
    run.metrics("test", {{"recall@10": QUALITY * (1 + 0.01 * float(rng.normal()))}})
"""
TESTS = """
import mine_at_night

def test_gate(rec_gate):
    rec_gate(mine_at_night.train)
"""
DAY = date(2026, 8, 1)


class TestSeeds:
    def test_by_hand(self):
        """Day 20,666 since 1970 has the seeds from five times that on."""
        assert list(fresh_seeds(DAY, ())) == [103330, 103331, 103332, 103333, 103334]

    def test_stored_seeds_are_stepped_over(self):
        assert fresh_seeds(DAY, [103334])[0] == 1_103_330
        assert fresh_seeds(DAY, [103334, 1_103_330])[0] == 2_103_330

    @settings(max_examples=50, deadline=None)
    @given(
        day=st.dates(date(1970, 1, 1), date(2200, 1, 1)),
        later=st.integers(1, 10_000),
        stored=st.sets(st.integers(0, 300_000)),
    )
    def test_no_two_nights_share_a_seed_and_none_is_stored(self, day, later, stored):
        seeds = set(fresh_seeds(day, stored))

        assert len(seeds) == 5
        assert seeds.isdisjoint(stored)
        assert seeds.isdisjoint(fresh_seeds(day + timedelta(days=later), ()))


class TestDate:
    def test_today_is_kept_for_all_workers(self, tmp_path):
        """Also for one that asks after midnight."""
        before = datetime.now(UTC).date()
        found = nightly_date(tmp_path / "runs", {})
        assert before <= found <= datetime.now(UTC).date()

        (tmp_path / "runs" / "nightly-date").write_text("2026-08-01")
        assert nightly_date(tmp_path / "runs", {}) == DAY

    def test_a_night_can_be_repeated(self, tmp_path):
        assert nightly_date(tmp_path, {DATE_VARIABLE: "2026-08-01"}) == DAY

    @pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "1969-12-31"])
    def test_odd_dates(self, tmp_path, text):
        with pytest.raises(ValueError, match="RECTEST_NIGHTLY_DATE must be a date"):
            nightly_date(tmp_path, {DATE_VARIABLE: text})


@pytest.fixture
def project(pytester, monkeypatch):
    """A user's project with a baseline, and a way to run its gate in this process."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv(DATE_VARIABLE, "2026-08-01")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("rectest.training.launch.launch", lambda spec, **_: run_spec(spec))
    monkeypatch.syspath_prepend(pytester.path)
    pytester.makepyfile(mine_at_night=MINE.format(log=str(pytester.path / "seeds.txt")), test_mine=TESTS)

    def run(*options):
        sys.modules.pop("mine_at_night", None)
        (pytester.path / "seeds.txt").unlink(missing_ok=True)
        return pytester.runpytest_inprocess("--rectest-processes=1", *options)

    pytester.gate = run
    assert run("--rectest-update=new", "--rectest-reason=first").ret == 0
    yield pytester
    sys.modules.pop("mine_at_night", None)


def trained(project) -> list[int]:
    return [int(line) for line in (project.path / "seeds.txt").read_text().split()]


def test_a_clean_night(project):
    stored = {path: path.read_bytes() for path in Path("baselines").rglob("*") if path.is_file()}

    night = project.gate("--rectest-nightly", "-v")

    assert night.ret == 0
    assert trained(project)[0] == 103330
    assert set(trained(project)) <= set(range(103330, 103335))
    night.stdout.fnmatch_lines(["*PASS*baseline/gate*nightly, fresh seeds 103330..103334: L3, *"])
    assert {path: path.read_bytes() for path in stored} == stored


def test_a_bad_night_says_how_to_have_it_again(project):
    path = project.path / "mine_at_night.py"
    path.write_text(path.read_text().replace("QUALITY = 0.30", "QUALITY = 0.200"))

    night = project.gate("--rectest-nightly")

    assert night.ret == 1
    night.stdout.fnmatch_lines(["*FAIL baseline/gate: *nightly, fresh seeds 103330..103334: *"])
    night.stdout.fnmatch_lines(["*the same night again: RECTEST_NIGHTLY_DATE=2026-08-01 and --rectest-nightly*"])


def test_an_odd_date_is_one_message(project, monkeypatch):
    monkeypatch.setenv(DATE_VARIABLE, "yesterday")

    night = project.gate("--rectest-nightly")

    assert night.ret == 1
    night.stdout.fnmatch_lines(["NOT MEASURED: RECTEST_NIGHTLY_DATE must be a date*got 'yesterday'*"])


def test_the_alarm_rate_is_a_tenth(tmp_path, monkeypatch):
    """And whatever else is asked of a look is handed on."""
    from fixtures.baselines import make_baseline, make_record

    kept = store.BaselineStore(tmp_path / "baselines")
    kept.save(make_baseline())
    monkeypatch.setenv(DATE_VARIABLE, "2026-08-01")
    asked = []
    look = gating.look

    def seen(*args, **how):
        asked.append(how)
        return look(*args, **how)

    monkeypatch.setattr(gating, "look", seen)
    spec = make_record(0).spec
    records, judged = nightly_look(
        kept, spec, lambda specs: [make_record(s.seed) for s in specs], folder=tmp_path, max_runs=3
    )

    assert asked == [{"alpha_scale": ALPHA_SCALE, "max_runs": 3}]
    assert records[0].spec.seed == 103330
    assert judged.results[0].verdict is Verdict.PASS
    assert judged.evidence.headline == judged.results[0]


def test_a_damaged_baseline_is_the_gate_s_to_tell(tmp_path, monkeypatch):
    from fixtures.baselines import make_baseline, make_record

    kept = store.BaselineStore(tmp_path / "baselines")
    path = kept.save(make_baseline())
    path.write_text("{")
    monkeypatch.setenv(DATE_VARIABLE, "2026-08-01")
    spec = make_record(0).spec
    _, judged = nightly_look(
        kept, spec, lambda specs: [make_record(s.seed) for s in specs], folder=tmp_path, max_runs=3
    )

    assert judged.results[0].verdict is Verdict.NOT_MEASURED
