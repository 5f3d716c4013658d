import multiprocessing
import shutil
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from fixtures.baselines import (
    PROVENANCE,
    make_baseline,
    make_environment,
    make_record,
    make_records,
    make_whole_baseline,
)
from rectest.baseline.build import extend_baseline
from rectest.baseline.diff import diff
from rectest.baseline.gating import look
from rectest.baseline.schema import Baseline
from rectest.baseline.store import BaselineStore, StoredName
from rectest.baseline.update import Action, State, accept, compare_candidates, plan_update, refuse_in_ci, state_of
from rectest.checks.result import CheckResult, Verdict
from rectest.errors import BaselineError, CorruptBaseline, NoBaseline, UnknownNameError, UpdateRefused
from rectest.record import RunSpec

TOY = StoredName(env_class="cpu", system="toy")
RECALL = "test/recall@10"


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path / "baselines")


@pytest.fixture
def candidates(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path / "candidates")


def verdict_on(store: BaselineStore, **settings) -> Verdict:
    """What a gate says about hand-made runs."""
    _, judged = look(
        store, RunSpec(system="toy"), lambda specs: [make_record(spec.seed, **settings) for spec in specs], max_runs=5
    )
    return judged.results[0].verdict


def propose(candidates: BaselineStore, **settings) -> Baseline:
    """Leave a candidate with its sidecar."""
    baseline, sidecar = make_whole_baseline(**settings)
    candidates.save(baseline, sidecar=sidecar, replace=True)
    return candidates.read(TOY)


def accept_after_barrier(root: Path, store: BaselineStore, reason: str, barrier) -> None:
    barrier.wait(30)
    accept(root, store, reason=reason)


def test_the_story_of_one_baseline(store, candidates):
    """Absent is red with the command; recorded passes; changed is red; accepted passes."""
    with pytest.raises(NoBaseline, match="pytest -m gate --rectest-update=new"):
        store.load("toy", "cpu")
    assert verdict_on(store) is Verdict.UNCALIBRATED

    baseline, sidecar = make_whole_baseline()
    store.save(baseline, sidecar=sidecar)
    assert verdict_on(store) is Verdict.PASS
    assert verdict_on(store, recall=0.17) is Verdict.FAIL

    propose(candidates, recall=0.17)
    with pytest.raises(UpdateRefused, match=r"went from 0\.\d+ to 0\.\d+ \(-15 %\), the anchor promised to catch"):
        accept(candidates.root, store, reason="smaller model on purpose")
    assert verdict_on(store, recall=0.17) is Verdict.FAIL

    accept(candidates.root, store, reason="smaller model on purpose", new_anchor=True)
    assert verdict_on(store, recall=0.17) is Verdict.PASS
    accepted, bulk = store.read_whole(TOY)
    assert accepted.provenance.reason == "smaller model on purpose"
    assert [entry.reason for entry in accepted.history] == ["smaller model on purpose"]
    assert bulk is not None


class TestPlan:
    @pytest.mark.parametrize(
        ("mode", "acts"),
        [
            ("new", {State.ABSENT: Action.RECORD, State.UNCALIBRATED: Action.EXTEND}),
            ("failed", {State.FAILED: Action.RECORD, State.CORRUPT: Action.RECORD}),
            ("all", dict.fromkeys(State, Action.RECORD)),
        ],
    )
    def test_every_state_has_one_action(self, mode, acts):
        for state in State:
            assert plan_update(mode, state) is acts.get(state, Action.KEEP)

    def test_an_unknown_mode_is_named(self):
        with pytest.raises(UnknownNameError, match=r"unknown update mode 'fail'.*did you mean 'failed'"):
            plan_update("fail", State.FAILED)

    @pytest.mark.parametrize(
        ("verdicts", "state"),
        [
            ({}, State.FAILED),
            ({"baseline/exact": Verdict.PASS}, State.PASSED),
            ({"baseline/exact": Verdict.UNCALIBRATED, "baseline/loss/late": Verdict.PASS}, State.UNCALIBRATED),
            ({"baseline/exact": Verdict.UNCALIBRATED, "baseline/loss/late": Verdict.FAIL}, State.FAILED),
            ({"baseline/exact": Verdict.PASS, "baseline/test/mrr": Verdict.UNCALIBRATED}, State.PASSED),
            ({"baseline/test/mrr": Verdict.NOT_MEASURED}, State.FAILED),
            ({"reproducible": Verdict.PASS}, State.FAILED),
        ],
    )
    def test_state_of_results(self, verdicts, state):
        results = [CheckResult(check=c, subject="toy", verdict=v, figure="") for c, v in verdicts.items()]

        assert state_of(results) is state

    @pytest.mark.parametrize("value", ["true", "1", "yes", "woodpecker"])
    def test_ci_never_writes(self, value):
        with pytest.raises(UpdateRefused, match=rf"not written in CI \(CI={value}\).*rectest baseline accept"):
            refuse_in_ci({"CI": value})

    @pytest.mark.parametrize("environ", [{}, {"CI": ""}, {"CI": "false"}, {"CI": "0"}])
    def test_elsewhere_it_may(self, environ):
        refuse_in_ci(environ)


