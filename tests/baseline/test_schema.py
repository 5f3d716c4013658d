import json

import pytest

from fixtures.baselines import make_whole_baseline
from rectest.baseline.schema import Baseline, Settings
from rectest.baseline.text import parse_baseline, render_baseline
from rectest.errors import CorruptBaseline
from rectest.record import RunSpec


@pytest.fixture(scope="module")
def whole() -> Baseline:
    """A baseline that has everything a baseline can have, but for the reference of its sidecar."""
    return make_whole_baseline()[0]


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


class TestModel:
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
            (("ensemble", "seeds"), [0, 1, 2, 3], r"\$.ensemble.seeds: .*at least 5"),
            (("ensemble", "fingerprint"), "0" * 16, "no entry for the fingerprint of the ensemble"),
            (("ensemble", "twins", "loss/late"), [1.0] * 15, "twin feature 'loss/late' has 15 values for 16 seeds"),
            (("ensemble", "twins", "loss/late", 2), -1.0, r"twins\['loss/late'\]\[2\]: .*greater than 0"),
            (("ensemble", "user_variance", "test/recall@10"), 0.0, r"user_variance.*greater than 0"),
            (("ensemble", "left_out", "valid/mrr/mid"), " ", r"left_out"),
            (("streams", "x"), {"batches": None, "negatives": None}, r"\$.streams"),
            (("streams", "0", "batches"), "sha256:00", r"streams"),
            (("sidecar",), {"file": "../toy.0123456789ab.npz", "digest": f"blake3:{'0' * 32}"}, r"\$.sidecar.file"),
            (("sidecar",), {"file": "toy.0123456789ab.npz", "digest": f"blake3:{'0' * 32}"}, "not named after its dig"),
            (("declared", "max_runs"), 1, r"\$.declared.max_runs"),
            (("declared", "mdd", "loss/late"), 0.0, r"\$.declared.mdd"),
            (("history", 0, "means", "loss/late"), 0, r"history\[0\].means"),
            (("history", 0, "mdd", "loss/late"), -0.1, r"history\[0\].mdd"),
            (("history", 0, "reason"), "", r"history\[0\].reason"),
            (("env_class",), "cuda-sm90", "environment class 'cpu' in a file of 'cuda-sm90'"),
            (("provenance", "reason"), "  ", r"\$.provenance.reason"),
        ],
    )
    def test_wrong_values_are_named_by_their_json_path(self, whole, path, value, problem):
        with pytest.raises(CorruptBaseline, match=problem):
            parse_baseline(edited(whole, *path, value=value), path="toy.json")

    def test_twins_are_of_all_features_or_of_none(self, whole):
        with pytest.raises(CorruptBaseline, match=r"features and twins differ in \['loss/mid'\]"):
            parse_baseline(edited(whole, "ensemble", "twins", "loss/mid", drop=True), path="toy.json")

    @pytest.mark.parametrize("key", ["exact", "ensemble", "provenance", "world", "world_digest", "spec"])
    def test_a_missing_key_is_named(self, whole, key):
        with pytest.raises(CorruptBaseline, match=rf"\$.{key}: Field required"):
            parse_baseline(edited(whole, key, drop=True), path="toy.json")

    @pytest.mark.parametrize("key", ["streams", "sidecar", "declared", "history"])
    def test_what_older_files_had_not_may_be_missing(self, whole, key):
        parse_baseline(edited(whole, key, drop=True), path="toy.json")

    def test_an_environment_edited_by_hand_no_longer_has_its_fingerprint(self, whole):
        fingerprint = whole.ensemble.fingerprint

        with pytest.raises(CorruptBaseline, match="its environment has the fingerprint"):
            parse_baseline(edited(whole, "exact", fingerprint, "environment", "threads", value=2), path="toy.json")

    def test_an_environment_of_another_version_is_refused(self, whole):
        path = ("exact", whole.ensemble.fingerprint, "environment")

        with pytest.raises(CorruptBaseline, match="an environment that this version does not understand"):
            parse_baseline(edited(whole, *path, "weather", value="fine"), path="toy.json")

    @pytest.mark.parametrize("digest", ["sha256:00", "blake3:xyz", 5])
    def test_a_digest_has_one_form(self, whole, digest):
        path = ("exact", whole.ensemble.fingerprint, "seeds", "0", "digests", "losses")

        with pytest.raises(CorruptBaseline, match=r"seeds\['?0'?\].*losses|seeds.0.digests.losses"):
            parse_baseline(edited(whole, *path, value=digest), path="toy.json")


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
