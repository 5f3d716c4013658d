"""The run cache by itself: trained once whoever asks, failures remembered, and entries that cannot be read."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock

from fixtures.records import make_record
from rectest.errors import ChildFailed
from rectest.plugin.runcache import RunCache
from rectest.record import RunRecord, RunSpec
from rectest.training.launch import Launch

SPEC = RunSpec(system="toy")


class Child:
    """Stands in for `launch`: counts the trainings, and fails for specs whose system is ``broken``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 0.0) -> None:
        self.trained: list[RunSpec] = []
        self.seconds = seconds
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        monkeypatch.setattr("rectest.training.launch.launch", self)

    def __call__(self, spec: RunSpec, *, how: Launch) -> RunRecord:
        with self.lock:
            self.trained.append(spec)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.seconds)
        with self.lock:
            self.at_once -= 1
        if spec.system == "broken":
            raise ChildFailed(spec.describe(), reason="raised", detail="raised KeyError: 17", log="mine.py, line 3")
        return make_record(seed=spec.seed)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path, said) -> RunCache:
    return RunCache(folder=tmp_path / "runs", how=lambda spec: Launch(hash_seed=spec.replica), progress=said.append)


def test_a_spec_is_trained_once_and_comes_back_bit_for_bit(cache, said, monkeypatch):
    child = Child(monkeypatch)

    first, second = cache.get(SPEC), cache.get(SPEC)

    assert child.trained == [SPEC]
    assert first.digest() == second.digest()
    assert first.facts == second.facts
    assert said == ["toy, seed 0: 1.0 s"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"world": "tiny"}, {"replica": 1}, {"config": {"steps": 3}}])
def test_another_spec_is_another_entry(cache, change, monkeypatch):
    child = Child(monkeypatch)
    cache.get(SPEC)
    cache.get(SPEC.with_(**change))

    assert len(child.trained) == 2


def test_the_hash_seed_is_part_of_the_entry(cache, tmp_path, monkeypatch):
    child = Child(monkeypatch)
    other = RunCache(folder=cache.folder, how=lambda _: Launch(hash_seed=7), progress=cache.progress)
    cache.get(SPEC)
    other.get(SPEC)

    assert len(child.trained) == 2


def test_a_failure_is_remembered_with_all_it_said(cache, said, monkeypatch):
    child = Child(monkeypatch)
    spec = SPEC.with_(system="broken")
    failures = []
    for _ in range(2):
        with pytest.raises(ChildFailed, match="training broken, seed 0: raised KeyError: 17") as failed:
            cache.get(spec)
        failures.append(failed.value)

    assert len(child.trained) == 1
    assert {(e.what, e.reason, e.detail, e.log) for e in failures} == {
        ("broken, seed 0", "raised", "raised KeyError: 17", "mine.py, line 3")
    }
    assert said == ["broken, seed 0: failed"]


@pytest.mark.parametrize("content", [b"", b"not a record", None])
def test_a_damaged_record_is_trained_again(cache, content, monkeypatch):
    child = Child(monkeypatch)
    expected = cache.get(SPEC)
    (path,) = cache.folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)

    obtained = cache.get(SPEC)

    assert len(child.trained) == 2
    assert expected.digest() == obtained.digest() == cache.get(SPEC).digest()
    assert len(child.trained) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"what": "broken"}'])
def test_a_damaged_failure_is_trained_again(cache, content, monkeypatch):
    child = Child(monkeypatch)
    spec = SPEC.with_(system="broken")
    with pytest.raises(ChildFailed):
        cache.get(spec)
    (path,) = cache.folder.glob("*.failed.json")
    path.write_text(content)

    with pytest.raises(ChildFailed, match="raised KeyError: 17"):
        cache.get(spec)
    assert len(child.trained) == 2


def test_threads_that_ask_for_one_spec_train_it_once(cache, monkeypatch):
    child = Child(monkeypatch, seconds=0.1)
    with ThreadPoolExecutor(4) as pool:
        records = list(pool.map(cache.get, [SPEC] * 4))

    assert child.trained == [SPEC]
    assert len({record.digest() for record in records}) == 1


def test_many_come_back_in_order_and_some_at_a_time(cache, monkeypatch):
    child = Child(monkeypatch, seconds=0.05)
    specs = [SPEC.with_(seed=seed) for seed in (5, 3, 4, 3)]

    records = cache.get_many(specs, processes=2)

    assert [record.spec.seed for record in records] == [5, 3, 4, 3]
    assert sorted(spec.seed for spec in child.trained) == [3, 4, 5]
    assert child.most_at_once == 2


def test_the_first_failure_ends_many(cache, monkeypatch):
    child = Child(monkeypatch, seconds=0.02)

    with pytest.raises(ChildFailed, match="training broken"):
        cache.get_many([SPEC.with_(system="broken"), *(SPEC.with_(seed=s) for s in range(20))], processes=1)
    assert len(child.trained) < 20


def test_a_worker_that_never_finishes_is_named(cache, monkeypatch):
    Child(monkeypatch)
    impatient = RunCache(folder=cache.folder, how=lambda _: Launch(deadline=0.01), progress=cache.progress)
    cache.folder.mkdir()
    monkeypatch.setattr("rectest.plugin.runcache.PATIENCE", 0.05)

    with FileLock(cache.folder / f"{SPEC.key}-0.lock"), pytest.raises(ChildFailed) as failed:
        impatient.get(SPEC)

    assert failed.value.reason == "deadline"
    assert "another worker has been training it for over 0.06 s; is that process alive?" in str(failed.value)
    assert not list(cache.folder.glob("*.failed.json"))
