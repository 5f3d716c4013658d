"""What a project says about its benchmarks in its own configuration."""

from __future__ import annotations

import pytest

from rectest.benchmarks.settings import Settings
from rectest.errors import ConfigError

TABLE = """
[tool.rectest.bench]
paths = ["tests/bench"]
limit = 0.1
limits = { "*start_up*" = 0.2, "*::test_start_up_cold" = 1 }
ignore = ["*cuda*"]
removed = ["*old*"]
build = ["make", "-j2"]
"""


def test_limits_by_name(tmp_path):
    (tmp_path / "pyproject.toml").write_text(TABLE)
    found = Settings.read(tmp_path)

    assert ("tests/bench",) == found.paths
    assert ("make", "-j2") == found.build
    assert 0.1 == found.limit_of("a.py::test_step")
    assert 0.2 == found.limit_of("a.py::test_start_up")
    assert 1 == found.limit_of("a.py::test_start_up_cold")
    assert 0.3 == found.limit_of("a.py::test_start_up_cold", own=0.3)
    assert 0.07 == found.with_limit(0.07).limit_of("a.py::test_step")
    assert (True, False) == (found.ignores("test_x[cuda]"), found.ignores("test_x[cpu]"))
    assert (True, False) == (found.knows_removed("test_old"), found.knows_removed("test_new"))


@pytest.mark.parametrize("text", [None, "", "[tool.other]\n"])
def test_without_a_table_there_are_defaults(tmp_path, text):
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)

    assert Settings() == Settings.read(tmp_path)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("limit = 0", "relative slowdown"),
        ("limit = true", "relative slowdown"),
        ('limit = "5 %"', "relative slowdown"),
        ('limits = { "*" = -1 }', "relative slowdown"),
        ('paths = "tests"', "list of texts"),
        ("ignore = [1]", "list of texts"),
        ('build = "make"', "list of texts"),
        ("limt = 0.1", "does not exist; known: build, ignore"),
        ("limit = ", "not TOML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, line, match):
    (tmp_path / "pyproject.toml").write_text(f"[tool.rectest.bench]\n{line}\n")

    with pytest.raises(ConfigError, match=match):
        Settings.read(tmp_path)


@pytest.mark.parametrize(("own", "expected"), [(0.3, 0.3), (float("inf"), 0.05), (float("nan"), 0.05), (-1.0, 0.05)])
def test_a_test_cannot_take_its_limit_away(own, expected):
    assert expected == Settings().limit_of("t.py::a", own=own)


def test_a_table_must_be_one(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.rectest]\nbench = 3\n")

    with pytest.raises(ConfigError, match="must be a table"):
        Settings.read(tmp_path)
