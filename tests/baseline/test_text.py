import json
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import make_environment, make_whole_baseline
from rectest.baseline.schema import SCHEMA
from rectest.baseline.text import parse_baseline, render_baseline
from rectest.errors import CorruptBaseline

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
BASELINE = make_whole_baseline()[0]
CONTENT = render_baseline(BASELINE)

ORIGIN = {
    "command": "pytest -m gate",
    "commit": None,
    "date": "2026-05-01T08:00:00Z",
    "dirty": None,
    "environment": "cpu",
    "reason": "first",
}
SCHEMA_1 = json.dumps(
    {
        "schema": 1,
        "system": "toy",
        "world": "",
        "world_digest": "blake2b:5eed",
        "env_class": "cpu",
        "spec": {"steps": None, "eval_every": None, "config": {}},
        "ensemble": {
            "seeds": list(range(8)),
            "fingerprint": make_environment().fingerprint,
            "features": {
                "test/recall@10": [0.20, 0.21, 0.19, 0.20, 0.22, 0.18, 0.20, 0.21],
                "valid/recall@10/late": [0.30, 0.31, 0.29, 0.30, 0.32, 0.28, 0.30, 0.31],
                "loss/late": [1.0, 1.1, 0.9, 1.0, 1.2, 0.8, 1.0, 1.1],
            },
            "num_scored": {"test": 1000, "valid": 1000},
        },
        "exact": {
            make_environment().fingerprint: {
                "environment": make_environment().to_dict(),
                "seeds": {"0": {"digests": {"losses": f"blake3:{'0' * 32}"}, "values": {"loss/total": 1.0}}},
                "provenance": ORIGIN,
            }
        },
        "provenance": ORIGIN,
    }
)
"""As version 1 wrote it: late windows only, no twins, no streams, no sidecar, nothing declared, no history."""


class TestRender:
    def test_the_file_is_sorted_full_precision_json_with_a_final_newline(self):
        plain = json.loads(CONTENT)

        assert CONTENT.endswith(b"}\n")
        assert b"\r" not in CONTENT
        assert list(plain) == sorted(plain)
        assert plain["schema"] == SCHEMA
        assert plain["ensemble"]["features"]["test/recall@10"][0] == BASELINE.ensemble.features["test/recall@10"][0]

    def test_one_number_per_line(self):
        lines = CONTENT.decode().splitlines()

        assert sum(line.strip().rstrip(",") == str(seed) for seed in range(16) for line in lines) == 16

    def test_round_trip(self):
        assert parse_baseline(CONTENT, path="x.json") == BASELINE

    @given(
        values=st.lists(POSITIVE, min_size=16, max_size=16),
        config=st.dictionaries(TEXT, JSON, max_size=4),
        reason=TEXT.filter(str.strip),
        world=st.from_regex(r"\A[a-z0-9][a-z0-9_.-]{0,9}\Z") | st.just(""),
        dirty=st.none() | st.booleans(),
    )
    @settings(max_examples=50, deadline=None)
    def test_round_trip_of_any_content_is_exact(self, values, config, reason, world, dirty):
        plain = json.loads(CONTENT)
        plain |= {"world": world}
        plain["ensemble"]["features"]["test/recall@10"] = values
        plain["ensemble"]["twins"]["test/recall@10"] = values[::-1]
        plain["spec"]["config"] = config
        plain["provenance"] |= {"reason": reason, "dirty": dirty}
        content = json.dumps(plain, allow_nan=False).encode()

        first = parse_baseline(content, path="x.json")
        again = parse_baseline(render_baseline(first), path="x.json")

        assert json.loads(render_baseline(again)) == plain
        assert again == first


