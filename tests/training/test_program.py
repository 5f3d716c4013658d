"""From a spec to a record: systems, users' functions, settings, planted faults, and every way to get it wrong."""

from __future__ import annotations

import sys

import pytest
import torch

from fixtures.toy import ToySystem
from rectest.errors import ConfigError, RectestError, TrainingError, UnknownNameError
from rectest.record import RunSpec
from rectest.training.program import run_spec

TOY = RunSpec(system="fixtures.toy:ToySystem", steps=5, eval_every=5)
PLAIN = RunSpec(system="fixtures.toy:plain_training", steps=4)


def half_learning_rate(system):
    """A planted fault for the tests."""
    system.config = type(system.config)(**{**system.settings(), "learning_rate": system.config.learning_rate / 2})
    return system


def not_a_system(system):
    """A planter that forgets to return."""


def test_a_system_trains():
    record = run_spec(TOY)

    assert record["eval/steps"].tolist() == [5]
    assert record.facts["settings"]["steps"] == 5
    assert record.facts["world"] == "tiny"
    assert record.facts["globals_changed"] == {}


def test_a_function_trains_and_is_reproducible():
    record = run_spec(PLAIN)

    assert record["loss/total"].shape == (4,)
    assert record.facts["gate"]["metrics"] == ["recall@10"]
    assert record.digest("tape/") == run_spec(PLAIN).digest("tape/")
    assert record.digest("tape/") != run_spec(PLAIN.with_(seed=1)).digest("tape/")


def test_a_function_in_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def train(run):\n    run.metrics('test', {'hit@5': 0.25})\n")

    assert run_spec(RunSpec(system=f"{path}:train")).final("test/hit@5") == 0.25


def test_a_planted_fault_changes_training():
    clean, faulty = run_spec(TOY), run_spec(TOY.with_(plant=f"{__name__}:half_learning_rate"))

    assert clean.digest("tape/init", "tape/batch") == faulty.digest("tape/init", "tape/batch")
    assert clean.digest("tape/parameters") != faulty.digest("tape/parameters")


@pytest.fixture(autouse=True)
def importable():
    """Let `__name__:half_learning_rate` be found although pytest imports by path."""
    sys.modules[__name__] = sys.modules.get(__name__) or sys.modules["tests.training.test_program"]


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"system": "comirce"}, UnknownNameError, r"unknown system 'comirce' \(did you mean 'comirec'\?\)"),
        ({"system": "no.such.module:x"}, RectestError, "cannot import 'no.such.module'"),
        ({"system": "fixtures.toy:nothing"}, RectestError, "has no 'nothing'"),
        ({"system": "missing.py:train"}, RectestError, "no such file: missing.py"),
        ({"system": "fixtures.toy:__doc__"}, RectestError, "a subclass of rectest.System or a function"),
        ({"world": "tinny"}, UnknownNameError, r"unknown world 'tinny' \(did you mean 'tiny'\?\)"),
        ({"config": {"embeding_size": 3}}, ConfigError, "does not exist, did you mean 'embedding_size'"),
        ({"config": {"embedding_size": "big"}}, ConfigError, "needs int, got 'big'"),
        ({"config": {"embedding_size": True}}, ConfigError, "needs int, got True"),
        ({"config": {"learning_rate": -1}}, ConfigError, "must be positive, got -1"),
        ({"config": {"steps": 3}}, ConfigError, "is given twice"),
        ({"plant": "no.such:fault"}, RectestError, "cannot plant"),
        ({"plant": "fixtures.toy:nothing"}, RectestError, "cannot plant"),
        ({"plant": f"{__name__}:not_a_system"}, RectestError, "a System was needed"),
    ],
)
def test_mistakes_are_named(changes, error, problem):
    with pytest.raises(error, match=problem):
        run_spec(TOY.with_(**changes))


def test_settings_accept_lists_and_nulls():
    system = ToySystem.from_settings({"widths": [3, 4], "flavour": None, "learning_rate": 1})

    assert system.config.widths == (3, 4)
    assert system.settings()["flavour"] is None


def test_faults_need_a_system():
    with pytest.raises(TrainingError, match="faults can be planted in subclasses"):
        run_spec(PLAIN.with_(plant=f"{__name__}:half_learning_rate"))


def test_an_empty_run_is_refused():
    with pytest.raises(TrainingError, match="recorded no step and no metric"):
        run_spec(RunSpec(system="fixtures.toy:forgets"))


def test_global_state_left_by_an_import_is_reported(tmp_path):
    path = tmp_path / "noisy.py"
    path.write_text(
        "import torch\ntorch.autograd.set_detect_anomaly(True)\n"
        "def train(run):\n    run.metrics('test', {'hit@5': 0.25})\n"
    )
    try:
        record = run_spec(RunSpec(system=f"{path}:train"))
    finally:
        torch.autograd.set_detect_anomaly(False)

    assert record.facts["globals_changed"] == {"anomaly_detection": "True"}


def test_tensorboard_is_written_when_asked_for(tmp_path, monkeypatch):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("RECTEST_TENSORBOARD", str(tmp_path))

    record = run_spec(TOY)
    (folder,) = tmp_path.iterdir()
    found = events.EventAccumulator(str(folder)).Reload()

    assert [e.value for e in found.Scalars("counter/first_weight")] == pytest.approx(
        record["counter/first_weight"].tolist()
    )
    assert [e.step for e in found.Scalars("valid/recall@10")] == [5]


IGNORES = "def train(run):\n    run.metrics('test', {'hit@5': 0.25})\n"
LOADS = (
    "def train(run):\n    world = run.load_world('tiny')\n    rate = run.config.get('rate', 1.0)\n"
    "    run.metrics('test', {'hit@5': 0.2 * rate + world.num_items / 1e6})\n"
)


def test_a_world_or_setting_that_a_function_ignores_is_refused(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(IGNORES)
    spec = RunSpec(system=f"{path}:train")

    with pytest.raises(TrainingError, match=r"world 'tiny' and never loaded it; call run.load_world"):
        run_spec(spec.with_(world="tiny"))
    with pytest.raises(ConfigError, match="setting 'rate' was given and never read"):
        run_spec(spec.with_(config={"rate": 2}))


def test_a_function_may_load_the_world_that_was_asked_for(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(LOADS)
    spec = RunSpec(system=f"{path}:train")

    default, other = run_spec(spec), run_spec(spec.with_(world="tiny-cold", config={"rate": 2}))

    assert default.facts["world"] == "tiny"
    assert other.facts["world"] == "tiny-cold"
    assert default.facts["inputs"]["world"] != other.facts["inputs"]["world"]
