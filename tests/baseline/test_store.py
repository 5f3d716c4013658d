import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import (
    PROVENANCE,
    make_baseline,
    make_environment,
    make_records,
    make_whole_baseline,
)
from rectest.baseline import store as module
from rectest.baseline.build import extend_baseline
from rectest.baseline.history import continued
from rectest.baseline.schema import Baseline
from rectest.baseline.store import BaselineStore, StoredName, read_baseline
from rectest.baseline.text import render_baseline
from rectest.errors import BaselineError, CorruptBaseline, NoBaseline, UpdateRefused

TOY = StoredName(env_class="cpu", system="toy")


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path / "baselines")


def extended(baseline: Baseline, *, threads: int) -> Baseline:
    """The same ensemble with the bits of another environment."""
    records = make_records([0, 1], environment=make_environment(threads=threads))
    return extend_baseline(baseline, records, reason="another machine", provenance=PROVENANCE)


def extend_on_disk(root: Path, threads: int, barrier) -> None:
    store = BaselineStore(root)
    old = store.load("toy", "cpu")
    new = extended(old, threads=threads)
    barrier.wait(30)
    store.save(new, extends=old)


def save_after_barrier(root: Path, recall: float, barrier) -> None:
    baseline, sidecar = make_whole_baseline(recall=recall)
    barrier.wait(30)
    BaselineStore(root).save(baseline, sidecar=sidecar, combine=continued)


class TestNames:
    @pytest.mark.parametrize(
        ("system", "world", "expected"),
        [
            ("comirec", "", "cpu/comirec.json"),
            ("comirec", "taste-small", "cpu/comirec@taste-small.json"),
            ("my.train:run", "", "cpu/my.train+run.json"),
        ],
    )
    def test_path(self, store, system, world, expected):
        assert store.root / expected == store.path_for(system, "cpu", world)

    @given(
        env_class=st.from_regex(r"\A[a-z0-9_][a-z0-9_.-]{0,8}\Z"),
        system=st.from_regex(r"\A[a-z0-9_][a-z0-9_.:-]{0,8}\Z"),
        world=st.from_regex(r"\A[a-z0-9_][a-z0-9_.-]{0,8}\Z") | st.just(""),
    )
    @settings(max_examples=50, deadline=None)
    def test_path_and_name_are_inverse(self, env_class, system, world):
        name = StoredName(env_class=env_class, system=system, world=world)

        assert name == StoredName.of_path(Path("root") / name.path)

    @pytest.mark.parametrize("system", ["", "../up", "a/b", ".hidden", "a@b", "a b"])
    def test_names_that_leave_the_folder_are_refused(self, store, system):
        with pytest.raises(ValueError, match="cannot name a baseline file"):
            store.path_for(system, "cpu")


class TestLoad:
    def test_saved_is_loaded(self, store):
        baseline = make_baseline()
        path = store.save(baseline)

        assert baseline == store.load("toy", "cpu")
        assert render_baseline(baseline) == path.read_bytes()

    def test_absent_names_the_command(self, store):
        with pytest.raises(NoBaseline, match=r"no baseline for toy in environment class 'cpu'.*--rectest-update=new"):
            store.load("toy", "cpu")

    def test_another_class_is_not_borrowed(self, store):
        store.save(make_baseline())

        with pytest.raises(NoBaseline):
            store.load("toy", "cuda-sm90")

    @pytest.mark.parametrize(
        ("place", "problem"),
        [
            ("cpu/other.json", "system: is 'toy', but the file's place says 'other'"),
            ("cpu/toy@other.json", "world: is '', but the file's place says 'other'"),
            ("gpu/toy.json", "env_class: is 'cpu', but the file's place says 'gpu'"),
        ],
    )
    def test_a_file_in_the_wrong_place_is_refused(self, store, place, problem):
        content = store.save(make_baseline()).read_bytes()
        path = store.root / place
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

        with pytest.raises(CorruptBaseline, match=problem):
            read_baseline(path)

    def test_a_folder_is_not_a_file(self, store):
        store.path_for("toy", "cpu").mkdir(parents=True)

        with pytest.raises(CorruptBaseline, match="cannot be read"):
            store.load("toy", "cpu")

    def test_entries_are_sorted_and_ignore_locks_and_leftovers(self, store):
        assert store.entries() == []
        for world in ("zoo", "", "ant"):
            store.save(make_baseline().model_copy(update={"world": world}))
        (store.root / "cpu" / ".toy.json.x.part").write_text("half")
        (store.root / "cpu" / ".other.json").write_text("half")

        assert [name.world for name in store.entries()] == ["", "ant", "zoo"]

    def test_a_file_that_can_be_nobodys_is_named(self, store):
        store.save(make_baseline())
        (store.root / "cpu" / "to y.json").write_text("{}")

        with pytest.raises(CorruptBaseline, match=r"to y.json: system 'to y' cannot name.*rename or remove it"):
            store.entries()


