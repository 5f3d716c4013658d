"""Worlds from files: each format by its name, and every mistake by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rectest.data.files import FORMATS, absolute_world, load_file_world, names_a_file
from rectest.data.worlds import load_world
from rectest.errors import DataError, UnknownNameError

CONTENT = {
    "behaviours": "u1 a view 1\nu1 b buy 2\nu2 a view 3\n",
    "inter": "user_id:token\titem_id:token\ttimestamp:float\nu1\ta\t1\nu1\tb\t2\nu2\ta\t3\n",
    "lines": "u1 a b\nu2 a\n",
    "pairs": "1 10\n1 20\n2 10\n",
    "udata": "1\t10\t5\t1\n1\t20\t3\t2\n2\t10\t4\t3\n",
}


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_each_format(tmp_path, kind):
    path = tmp_path / "mine.txt"
    path.write_text(CONTENT[kind])

    world = load_world(f"{kind}:{path}")

    assert (world.name, world.num_users, world.num_items, len(world.interactions)) == ("mine", 2, 2, 3)
    assert world.oracle is None


@pytest.mark.parametrize("kind", sorted(FORMATS))
@pytest.mark.parametrize("content", [None, "", "\x00\xff", "one\n"])
def test_bad_files_are_named(tmp_path, kind, content):
    path = tmp_path / "mine.txt"
    if content is not None:
        path.write_text(content)

    with pytest.raises(DataError, match=r"mine\.txt"):
        load_file_world(f"{kind}:{path}")


def test_names():
    assert names_a_file("inter:x")
    assert not names_a_file("ml-100k")
    assert not names_a_file("csv:x")
    assert not names_a_file("inter:")
    assert absolute_world("tiny") == "tiny"
    assert absolute_world("pairs:x.txt") == f"pairs:{Path.cwd() / 'x.txt'}"


def test_an_unknown_format_is_an_unknown_world():
    with pytest.raises(UnknownNameError, match="unknown world 'csv:x'"):
        load_world("csv:x")