class TestMigration:
    def test_schema_1_becomes_schema_2_and_says_what_it_lacks(self):
        found = parse_baseline(SCHEMA_1.encode(), path="toy.json")

        assert found.schema_version == 2
        assert found.ensemble.features["test/recall@10"][4] == 0.22
        assert list(found.ensemble.left_out) == [
            "valid/recall@10/early",
            "valid/recall@10/mid",
            "loss/early",
            "loss/mid",
        ]
        assert (found.ensemble.twins, found.streams, found.sidecar, found.declared, found.history) == (
            {},
            {},
            None,
            None,
            (),
        )

    def test_the_migrated_file_is_written_as_schema_2_and_stays_what_it_is(self):
        found = parse_baseline(SCHEMA_1.encode(), path="toy.json")
        content = render_baseline(found)

        assert json.loads(content)["schema"] == 2
        assert found == parse_baseline(content, path="toy.json")

    @pytest.mark.parametrize(
        ("path", "problem"),
        [
            (("ensemble",), r"\$.ensemble: Field required"),
            (("ensemble", "features"), r"\$.ensemble.features: Field req"),
        ],
    )
    def test_a_broken_schema_1_file_is_named_like_any_other(self, path, problem):
        plain = json.loads(SCHEMA_1)
        inner = plain
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]

        with pytest.raises(CorruptBaseline, match=problem):
            parse_baseline(json.dumps(plain).encode(), path="toy.json")

    @pytest.mark.parametrize("features", [[], None, "x", 3])
    def test_features_of_another_type_are_named(self, features):
        plain = json.loads(SCHEMA_1)
        plain["ensemble"]["features"] = features

        with pytest.raises(CorruptBaseline, match=r"\$.ensemble.features: "):
            parse_baseline(json.dumps(plain).encode(), path="toy.json")


class TestBadFile:
    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"", "not valid JSON in line 1"),
            (b'{"schema": 1,\n<<<<<<< HEAD\n', "not valid JSON in line 2"),
            (b"\xff\xfe", "not a baseline"),
            (b"\xef\xbb\xbf{}", "BOM"),
            (b"[1]", "holds a JSON list, needed an object"),
            (b"{}", r"\$.schema: needed a schema number, found None"),
            (b'{"schema": true}', "needed a schema number, found True"),
            (b'{"schema": 2.0}', "needed a schema number, found 2.0"),
            (
                b'{"schema": 3}',
                "schema 3, this version of rectest reads schema 1 to 2; .*newer rectest: upgrade rectest",
            ),
            (b'{"schema": 0}', "schema 0, this version of rectest reads schema 1 to 2; .*record it anew"),
            (b'{"schema": 1, "schema": 1}', "key 'schema' is given twice"),
            (b'{"schema": NaN}', "NaN where a finite number is needed"),
            (b'{"schema": 1e999}', "outside the range of a float"),
            (b'{"schema": 1}', r"\$.system: Field required"),
            (b'{"schema": 2, "system": "\\ud800"}', r"\$"),
            (b'{"schema": 2, "system": ' + b"9" * 5000 + b"}", "not a baseline"),
            *((b'{"schema": 2, "x": ' + b"[" * depth + b"]" * depth + b"}", "") for depth in (150, 500, 900, 100_000)),
        ],
        ids=range(20),
    )
    def test_content_that_is_no_baseline(self, content, problem):
        with pytest.raises(CorruptBaseline, match=f"^toy.json: .*{problem}") as found:
            parse_baseline(content, path="toy.json")

        assert len(str(found.value)) < 400

    @given(places=st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=3))
    @settings(max_examples=50, deadline=None)
    def test_damaged_bytes_are_refused_or_still_a_baseline(self, places):
        content = bytearray(CONTENT)
        for place, byte in places:
            content[place] = byte
        try:
            found = parse_baseline(bytes(content), path="toy.json")
        except CorruptBaseline:
            return

        values = chain.from_iterable(found.ensemble.features.values())
        assert all(value > 0 for value in values)

    @given(length=st.integers(0, len(CONTENT) - 3))
    @settings(max_examples=50, deadline=None)
    def test_half_a_file_is_never_a_baseline(self, length):
        with pytest.raises(CorruptBaseline):
            parse_baseline(CONTENT[:length], path="toy.json")
