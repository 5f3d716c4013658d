import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import make_baseline
from rectest.baseline.schema import SCHEMA, Baseline, Settings, parse_baseline, render_baseline
from rectest.errors import CorruptBaseline
from rectest.record import RunSpec

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
CONTENT = render_baseline(make_baseline())
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return make_baseline()


def edited(baseline: Baseline, *path: str | int, value: object = None, drop: bool = False) -> bytes:
    """The file with one value replaced or one key dropped."""
    plain = json.loads(render_baseline(baseline))
    inner = plain
    for key in path[:-1]:
        inner = inner[key]
    if drop:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return json.dumps(plain).encode()


class TestRender:
    def test_the_file_is_sorted_full_precision_json_with_a_final_newline(self, baseline):
        content = render_baseline(baseline)
        plain = json.loads(content)

        assert content.endswith(b"}\n")
        assert b"\r" not in content
        assert list(plain) == sorted(plain)
        assert plain["schema"] == SCHEMA
        assert plain["ensemble"]["features"]["test/recall@10"][0] == baseline.ensemble.features["test/recall@10"][0]

    def test_one_number_per_line(self, baseline):
        lines = render_baseline(baseline).decode().splitlines()

        assert sum(line.strip().rstrip(",") == str(seed) for seed in range(16) for line in lines) == 16

    def test_round_trip(self, baseline):
        assert parse_baseline(render_baseline(baseline), path="x.json") == baseline

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
        plain["spec"]["config"] = config
        plain["provenance"] |= {"reason": reason, "dirty": dirty}
        content = json.dumps(plain, allow_nan=False).encode()

        first = parse_baseline(content, path="x.json")
        again = parse_baseline(render_baseline(first), path="x.json")

        assert json.loads(render_baseline(again)) == plain
        assert again == first


class TestBadFile:
    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"", "not valid JSON in line 1"),
            (b'{"schema": 1,\n<<<<<<< HEAD\n', "not valid JSON in line 2"),
            (b"\xff\xfe", "not a baseline"),
            (b"[1]", "holds a JSON list, needed an object"),
            (b"{}", r"\$.schema: needed a schema number, found None"),
            (b'{"schema": true}', "needed a schema number, found True"),
            (b'{"schema": 99}', "schema 99, this version of rectest reads schema 1; .*upgrade rectest"),
            (b'{"schema": 0}', "schema 0, this version of rectest reads schema 1; .*record it anew"),
            (b'{"schema": 1, "schema": 1}', "key 'schema' is given twice"),
            (b'{"schema": NaN}', "NaN where a finite number is needed"),
            (b'{"schema": 1e999}', "outside the range of a float"),
            (b'{"schema": 1}', r"\$.system: Field required"),
            (b"[" * 100_000, "not a baseline"),
        ],
    )
    def test_content_that_is_no_baseline(self, content, problem):
        with pytest.raises(CorruptBaseline, match=f"^toy.json: .*{problem}"):
            parse_baseline(content, path="toy.json")

    @pytest.mark.parametrize(
        ("path", "value", "problem"),
        [
            (("surprise",), 1, r"\$.surprise: Extra inputs"),
            (("system",), 3, r"\$.system: .*valid string, found 3"),
            (("system",), "../up", r"\$.system: "),
            (("spec", "steps"), "10", r"\$.spec.steps: "),
            (("ensemble", "features", "test/recall@10", 3), "0.2", r"features\['test/recall@10'\]\[3\]: .*found '0.2'"),
            (("ensemble", "features", "test/recall@10", 3), True, r"\[3\]: .*found True"),
            (("ensemble", "features", "test/recall@10", 3), 0.0, r"\[3\]: .*greater than 0, found 0.0"),
            (("ensemble", "features", "test/recall@10", 3), float("nan"), "NaN where a finite number is needed"),
            (("ensemble", "features", "test/recall@10"), [0.2] * 15, "15 values for 16 seeds"),
            (("ensemble", "features"), {}, r"\$.ensemble.features: "),
            (("ensemble", "seeds", 1), 0, "seeds are repeated"),
            (("ensemble", "seeds"), [0, 1, 2], r"\$.ensemble.seeds: .*at least 8"),
            (("ensemble", "fingerprint"), "0" * 16, "no entry for the fingerprint of the ensemble"),
            (("env_class",), "cuda-sm90", "environment class 'cpu' in a file of 'cuda-sm90'"),
            (("provenance", "reason"), "  ", r"\$.provenance.reason"),
        ],
    )
    def test_wrong_values_are_named_by_their_json_path(self, baseline, path, value, problem):
        with pytest.raises(CorruptBaseline, match=problem):
            parse_baseline(edited(baseline, *path, value=value), path="toy.json")

    @pytest.mark.parametrize("key", ["exact", "ensemble", "provenance", "world", "world_digest", "spec"])
    def test_a_missing_key_is_named(self, baseline, key):
        with pytest.raises(CorruptBaseline, match=rf"\$.{key}: Field required"):
            parse_baseline(edited(baseline, key, drop=True), path="toy.json")

    def test_an_environment_edited_by_hand_no_longer_has_its_fingerprint(self, baseline):
        fingerprint = baseline.ensemble.fingerprint

        with pytest.raises(CorruptBaseline, match="its environment has the fingerprint"):
            parse_baseline(edited(baseline, "exact", fingerprint, "environment", "threads", value=2), path="toy.json")

    def test_an_environment_of_another_version_is_refused(self, baseline):
        path = ("exact", baseline.ensemble.fingerprint, "environment")

        with pytest.raises(CorruptBaseline, match="an environment that this version does not understand"):
            parse_baseline(edited(baseline, *path, "weather", value="fine"), path="toy.json")

    @pytest.mark.parametrize("digest", ["sha256:00", "blake3:xyz", 5])
    def test_a_digest_has_one_form(self, baseline, digest):
        path = ("exact", baseline.ensemble.fingerprint, "seeds", "0", "digests", "losses")

        with pytest.raises(CorruptBaseline, match=r"seeds\['?0'?\].*losses|seeds.0.digests.losses"):
            parse_baseline(edited(baseline, *path, value=digest), path="toy.json")


class TestSettings:
    def test_differences_name_the_setting_and_both_values(self):
        old = Settings.of(RunSpec(system="toy", steps=10, config={"learning_rate": 0.1, "layers": 2}))
        new = Settings.of(RunSpec(system="toy", config={"learning_rate": 0.2, "layers": 2, "heads": 1}))

        expected = {"steps": (10, None), "config.learning_rate": (0.1, 0.2), "config.heads": (None, 1)}

        assert expected == old.differences(new)

    def test_seed_device_threads_and_plant_are_no_settings(self):
        spec = RunSpec(system="toy", steps=10)

        assert Settings.of(spec) == Settings.of(spec.with_(seed=3, device="cuda", threads=2, plant="m:f", replica=1))

    @pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), ("1", 1)])
    def test_values_of_different_types_differ(self, one, other):
        old, new = (Settings(steps=None, eval_every=None, config={"flag": v}) for v in (one, other))

        assert {"config.flag": (one, other)} == old.differences(new)
