"""The details file: what is written comes back equal, and what is no such file is refused with a sentence."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.findings import HOSTILE, IDENTICAL_FINDING, NEGATIVES, RNG, make_details
from rectest.divergence.details import SCHEMA, read_details, write_details
from rectest.divergence.finding import Growth
from rectest.errors import RecordError


@pytest.mark.parametrize("finding", [NEGATIVES, IDENTICAL_FINDING])
def test_what_is_written_comes_back(tmp_path, finding):
    details = make_details(finding)
    path = write_details(tmp_path / "new" / "why.json", details)

    assert read_details(path) == details
    assert json.loads(path.read_text())["schema"] == SCHEMA
    assert write_details(tmp_path / "again.json", details).read_bytes() == path.read_bytes()


def test_json_without_nan_and_nan_again_when_read(tmp_path):
    growth = (Growth(step=1, loss=math.nan, parameters=math.inf),)
    path = write_details(tmp_path / "why.json", make_details(replace(NEGATIVES, growth=growth)))
    (obtained,) = read_details(path).finding.growth

    assert math.isnan(obtained.loss)
    assert obtained.parameters == math.inf
    assert "NaN" not in path.read_text()


@given(name=st.text() | st.sampled_from([HOSTILE, "\ud800"]), pin=st.sampled_from(["", "hash"]))
@settings(max_examples=30, deadline=None)
def test_any_name_comes_back(tmp_path_factory, name, pin):
    finding = replace(NEGATIVES, name=name, causes=(replace(RNG, site=name, pin=pin, confirmed=True),))
    path = write_details(tmp_path_factory.mktemp("details") / "why.json", make_details(finding))

    assert read_details(path).finding == finding


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no JSON"),
        ("\udcff", "is no JSON"),
        ("[]", "no details file of schema 1 .found None"),
        ('{"schema": 99}', "found 99"),
        ('{"schema": 1}', "is damaged"),
    ],
)
def test_another_file_is_refused(tmp_path, text, says):
    path = tmp_path / "why.json"
    path.write_text(text, errors="surrogateescape")

    with pytest.raises(RecordError, match=says):
        read_details(path)


@pytest.mark.parametrize(
    "damage",
    [
        {"finding": None},
        {"runs": 3},
        {"odd": 1},
        {"draws": [{}]},
        {"finding": {**NEGATIVES.to_dict(), "verdict": "perhaps"}},
        {"finding": {**NEGATIVES.to_dict(), "num_steps": [1]}},
        {"finding": {**NEGATIVES.to_dict(), "causes": [{"kind": "x"}]}},
    ],
)
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "why.json"
    path.write_text(json.dumps({**make_details().to_dict(), **damage}))

    with pytest.raises(RecordError, match=r"why.json: is damaged .*; run rectest why again"):
        read_details(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(RecordError, match="cannot be read"):
        read_details(tmp_path / "no.json")