class TestAccept:
    def test_only_the_named_systems(self, store, candidates):
        for system in ("one", "two"):
            candidates.save(make_baseline(system=system))
        changes = accept(candidates.root, store, ["two"], reason="why")

        assert [change.name for change in changes] == ["two"]
        assert [name.system for name in store.entries()] == ["two"]

    def test_uncommitted_changes_are_refused_unless_allowed(self, store, candidates):
        dirty = PROVENANCE.model_copy(update={"dirty": True})
        candidates.save(make_baseline().model_copy(update={"provenance": dirty}))

        with pytest.raises(UpdateRefused, match=r"recorded from uncommitted changes: toy.json; .*--allow-dirty"):
            accept(candidates.root, store, reason="why")
        assert store.entries() == []
        assert accept(candidates.root, store, reason="why", allow_dirty=True)[0].dirty
        assert store.read(TOY).provenance.dirty

    @pytest.mark.parametrize("bad", ["baseline", "sidecar"])
    def test_one_bad_candidate_and_nothing_is_written(self, store, candidates, bad):
        """Control: without it the other one is accepted."""
        candidates.save(make_baseline(system="a"))
        baseline, sidecar = make_whole_baseline(system="z")
        path = candidates.save(baseline, sidecar=sidecar)
        odd = path if bad == "baseline" else path.with_name(candidates.load("z", "cpu").sidecar.file)
        odd.write_text('{"schema": 1}')

        with pytest.raises(CorruptBaseline, match=r"z\.(json|\w+\.npz): "):
            accept(candidates.root, store, reason="why")
        assert store.entries() == []

        assert len(accept(candidates.root, store, ["a"], reason="why")) == 1

    def test_one_candidate_that_lost_too_much_and_nothing_is_written(self, store, candidates):
        for system in ("a", "z"):
            store.save(make_baseline(system=system))
            candidates.save(make_baseline(system=system, recall=0.198 if system == "a" else 0.15))
        before = store.load("a", "cpu")

        with pytest.raises(UpdateRefused, match=r"^z \(cpu\): test/recall@10 went"):
            accept(candidates.root, store, reason="why")
        assert before == store.load("a", "cpu")

    def test_a_corrupt_stored_file_is_replaced_and_said_so(self, store, candidates):
        candidates.save(make_baseline())
        store.save(make_baseline()).write_text("{")
        (change,) = accept(candidates.root, store, reason="why")

        assert change.unreadable
        assert store.load("toy", "cpu").provenance.reason == "why"

    def test_bits_of_other_environments_stay_when_only_bits_are_added(self, store, candidates):
        old = make_baseline()
        runs = {n: make_records([0], environment=make_environment(threads=n)) for n in (2, 3)}
        here, there = (extend_baseline(old, runs[n], reason="x", provenance=PROVENANCE) for n in (2, 3))
        store.save(here)
        candidates.save(there)
        (change,) = accept(candidates.root, store, reason="why")

        assert len(store.load("toy", "cpu").exact) == 3
        assert len(store.load("toy", "cpu").history) == 1
        assert [line for line in change.bits if "dropped" in line] == []

    def test_accepts_go_on_with_the_history_until_they_lost_what_one_may_not(self, store, candidates):
        """Each step loses a little more than a quarter of what the anchor promised to catch: the fourth is refused."""
        propose(store, sd=0.01)
        cap = store.read(TOY).declared.mdd[RECALL]
        assert 0.03 < cap < 0.08
        for step in (1, 2, 3):
            propose(candidates, recall=0.2 * (1 - cap / 3.5) ** step, sd=0.01)
            if step < 3:
                accept(candidates.root, store, reason=f"step {step}")
        (change,) = accept(candidates.root, store, reason="step 3")
        drift = next(row.drift for row in change.features if row.feature == RECALL)

        assert [entry.reason for entry in store.read(TOY).history] == ["first recording", "step 1", "step 2", "step 3"]
        assert drift.cap == cap
        assert -cap < drift.relative < -0.75 * cap

        propose(candidates, recall=0.2 * (1 - cap / 3.5) ** 4, sd=0.01)
        (planned,) = compare_candidates(candidates, store)
        assert "over 4 accepted recordings" in planned.changes.refusal
        with pytest.raises(UpdateRefused, match="over 4 accepted recordings"):
            accept(candidates.root, store, reason="step 4")
        assert len(store.read(TOY).history) == 4

    def test_accepting_twice_is_accepting_once(self, store, candidates):
        propose(store)
        propose(candidates, recall=0.199)
        accept(candidates.root, store, reason="why")
        before = store.read(TOY)
        accept(candidates.root, store, reason="why")

        assert before == store.read(TOY)

    def test_two_accepts_at_once_lose_no_entry(self, store, candidates, tmp_path):
        propose(store)
        other = BaselineStore(tmp_path / "other")
        propose(candidates, recall=0.199)
        propose(other, recall=0.198)
        context = multiprocessing.get_context("fork")
        barrier = context.Barrier(2)
        jobs = {"one": candidates.root, "two": other.root}
        children = [
            context.Process(target=accept_after_barrier, args=(root, store, reason, barrier))
            for reason, root in jobs.items()
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
        found, sidecar = store.read_whole(TOY)

        assert [child.exitcode for child in children] == [0, 0]
        assert sorted(entry.reason for entry in found.history) == ["first recording", "one", "two"]
        assert found.history[0].reason == "first recording"
        assert sidecar is not None

    def test_what_is_printed_is_what_happened_because_it_is_worked_out_under_the_lock(
        self, store, candidates, monkeypatch
    ):
        propose(candidates)
        held = []

        def watched(old, new, **options):
            try:
                FileLock(store.root / ".lock", timeout=0).acquire()
                held.append(False)
            except Timeout:
                held.append(True)
            return diff(old, new, **options)

        monkeypatch.setattr("rectest.baseline.update.diff", watched)
        accept(candidates.root, store, reason="why")

        assert held == [True]

    def test_a_full_disk_is_named_and_changes_nothing(self, store, candidates, monkeypatch):
        propose(store)
        propose(candidates, recall=0.199)
        before = store.read_whole(TOY)[0]

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(BaselineError, match=r"toy\.json cannot be written \(No space left on device\)"):
            accept(candidates.root, store, reason="why")
        monkeypatch.undo()

        assert before == store.read_whole(TOY)[0]
        assert len(list(store.root.glob("cpu/*"))) == 2

    def test_bad_requests(self, store, candidates):
        with pytest.raises(UpdateRefused, match="no candidates in"):
            accept(candidates.root, store, reason="why")
        candidates.save(make_baseline())
        with pytest.raises(UnknownNameError, match=r"unknown candidate 'tyo'.*did you mean 'toy'"):
            accept(candidates.root, store, ["tyo"], reason="why")
        with pytest.raises(ValueError, match="needs a reason"):
            accept(candidates.root, store, reason=" ")
        with pytest.raises(ValueError, match="not candidates"):
            accept(candidates.root, candidates, reason="why")
        assert not store.root.exists()

    def test_comparing_writes_nothing(self, store, candidates):
        candidates.save(make_baseline())
        (found,) = compare_candidates(candidates, store)

        assert (found.baseline.system, found.sidecar, found.changes.is_new) == ("toy", None, True)
        assert not store.root.exists()

    @pytest.mark.parametrize("zipped", [False, True])
    def test_candidates_may_come_as_an_artifact(self, store, candidates, tmp_path, zipped):
        propose(candidates)
        shutil.copytree(candidates.root, tmp_path / "download" / "report" / "candidates")
        (tmp_path / "download" / "report" / "log.txt").write_text("of the job")
        place = tmp_path / "download"
        if zipped:
            place = tmp_path / "artifact.zip"
            with zipfile.ZipFile(place, "w") as archive:
                for path in (tmp_path / "download").rglob("*"):
                    archive.write(path, path.relative_to(tmp_path / "download"))

        assert len(accept(place, store, reason="why")) == 1
        assert store.read_whole(TOY)[1] is not None
