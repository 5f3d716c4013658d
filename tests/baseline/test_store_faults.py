"""A baseline and its bulk where a file is bad, a disk is full, or a writer dies half-way."""

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from fixtures.baselines import (
    PROVENANCE,
    make_baseline,
    make_environment,
    make_record,
    make_records,
    make_whole_baseline,
)
from rectest.baseline.build import extend_baseline
from rectest.baseline.gating import judge_against
from rectest.baseline.schema import Baseline
from rectest.baseline.sidecar import Sidecar, render_sidecar
from rectest.baseline.store import BaselineStore, StoredName
from rectest.baseline.text import render_baseline
from rectest.checks.result import Verdict
from rectest.errors import BaselineError, CorruptBaseline, UpdateRefused
from rectest.record import RunSpec

TOY = StoredName(env_class="cpu", system="toy")


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path / "baselines")


def extended(baseline: Baseline, *, threads: int) -> Baseline:
    """The same ensemble with the bits of another environment."""
    records = make_records([0, 1], environment=make_environment(threads=threads))
    return extend_baseline(baseline, records, reason="another machine", provenance=PROVENANCE)


def save_whole(store: BaselineStore, **settings) -> Baseline:
    """Save a baseline with its sidecar; what is stored."""
    baseline, sidecar = make_whole_baseline(**settings)
    store.save(baseline, sidecar=sidecar)
    return store.read(TOY)


def bulk_of(store: BaselineStore) -> list[Path]:
    return sorted(store.root.glob("cpu/*.npz"))


class TestSidecar:
    def test_it_is_stored_beside_its_baseline_and_read_with_it(self, store):
        _, sidecar = make_whole_baseline()
        found = save_whole(store)
        _, again = store.read_whole(TOY)

        assert [store.root / "cpu" / found.sidecar.file] == bulk_of(store)
        assert all(np.array_equal(sidecar[name], again[name], equal_nan=True) for name in sidecar.arrays)
        assert store.sidecar(make_baseline()) is None

    def test_the_one_before_goes(self, store):
        save_whole(store)
        found = save_whole(store, recall=0.3)

        assert [found.sidecar.file] == [path.name for path in bulk_of(store)]

    def test_leftovers_of_killed_writers_go_and_those_of_other_baselines_stay(self, store):
        folder = store.root / "cpu"
        folder.mkdir(parents=True)
        mine = ("toy.0123456789ab.npz", ".toy.json.ab_12.part", ".toy.0123456789ab.npz.x1y2.part")
        others = (
            "toy@world.0123456789ab.npz",
            "toyota.0123456789ab.npz",
            ".toyota.json.ab12.part",
            "toy.npz",
            "x.part",
        )
        for name in (*mine, *others):
            (folder / name).write_bytes(b"")
        found = save_whole(store)

        assert sorted(path.name for path in folder.iterdir()) == sorted([*others, "toy.json", found.sidecar.file])

    def test_bits_are_added_to_a_baseline_without_touching_its_bulk(self, store):
        old = save_whole(store)
        before = [path.stat().st_mtime_ns for path in bulk_of(store)]
        store.save(extended(old, threads=2), extends=old)
        found, sidecar = store.read_whole(TOY)

        assert len(found.exact) == 2
        assert sidecar is not None
        assert before == [path.stat().st_mtime_ns for path in bulk_of(store)]

    def test_a_candidate_without_bulk_keeps_that_of_the_same_recording(self, store):
        old = save_whole(store)
        store.save(extended(old.model_copy(update={"sidecar": None}), threads=2))

        assert old.sidecar == store.read(TOY).sidecar

    def test_a_sidecar_that_is_not_in_this_store_is_refused(self, store, tmp_path):
        named = save_whole(BaselineStore(tmp_path / "elsewhere"))

        with pytest.raises(UpdateRefused, match="names a sidecar that is not in this store"):
            store.save(named)
        assert store.entries() == []

    def test_bulk_of_other_seeds_is_refused_before_anything_is_written(self, store):
        baseline, _ = make_whole_baseline()
        _, fewer = make_whole_baseline(15)

        with pytest.raises(
            CorruptBaseline, match=r"the sidecar is of seeds \[0, .* 14\], its baseline of \[0, .* 15\]"
        ):
            store.save(baseline, sidecar=fewer)
        assert store.entries() == bulk_of(store) == []

    @pytest.mark.parametrize("bad", ["missing", "damaged", "foreign", "folder"])
    def test_a_bad_sidecar_is_named_and_judges_nothing(self, store, tmp_path, bad):
        """Control: the same run against the same baseline is judged while its sidecar is good."""
        save_whole(store)
        run, spec = [make_record(0)], RunSpec(system="toy")
        (path,) = bulk_of(store)

        assert judge_against(store, spec, run, max_runs=5).results[0].verdict is Verdict.PASS

        content = path.read_bytes()
        path.unlink()
        if bad == "damaged":
            path.write_bytes(content[:1000])
        elif bad == "foreign":
            save_whole(BaselineStore(tmp_path / "elsewhere"), recall=0.3)
            path.write_bytes(bulk_of(BaselineStore(tmp_path / "elsewhere"))[0].read_bytes())
        elif bad == "folder":
            path.mkdir()

        with pytest.raises(CorruptBaseline, match=rf"{path.name}: .*restore it from version control together"):
            store.read_whole(TOY)
        (result,) = judge_against(store, spec, run, max_runs=5).results
        assert result.verdict is Verdict.NOT_MEASURED
        assert result.red

    @pytest.mark.parametrize(
        ("key", "array", "problem"),
        [
            ("seeds", np.arange(5), "the sidecar is of seeds"),
            ("prefix/loss", np.zeros((3, 30)), r"prefix/loss of the sidecar has the shape \(3, 30\)"),
            ("init/first", np.float64(1), r"init/first of the sidecar has the shape \(\)"),
        ],
    )
    def test_a_good_file_with_the_bulk_of_something_else_is_refused(self, store, key, array, problem):
        """Its digest is the one that is named: somebody edited both."""
        baseline, sidecar = make_whole_baseline()
        content, ref = render_sidecar(Sidecar(arrays={**sidecar.arrays, key: array}), "toy")
        path = store.save(baseline)
        path.with_name(ref.file).write_bytes(content)
        path.write_bytes(render_baseline(baseline.model_copy(update={"sidecar": ref})))

        with pytest.raises(CorruptBaseline, match=problem):
            store.read_whole(TOY)

    def test_the_sidecar_of_another_baseline_is_refused(self, store):
        baseline, sidecar = make_whole_baseline()
        _, ref = render_sidecar(sidecar, "other")
        path = store.save(baseline)
        path.write_bytes(render_baseline(baseline.model_copy(update={"sidecar": ref})))

        with pytest.raises(CorruptBaseline, match=r"\$.sidecar.file: 'other.* is the sidecar of another baseline"):
            store.read(TOY)

    def test_a_reader_between_two_files_of_a_writer_reads_the_newer_recording(self, store, monkeypatch):
        save_whole(store)
        read = BaselineStore.sidecar
        calls = []

        def slow(self: BaselineStore, baseline: Baseline) -> Sidecar | None:
            calls.append(baseline)
            if len(calls) == 1:
                monkeypatch.setattr(BaselineStore, "sidecar", read)
                save_whole(store, recall=0.3)
            return read(self, baseline)

        monkeypatch.setattr(BaselineStore, "sidecar", slow)
        found, sidecar = store.read_whole(TOY)

        assert found.ensemble.features["test/recall@10"][0] > 0.25
        assert sidecar is not None