class TestSave:
    def test_bits_of_other_environments_survive_while_the_training_is_the_same(self, store):
        baseline = make_baseline()
        store.save(extended(baseline, threads=2))
        store.save(extended(baseline, threads=3))

        assert sorted(e.described().threads for e in store.load("toy", "cpu").exact.values()) == [1, 2, 3]

    def test_seeds_of_one_environment_are_merged(self, store):
        baseline = make_baseline()
        fingerprint = baseline.ensemble.fingerprint
        entry = baseline.exact[fingerprint]
        few = entry.model_copy(update={"seeds": {"4": entry.seeds["4"]}})
        store.save(baseline)
        store.save(baseline.model_copy(update={"exact": {fingerprint: few}}))

        assert list("01234") == sorted(store.load("toy", "cpu").exact[fingerprint].seeds)

    def test_other_bits_of_one_environment_make_those_of_the_others_stale(self, store):
        """The code computes something else, even where no stored feature shows it."""
        baseline = make_baseline()
        fingerprint = baseline.ensemble.fingerprint
        entry = baseline.exact[fingerprint]
        other = entry.seeds["0"].model_copy(update={"digests": {"batches": f"blake3:{'0' * 32}"}})
        changed = entry.model_copy(update={"seeds": {**entry.seeds, "0": other}})
        store.save(extended(baseline, threads=2))
        store.save(baseline.model_copy(update={"exact": {fingerprint: changed}}))

        assert [fingerprint] == list(store.load("toy", "cpu").exact)

    @pytest.mark.parametrize("changed", [{"recall": 0.3}, {"world": "blake2b:other"}, {"steps": 7}])
    def test_bits_of_another_training_go(self, store, changed):
        store.save(extended(make_baseline(), threads=2))
        store.save(make_baseline(**changed))

        assert len(store.load("toy", "cpu").exact) == 1

    def test_a_corrupt_file_is_replaced_only_on_request(self, store):
        baseline = make_baseline()
        path = store.save(baseline)
        path.write_text("{")

        with pytest.raises(CorruptBaseline):
            store.save(baseline)
        store.save(baseline, replace=True)

        assert baseline == store.load("toy", "cpu")

    def test_an_extension_of_what_is_gone_is_refused(self, store):
        old = make_baseline()
        store.save(make_baseline(recall=0.3))

        with pytest.raises(UpdateRefused, match="recorded anew by another process"):
            store.save(extended(old, threads=2), extends=old)

    def test_two_processes_at_once_lose_nothing(self, store):
        store.save(make_baseline())
        context = multiprocessing.get_context("fork")
        barrier = context.Barrier(2)
        children = [context.Process(target=extend_on_disk, args=(store.root, n, barrier)) for n in (2, 3)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)

        assert [child.exitcode for child in children] == [0, 0]
        assert sorted(e.described().threads for e in store.load("toy", "cpu").exact.values()) == [1, 2, 3]

    def test_what_is_stored_is_given_to_combine_under_the_lock(self, store):
        seen = []

        def combine(old: Baseline | None, new: Baseline) -> Baseline:
            seen.append(old)
            return new.model_copy(update={"world_digest": "combined"})

        store.save(make_baseline(), combine=combine)
        store.save(make_baseline(recall=0.3), combine=combine)

        assert seen[0] is None
        assert (seen[1].world_digest, store.read(TOY).world_digest) == ("combined", "combined")

    def test_two_writers_continue_one_another(self, store):
        store.save(make_baseline())
        context = multiprocessing.get_context("fork")
        barrier = context.Barrier(2)
        children = [context.Process(target=save_after_barrier, args=(store.root, r, barrier)) for r in (0.201, 0.202)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)

        assert [child.exitcode for child in children] == [0, 0]
        found, sidecar = store.read_whole(TOY)
        assert len({entry.means["test/recall@10"] for entry in found.history}) == 3
        assert sidecar is not None
        assert len(list(store.root.glob("cpu/*.npz"))) == 1

    def test_a_holder_that_never_lets_go_is_an_error_in_words(self, store, monkeypatch):
        monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.05)
        context = multiprocessing.get_context("fork")
        ready, done = context.Event(), context.Event()

        def hold() -> None:
            with store.lock():
                ready.set()
                done.wait(30)

        child = context.Process(target=hold)
        child.start()
        ready.wait(30)
        try:
            with pytest.raises(BaselineError, match=r"another process has been writing to .* nothing was written"):
                store.save(make_baseline())
        finally:
            done.set()
            child.join(30)

        store.save(make_baseline())

    def test_who_holds_the_lock_may_save(self, store):
        with store.lock():
            store.save(make_baseline())

        assert store.entries() == [TOY]
