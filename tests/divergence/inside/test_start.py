"""Beginning and ending a recording, and being called back after imports."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rectest.divergence.inside import imports, start
from rectest.divergence.inside.keeping import KeptSession
from rectest.divergence.inside.session import Config, active
from rectest.divergence.tapes import load_run


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that nobody has imported."""
    (tmp_path / "freshly_made.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "freshly_made"
    sys.modules.pop("freshly_made", None)
    imports.forget()


class TestNames:
    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({}, "main"),
            ({"RECTEST_WHY_PROCESS": "main.2"}, "main.2"),
            ({"RANK": "1", "WORLD_SIZE": "2", "RECTEST_WHY_PROCESS": "main.2"}, "rank1"),
            ({"RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "none"}, "rank0"),
            ({"RANK": "0", "WORLD_SIZE": "1"}, "main"),
            ({"RANK": "1", "WORLD_SIZE": "2", "RECTEST_WHY_PROCESS": "rank1.1"}, "rank1.1"),
            ({"RANK": "x", "WORLD_SIZE": "2"}, "main"),
        ],
    )
    def test_a_process_has_the_same_name_in_each_run(self, environ: dict[str, str], expected: str) -> None:
        assert expected == start.process_name(environ)


class TestBegin:
    @pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"root": "x"}', '{"tape": "t", "pins": 3}'])
    def test_does_nothing_without_a_readable_configuration(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RECTEST_WHY", text)
        before = os._exit, os.listdir

        start.begin()

        assert active() is None
        assert before == (os._exit, os.listdir)

    def test_settings_of_another_version_are_left_out(self) -> None:
        expected = Config(tape="t", pins=("hash",))

        assert expected == start._read_config(json.dumps({"tape": "t", "pins": ["hash"], "from_the_future": 1}))


class TestEnd:
    def test_the_exception_that_ended_the_script(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "last_value", ValueError("first line\nsecond"), raising=False)

        assert start._end() == "exception: ValueError: first line"

    def test_an_exception_that_cannot_be_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class SilentError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        monkeypatch.setattr(sys, "last_value", SilentError(), raising=False)

        assert start._end() == "exception: SilentError"


class TestImports:
    def test_calls_back_after_the_module_is_there(self, module: str) -> None:
        seen: list[int] = []

        imports.when_imported(module, lambda: seen.append(sys.modules[module].value))
        assert seen == []
        loaded = importlib.import_module(module)
        importlib.reload(loaded)

        assert seen == [1]
        assert loaded.__loader__ is loaded.__spec__.loader
        assert "exec_module" not in vars(loaded.__loader__)

    def test_calls_back_at_once_if_it_is_imported_already(self) -> None:
        seen: list[str] = []

        imports.when_imported("json", lambda: seen.append("json"))

        assert seen == ["json"]

    def test_lazy_modules_call_back_when_they_are_used(self, module: str) -> None:
        seen: list[str] = []
        imports.when_imported(module, lambda: seen.append(module))
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.loader is not None
        spec.loader = importlib.util.LazyLoader(spec.loader)
        lazy = importlib.util.module_from_spec(spec)
        sys.modules[module] = lazy
        spec.loader.exec_module(lazy)

        assert seen == []
        assert lazy.value == 1
        assert seen == [module]

    def test_an_import_that_fails_calls_back_when_it_succeeds(self, module: str, tmp_path: Path) -> None:
        seen: list[str] = []
        imports.when_imported(module, lambda: seen.append(module))
        good = (tmp_path / f"{module}.py").read_text()
        (tmp_path / f"{module}.py").write_text("raise OSError('not now')")

        with pytest.raises(OSError, match="not now"):
            importlib.import_module(module)
        assert seen == []
        (tmp_path / f"{module}.py").write_text(good)
        importlib.invalidate_caches()
        importlib.import_module(module)

        assert seen == [module]

    def test_other_imports_pass(self) -> None:
        imports.when_imported("nobody_has_this", lambda: None)
        finder = sys.meta_path[0]

        assert finder.find_spec("json", None, None) is None  # type: ignore[union-attr]
        assert importlib.util.find_spec("nobody_has_this") is None

        imports.forget()
        assert finder not in sys.meta_path


class TestKeeping:
    def test_a_killed_process_leaves_most_of_its_tape(self, tmp_path: Path) -> None:
        session = KeptSession(Config(tape=str(tmp_path)), process="main", header={})
        for number in range(9):
            session.event("hash", f"h{number}")

        tape = load_run(tmp_path).tapes["main"]

        assert tape.end == "cut"
        assert [f"h{number}" for number in range(7)] == [event.name for event in tape.events]
        session.close("exit")

    def test_a_place_that_is_kept_is_not_lost(self, tmp_path: Path) -> None:
        session = KeptSession(Config(tape=str(tmp_path)), process="main", header={})
        fill = session.reserve()
        for number in range(9):
            session.event("hash", f"h{number}")
        fill("input", "Model[0]")
        session.close("exit")

        events = load_run(tmp_path).tapes["main"].events

        assert (10, "Model[0]") == (len(events), events[0].name)
