import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.cli.options import import_path, parse_settings, parse_target

KEYS = st.text(st.characters(blacklist_characters="=", blacklist_categories=("Cs",)), min_size=1, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("steps=30", {"steps": 30}),
        ("learning_rate=1e-3", {"learning_rate": 0.001}),
        ("model=dnn", {"model": "dnn"}),
        ('model="dnn"', {"model": "dnn"}),
        ("patience=null", {"patience": None}),
        ("widths=[1, 2]", {"widths": [1, 2]}),
        ("note=a=b", {"note": "a=b"}),
        ("empty=", {"empty": ""}),
        ("yes=True", {"yes": "True"}),
    ],
)
def test_values_are_json_or_text(pair, expected):
    assert expected == parse_settings([pair])


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_json_values_come_back(expected):
    assert expected == parse_settings(f"{key}={json.dumps(value)}" for key, value in expected.items())


def test_nothing_is_no_setting():
    assert parse_settings([]) == {}


@pytest.mark.parametrize("pair", ["steps", "", "=3", "="])
def test_a_setting_needs_a_key_and_a_sign(pair):
    with pytest.raises(ValueError, match=f"a setting is given as key=value, got '{pair}'"):
        parse_settings([pair])


def test_a_key_is_given_once():
    with pytest.raises(ValueError, match="setting 'steps' is given twice"):
        parse_settings(["steps=3", "steps=3"])


@pytest.mark.parametrize("text", ["comirec", "my.module:Mine", "mine:Outer.Inner"])
def test_names_stay_as_they_are(text):
    assert text == parse_target(text)


@pytest.mark.parametrize("text", ["mine.py:train", "./mine.py:train", "sub/../mine.py:train"])
def test_files_become_absolute(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert f"{tmp_path.resolve() / 'mine.py'}:train" == parse_target(text)


def test_children_look_where_the_command_was_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("/somewhere")
    obtained = import_path()

    assert obtained[0] == "/somewhere"
    assert str(Path.cwd()) in obtained
    assert len(obtained) == len(set(obtained))
