"""``rectest train`` from the command line to the files it leaves, trained in this process instead of in a child."""

from __future__ import annotations

from pathlib import Path

import pytest

from rectest.cli import main
from rectest.errors import ChildFailed
from rectest.record import RunRecord, RunSpec
from rectest.training.checkpoint import load_checkpoint
from rectest.training.launch import Launch
from rectest.training.program import run_spec

TOY = ("fixtures.toy:ToySystem", "--steps", "4", "--set", "eval_every=2")
MINE = """
from rectest.errors import TrainingError

def train(run):
    for _ in range(run.spec.steps or 2):
        run.step(loss=float(run.config.get("loss", 1.0)))
    run.metrics("test", {"recall@10": 0.25})
"""


@pytest.fixture
def launched(monkeypatch) -> list[tuple[RunSpec, Launch]]:
    """What would have been started in children; trained in this process."""
    asked: list[tuple[RunSpec, Launch]] = []

    def launch(spec: RunSpec, *, how: Launch) -> RunRecord:
        asked.append((spec, how))
        return run_spec(spec, checkpoint_dir=how.checkpoint_dir)

    monkeypatch.setattr("rectest.training.launch.launch", launch)
    return asked


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["train", *map(str, args)])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


class TestSystem:
    def test_metrics_stand_beside_their_floors(self, run, launched):
        code, out, err = run(*TOY, "--seed", "3")

        assert (code, err) == (0, "")
        assert launched[0][0] == RunSpec(
            system="fixtures.toy:ToySystem", seed=3, steps=4, config={"eval_every": 2}, world=""
        )
        lines = [line.split() for line in out.splitlines()]
        (header,) = [line for line in lines if line[:1] == ["metric"]]
        (recall,) = [line for line in lines if line[:1] == ["test/recall@10"]]
        assert header == ["metric", "value", "chance", "popularity", "optimum"]
        assert len(recall) == 5
        assert float(recall[2]) < float(recall[3]) < float(recall[4])
        assert max(map(len, out.splitlines())) <= 80

    def test_the_record_is_kept(self, run, launched, tmp_path):
        _, out, _ = run(*TOY, "--out", "kept/run.safetensors")
        record = RunRecord.load(tmp_path / "kept" / "run.safetensors")

        assert "record kept/run.safetensors (" in out
        assert record.spec == launched[0][0]
        assert record["eval/steps"].tolist() == [2, 4]

    def test_the_best_checkpoint_is_kept(self, run, launched, tmp_path):
        _, out, _ = run("comirec", *TOY[1:], "--world", "tiny", "--set", "batch_size=16", "--checkpoints", "best")
        kept = load_checkpoint(tmp_path / "best" / "best.pt")

        assert f"checkpoint best/best.pt, step {kept.step}" in out
        assert (kept.settings["batch_size"], kept.settings["eval_every"]) == (16, 2)


class TestFunction:
    def test_in_a_file_beside_the_caller(self, run, launched, tmp_path):
        Path("mine.py").write_text(MINE)
        code, out, _ = run("mine.py:train", "--set", "loss=0.5", "--deadline", "60")
        spec, how = launched[0]

        assert code == 0
        assert spec.system == f"{tmp_path.resolve()}/mine.py:train"
        assert how.deadline == 60
        assert str(tmp_path.resolve()) in how.sys_path
        assert ["test/recall@10", "0.2500"] in [line.split() for line in out.splitlines()]

    def test_an_old_checkpoint_is_not_taken_for_its_own(self, run, launched, tmp_path):
        Path("mine.py").write_text(MINE)
        (tmp_path / "best").mkdir()
        (tmp_path / "best" / "best.pt").write_bytes(b"old")
        _, out, _ = run("mine.py:train", "--checkpoints", "best")

        assert "no checkpoint: a training function keeps its own" in out


class TestMistakes:
    @pytest.mark.parametrize(
        ("args", "problem"),
        [
            (["comirek"], "unknown system 'comirek' (did you mean 'comirec'?)"),
            (["missing.py:train"], "no such file: "),
            (["fixtures.toy:nothing"], "has no 'nothing'"),
            ([*TOY, "--world", "tinny"], "unknown world 'tinny' (did you mean 'tiny'?)"),
            (
                [*TOY, "--set", "embeding_size=3"],
                "'embeding_size' does not exist, did you mean 'embedding_size'?",
            ),
            ([*TOY, "--set", "embedding_size=big"], "setting 'embedding_size' needs int, got 'big'"),
            ([*TOY, "--set", "steps=9"], "setting 'steps' is given twice"),
            ([*TOY, "--set", "eval_every=3"], "setting 'eval_every' is given twice"),
            ([*TOY, "--set", "eval_every"], "a setting is given as key=value, got 'eval_every'"),
            ([*TOY, "--set", "learning_rate=NaN"], "config must hold plain JSON values"),
            ([*TOY, "--device", "tpu"], "device must be cpu, cuda or cuda:N, got 'tpu'"),
            ([*TOY, "--deadline", "0"], "the deadline must be positive seconds, got 0.0"),
        ],
    )
    def test_one_line_and_exit_code_two(self, run, launched, args, problem):
        code, out, err = run(*args)

        assert (code, out) == (2, "")
        assert err.startswith("rectest: error: ")
        assert problem in err
        assert err.count("\n") == 1

    @pytest.mark.parametrize(
        ("args", "option"),
        [
            ([*TOY, "--steps", "0"], "--steps"),
            ([*TOY, "--seed", "-1"], "--seed"),
            ([*TOY, "--out", "."], "--out"),
            ([*TOY, "--checkpoints", "a_file"], "--checkpoints"),
            ([], "Missing argument"),
        ],
    )
    def test_wrong_usage_trains_nothing(self, run, launched, args, option):
        Path("a_file").write_text("")
        code, out, err = run(*args)

        assert (code, out, launched) == (2, "", [])
        assert option in err
        assert "Traceback" not in err

    def test_what_a_failed_child_said_is_shown(self, run, monkeypatch):
        def launch(spec: RunSpec, *, how: Launch) -> RunRecord:
            raise ChildFailed(spec.describe(), reason="raised", detail="raised KeyError: 17", log="  mine.py, line 3\n")

        monkeypatch.setattr("rectest.training.launch.launch", launch)
        code, _, err = run("mine.py:train")

        assert code == 2
        assert err.startswith("  mine.py, line 3\nrectest: error: training ")
        assert err.endswith("raised KeyError: 17\n")