class TestFaults:
    """A writer that cannot write, or dies."""

    @pytest.mark.parametrize("dies_in", ["replace", "fsync"])
    @pytest.mark.parametrize("write", [1, 2])
    def test_a_write_that_dies_leaves_the_old_files(self, store, monkeypatch, dies_in, write):
        old = save_whole(store)
        before = {path: path.read_bytes() for path in (store.root / "cpu").iterdir()}
        whole = make_whole_baseline(recall=0.3)
        _fail_at(monkeypatch, dies_in, write, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            store.save(whole[0], sidecar=whole[1])
        monkeypatch.undo()

        assert before == {path: path.read_bytes() for path in (store.root / "cpu").iterdir()}
        assert old == store.read_whole(TOY)[0]

        store.save(whole[0], sidecar=whole[1])

        assert old != store.read_whole(TOY)[0]

    @pytest.mark.parametrize("fails_in", ["mkstemp", "write", "fsync", "replace"])
    @pytest.mark.parametrize("write", [1, 2, 3])
    def test_a_full_disk_leaves_the_old_files_and_is_named(self, store, monkeypatch, fails_in, write):
        """The third write does not exist, and so the save that it would fail is the control."""
        old = save_whole(store)
        before = {path: path.read_bytes() for path in (store.root / "cpu").iterdir()}
        whole = make_whole_baseline(recall=0.3)
        _fail_at(monkeypatch, fails_in, write, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        if write == 3:
            store.save(whole[0], sidecar=whole[1])
            assert old != store.read_whole(TOY)[0]
            return
        with pytest.raises(
            BaselineError, match=r"toy.json cannot be written \(No space left on device\); what was stor"
        ):
            store.save(whole[0], sidecar=whole[1])
        monkeypatch.undo()

        assert before == {path: path.read_bytes() for path in (store.root / "cpu").iterdir()}
        assert old == store.read_whole(TOY)[0]

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")

        with pytest.raises(BaselineError, match=r"\.lock cannot be written .*nothing was written"):
            BaselineStore(tmp_path / "file").save(make_baseline())

    def test_what_cannot_be_removed_does_not_undo_a_write(self, store, monkeypatch):
        save_whole(store)

        def refuse(path: Path, **_: object) -> None:
            raise PermissionError(errno.EACCES, "no", str(path))

        monkeypatch.setattr(Path, "unlink", refuse)
        found = save_whole(store, recall=0.3)
        monkeypatch.undo()

        assert len(bulk_of(store)) == 2
        assert store.sidecar(found) is not None

        save_whole(store, recall=0.25)

        assert len(bulk_of(store)) == 1


def _fail_at(monkeypatch, place: str, write: int, error: BaseException) -> None:
    """Make the n-th call of one step of writing a file fail."""
    steps = {"replace": (Path, "replace"), "fsync": (os, "fsync"), "mkstemp": (tempfile, "mkstemp")}
    owner, name = steps.get(place, (os, "fdopen"))
    real, calls = getattr(owner, name), [0]

    def failing(*args, **kwargs):
        calls[0] += 1
        if calls[0] == write and place == "write":
            return _Full(real(*args, **kwargs), error)
        if calls[0] == write:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)


class _Full:
    """The file of a disk that takes ten more bytes."""

    def __init__(self, file, error: BaseException) -> None:
        self.file, self.error = file, error

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        self.file.write(content[:10])
        raise self.error
