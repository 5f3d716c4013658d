"""Files and directory listings: what is noted, what is not, and another order of names."""

from __future__ import annotations

import glob
import importlib.metadata
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.divergence.inside import files, listings, sites
from rectest.divergence.inside.session import Config, Session
from rectest.divergence.tapes import Event, load_run

Watch = Callable[..., Session]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """Start a recording of files with these settings; its root is the working directory of the test."""
    sessions: list[Session] = []

    def begin(**settings: Any) -> Session:
        root = tmp_path / "work"
        root.mkdir(exist_ok=True)
        session = Session(Config(tape=str(tmp_path / "tape"), root=str(root), **settings), process="main", header={})
        sites.set_root(str(root))
        session.start()
        files.install(session)
        sessions.append(session)
        return session

    yield begin
    for session in sessions:
        session.close("exit")
    sites.set_root("")


def events(session: Session, kind: str) -> list[Event]:
    """What was noted, after the end of the recording."""
    session.close("exit")
    tapes = load_run(session.config.tape).tapes
    return list(tapes["main"].of(kind))


class TestFiles:
    def test_reading_is_noted_with_the_content(self, watch: Watch, tmp_path: Path) -> None:
        session = watch()
        path = tmp_path / "work" / "cache.bin"
        path.write_bytes(b"left by run 1")
        path.read_bytes()
        path.read_bytes()
        path.write_bytes(b"left by run 2")
        path.read_bytes()

        found = events(session, "file")

        assert ["w", "r", "r"] == [event.info["mode"] for event in found]
        assert {"cache.bin"} == {event.name for event in found}
        assert found[1].digest != found[2].digest
        assert found[1].info["size"] == 13
        assert found[1].site.endswith("test_reading_is_noted_with_the_content")

    def test_equal_contents_have_equal_digests(self, watch: Watch, tmp_path: Path) -> None:
        session = watch()
        for name in ("one.bin", "two.bin"):
            (tmp_path / "work" / name).write_bytes(b"same")
            (tmp_path / "work" / name).read_bytes()

        first, second = [event.digest for event in events(session, "file") if event.info["mode"] == "r"]

        assert first == second

    def test_a_checkpoint_is_no_code(self, watch: Watch, tmp_path: Path) -> None:
        session = watch()
        path = tmp_path / "work" / "SASRec-last.pth"
        path.write_bytes(b"weights")
        path.read_bytes()

        assert ["w", "r"] == [event.info["mode"] for event in events(session, "file")]

    def test_a_file_that_tempfile_tries_under_its_lock_does_not_hang(self, watch: Watch, tmp_path: Path) -> None:
        """At its first use `tempfile` opens files in each candidate directory while it holds a lock of its own."""
        session = watch()
        path = tmp_path / "work" / "tried"
        opening = threading.Thread(target=path.write_bytes, args=(b"",), daemon=True)
        with tempfile._once_lock:
            opening.start()
            opening.join(10)

        assert not opening.is_alive()
        assert ["tried"] == [event.name for event in events(session, "file")]

    def test_what_is_of_no_interest(self, watch: Watch, tmp_path: Path) -> None:
        session = watch()
        session.event("hash", "something")
        (tmp_path / "work" / "module.py").write_text("x = 1\n")
        Path(os.__file__).read_bytes()
        Path("/proc/self/stat").read_bytes()
        with pytest.raises(FileNotFoundError):
            (tmp_path / "work" / "absent").read_bytes()

        assert [] == events(session, "file")

    def test_appending_writes_and_updating_does_both(self, watch: Watch, tmp_path: Path) -> None:
        path = tmp_path / "work" / "log"
        session = watch()
        with path.open("a"):
            pass
        with path.open("r+"):
            pass

        assert ["w", "r"] == [event.info["mode"] for event in events(session, "file")]

    def test_a_large_file_by_its_ends(self, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "WHOLE_BYTES", 4)
        session = watch()
        path = tmp_path / "work" / "large"
        path.write_bytes(b"123456789")
        assert path.read_bytes() == b"123456789"

        assert [9] == [event.info["size"] for event in events(session, "file") if event.info["mode"] == "r"]


class TestListings:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "work" / "data"
        folder.mkdir(parents=True)
        for name in "abcdefgh":
            (folder / name).touch()
        return folder

    def test_every_way_to_list_gets_the_other_order(self, watch: Watch, folder: Path) -> None:
        before = os.listdir(folder)  # noqa: PTH208
        session = watch(listing_seed=1)

        obtained = [
            os.listdir(folder),  # noqa: PTH208
            [path.name for path in folder.iterdir()],
            [entry.name for entry in os.scandir(folder)],
            next(os.walk(folder))[2],
            [Path(name).name for name in glob.glob(f"{folder}/*")],  # noqa: PTH207
            [path.name for path in folder.glob("*")],
        ]

        noted = events(session, "listing")
        assert before != obtained[0]
        assert [obtained[0]] * 6 == obtained
        assert [("data", noted[0].digest)] * 6 == [(event.name, event.digest) for event in noted]
        assert os.listdir(folder) == before  # noqa: PTH208

    def test_the_root_has_the_same_name_in_each_copy(self, watch: Watch, folder: Path) -> None:
        (folder.parent / "other").touch()
        session = watch()
        os.listdir(folder.parent)  # noqa: PTH208
        sorted(os.listdir(folder))  # noqa: PTH208

        noted = events(session, "listing")

        assert [".", "data"] == [event.name for event in noted]

    def test_the_search_for_packages_is_left_alone(
        self, watch: Watch, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(folder)
        session = watch(listing_seed=1)
        list(importlib.metadata.distributions(path=[str(folder)]))
        session.event("hash", "something")

        assert [] == events(session, "listing")

    def test_without_a_seed_the_order_stays(self, watch: Watch, folder: Path) -> None:
        before = os.listdir(folder)  # noqa: PTH208
        watch()

        assert before == os.listdir(folder)  # noqa: PTH208

    def test_the_pin_sorts(self, watch: Watch, folder: Path) -> None:
        watch(listing_seed=3, pins=("listing",))

        assert list("abcdefgh") == os.listdir(folder)  # noqa: PTH208

    def test_scandir_keeps_its_protocol(self, watch: Watch, folder: Path) -> None:
        watch(listing_seed=1)
        with os.scandir(folder) as found:
            first = next(found)
            found.close()

            assert [] == list(found)
        assert first.is_file()
        with pytest.raises(FileNotFoundError):
            os.scandir(folder / "absent")

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.text(), unique=True), st.integers(min_value=1), st.randoms())
    def test_the_order_depends_on_names_and_seed_alone(self, names: list[str], seed: int, shuffle: Any) -> None:
        def key(name: str) -> bytes:
            return name.encode("utf-8", "surrogatepass")

        expected = listings.reordered(names, seed, key=key)
        others = list(names)
        shuffle.shuffle(others)

        assert expected == listings.reordered(others, seed, key=key)
        assert sorted(names) == sorted(expected)
