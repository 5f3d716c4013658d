"""Writers that are killed at random moments: a reader finds one recording or the other, whole, never half of one."""

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from fixtures.baselines import make_whole_baseline
from rectest.baseline import store as module
from rectest.baseline.store import BaselineStore, StoredName
from rectest.errors import CorruptBaseline

TOY = StoredName(env_class="cpu", system="toy")
WHOLE = {recall: make_whole_baseline(5, recall=recall) for recall in (0.2, 0.3)}


def kill_one(store: BaselineStore, rng: random.Random) -> None:
    """Fork a writer of both recordings in turn, and kill it some moment later."""
    child = os.fork()
    if child == 0:
        try:
            while True:
                for baseline, sidecar in WHOLE.values():
                    store.save(baseline, sidecar=sidecar, replace=True)
        finally:
            os._exit(1)
    time.sleep(rng.uniform(0, 0.012))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "the writer ended by itself"


def is_whole(store: BaselineStore) -> bool:
    """Whether baseline and sidecar are those of one recording; one that cannot be read is none."""
    try:
        found, sidecar = store.read_whole(TOY)
    except CorruptBaseline:
        return False
    for baseline, bulk in WHOLE.values():
        if baseline.ensemble == found.ensemble:
            return all(np.array_equal(bulk[name], sidecar[name], equal_nan=True) for name in bulk.arrays)
    return False


def files(store: BaselineStore) -> list[str]:
    return sorted(path.name for path in (store.root / "cpu").iterdir())


@pytest.mark.parametrize("num_kills", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_writers_leave_a_whole_recording(tmp_path, num_kills):
    store, rng = BaselineStore(tmp_path), random.Random(5)
    store.save(WHOLE[0.2][0], sidecar=WHOLE[0.2][1])
    leftovers = 0
    for _ in range(num_kills):
        kill_one(store, rng)

        assert is_whole(store)
        leftovers += len(files(store)) != 2

    store.save(WHOLE[0.2][0], sidecar=WHOLE[0.2][1])

    assert leftovers > 0, "no writer was killed inside a write, so that nothing was tested"
    assert [store.read(TOY).sidecar.file, "toy.json"] == files(store)


def test_a_writer_that_does_not_replace_its_files_at_once_is_found_out(tmp_path, monkeypatch):
    """The planted fault: files are written in place, and the kill comes halfway through the one that is the switch."""

    def in_place(path: Path, content: bytes) -> Path:
        with path.open("wb", buffering=0) as file:
            file.write(content[: len(content) // 2])
            if path.suffix == ".json":
                os.kill(os.getpid(), signal.SIGKILL)
            file.write(content[len(content) // 2 :])
        return path

    store = BaselineStore(tmp_path)
    store.save(WHOLE[0.2][0], sidecar=WHOLE[0.2][1])
    monkeypatch.setattr(module, "atomic_write", in_place)
    child = os.fork()
    if child == 0:
        try:
            store.save(WHOLE[0.3][0], sidecar=WHOLE[0.3][1], replace=True)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)

    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not is_whole(store)
