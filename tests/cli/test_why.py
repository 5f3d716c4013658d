"""`rectest why` as it is typed: modes, exit codes, files, and a sentence for every mistake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.findings import write_tape
from rectest.cli import main
from rectest.divergence import investigate
from rectest.divergence.details import read_details
from rectest.divergence.runs import Recorded
from rectest.errors import WatchError


def run(*args: object) -> int:
    """Exit code of the command."""
    with pytest.raises(SystemExit) as leaving:
        main(["why", *map(str, args)])
    return leaving.value.code or 0


@pytest.fixture
def tapes(tmp_path, monkeypatch):
    """Three tapes in the working directory: a and b are equal, c has other negatives."""
    monkeypatch.chdir(tmp_path)
    return [write_tape(tmp_path / f"{name}.tape", negatives=name == "c") for name in "abc"]


class Recorder:
    """Stands for `record_many`; keeps how it was called."""

    def __init__(self, *, equal: bool = False, steps: int = 3, status: int = 0) -> None:
        self.equal, self.steps, self.status = equal, steps, status
        self.command: tuple[str, ...] = ()
        self.settings: dict[str, object] = {}

    def __call__(self, command, *, out: Path, num_runs: int, on_run, **settings):
        self.command, self.settings = tuple(command), {**settings, "num_runs": num_runs, "out": out}
        found = []
        for number in range(1, num_runs + 1):
            held = self.equal or settings.get("pins")
            tape = write_tape(out / f"run{number}.tape", steps=self.steps, negatives=0 if held else number)
            output = out / f"run{number}.txt"
            output.write_text("".join(f"line {k}\n" for k in range(40)))
            found.append(Recorded(tape=tape, output=output, status=self.status, seconds=1.0))
            on_run(number, found[-1])
        return found


@pytest.fixture
def recorder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(**planted: object) -> Recorder:
        made = Recorder(**planted)
        monkeypatch.setattr(investigate, "record_many", made)
        return made

    return make


def test_equal_tapes_are_exit_code_zero(tapes, capsys):
    assert run("a.tape", "b.tape") == 0

    out, err = capsys.readouterr()

    assert out.startswith("IDENTICAL: 2 runs, 3 steps")
    assert err == ""


def test_other_tapes_are_exit_code_one_with_all_files(tapes, capsys):
    assert run("a.tape", "c.tape", "--json", "why.json", "--html", "page/why.html") == 1

    out, _ = capsys.readouterr()
    details = read_details("why.json")

    assert out.splitlines() == list(details.answer)
    assert out.startswith("DIVERGED at step 1, negatives")
    assert "sampler.py:2 in __init__" in out
    assert out.splitlines()[-1] == "details    why.json; page/why.html"
    assert details.command == ()
    assert Path("page/why.html").read_text().startswith("<!DOCTYPE html>")


def test_tapes_that_hold_no_training_are_exit_code_two(tmp_path, capsys):
    paths = [write_tape(tmp_path / f"{name}.tape", steps=0) for name in "ab"]

    assert run(*paths) == 2
    assert capsys.readouterr().out.startswith("COULD NOT TELL: ")


def test_a_command_is_run_and_compared(recorder, capsys):
    made = recorder()

    assert run("--steps", 5, "--sample", 7, "--fast", "--no-modules", "--", "python", "train.py", "--steps", "9") == 1

    out, err = capsys.readouterr()
    config = made.settings["config"]

    assert made.command == ("python", "train.py", "--steps", "9")
    assert (config.stop_after, config.sample, config.watch, config.modules) == (5, 7, False, False)
    assert out.startswith("DIVERGED at step 1")
    assert "not confirmed: --confirm" in out
    assert err.splitlines() == [f"run {number} of 2: 1 s, exit 0, 3 steps" for number in (1, 2)]
    assert not made.settings["out"].exists()


def test_confirmed_is_said_after_reruns(recorder, capsys):
    recorder()

    assert run("--confirm", "--", "python", "train.py") == 1
    assert "confirmed: with it held still both runs are identical to the last bit" in capsys.readouterr().out


def test_identical_runs_are_exit_code_zero(recorder, capsys):
    recorder(equal=True)

    assert run("--runs", 3, "--confirm", "--", "python", "train.py") == 0
    assert capsys.readouterr().out.startswith("IDENTICAL: 3 runs, 3 steps")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_polite_kill_leaves_no_folder(tmp_path, monkeypatch, number):
    made = []

    def killed(command, *, out, **settings):
        made.append(out)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(investigate, "record_many", killed)
    inherited = signal.signal(number, signal.SIG_DFL)  # nohup has what it starts ignore SIGHUP
    try:
        assert run("--", "python", "train.py") == 128 + number
        assert not made[0].exists()
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, inherited)


def test_tapes_are_kept_where_asked_and_how_it_runs_can_be_set(recorder, tmp_path, capsys):
    made = recorder()
    (tmp_path / "project").mkdir()

    assert run("--keep", "kept", "--deadline", 9, "--workdir", "project", "--copy-limit", 0.5, "--", "x") == 1
    assert Path("kept/run1.tape").is_dir()
    assert made.settings["deadline"] == 9
    assert made.settings["workdir"] == Path("project")
    assert made.settings["max_bytes"] == 2**29
    assert made.settings["keep_copies"]
    assert "tapes and outputs in kept" in capsys.readouterr().out


def test_one_run_can_be_recorded(recorder, capsys):
    made = recorder()

    assert run("--record", "new/a.tape", "--in-place", "--", "python", "train.py") == 0
    assert made.settings["num_runs"] == 1
    assert made.settings["in_place"]
    assert capsys.readouterr().out == "tape: new/a.tape\n"
    assert run("--record", "new/b.tape", "--", "python", "train.py") == 0
    assert run("new/a.tape", "new/b.tape") == 0


def test_a_script_that_fails_is_shown_with_its_last_lines(recorder, capsys):
    recorder(status=1, steps=0)

    assert run("--", "python", "train.py") == 2

    out, err = capsys.readouterr()

    assert out == ""
    assert "  line 24\n" not in err
    assert all(f"  line {k}\n" in err for k in range(25, 40))
    assert "rectest: error: the command failed in run 1 (exit 1)" in err
    assert "Traceback" not in err


def test_nothing_recorded_is_told_with_the_output(recorder, monkeypatch, capsys):
    def nothing(*_: object, out: Path, **__: object) -> None:
        (out / "run1.txt").write_text("hello\n")
        msg = "python recorded nothing"
        raise WatchError(msg)

    monkeypatch.setattr(investigate, "record_many", nothing)

    assert run("--", "python", "-I", "train.py") == 2
    assert capsys.readouterr().err == "its output ends with:\n  hello\nrectest: error: python recorded nothing\n"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "nothing to run and nothing to compare"),
        (("--",), "no command after the two dashes"),
        (("a.tape",), "two tapes are compared, got only a.tape"),
        (("a.tape", "b.tape", "./a.tape"), "a.tape is named twice"),
        (("a.tape", "--", "python", "x.py"), "either a command is run or tapes are compared"),
        (("a.tape", "b.tape", "--confirm"), "--confirm runs the command again"),
        (("--record", "d.tape"), "--record needs a command"),
        (("--record", "a.tape", "--", "x"), "a.tape exists already"),
        (("--record", "d.tape", "--confirm", "--", "x"), "leave one of them out"),
        (("python", "train.py"), "stands after two dashes: rectest why -- python train.py"),
        (
            ("python", "train.py", "--epochs", "1"),
            "option: --epochs (Possible options: --steps); a command to run stands after two dashes",
        ),
        (("a.tape", "no.tape"), "no.tape does not exist"),
        (("--runs", "1", "--", "x"), "--runs"),
        (("--steps", "-1", "--", "x"), "--steps"),
        (("--workdir", "no", "--", "x"), "does not exist"),
        (("--html", "a.tape/main.jsonl/p.html", "--", "x"), "is no folder that can be written to"),
    ],
)
def test_a_mistake_is_exit_code_two_with_a_sentence(tapes, capsys, args, says):
    assert run(*args) == 2

    out, err = capsys.readouterr()

    assert out == ""
    assert says in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err


def test_a_damaged_tape_is_named(tapes, capsys):
    (tapes[0] / "main.jsonl").write_text("{\n")

    assert run("a.tape", "b.tape") == 2
    assert "main.jsonl line 1 is damaged" in capsys.readouterr().err


def test_a_program_that_does_not_exist_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert run("--", "no-such-program") == 2
    assert "no-such-program" in capsys.readouterr().err


def test_a_bug_never_looks_like_a_divergence(tapes, monkeypatch, capsys):
    def bug(*_: object, **__: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(investigate, "compare_many", bug)

    assert run("a.tape", "b.tape") == 2
    assert "KeyError: 'bug'" in capsys.readouterr().err


TRAIN = """
import numpy as np, torch
torch.manual_seed(0)
model = torch.nn.Embedding(50, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
rng = np.random.default_rng()
for step in range(12):
    neg = torch.from_numpy(rng.integers(0, 50, 16))
    loss = model(neg).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.slow
def test_a_real_script_from_verdict_to_confirmation(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    command = [sys.executable, "-m", "rectest", "why", "--confirm", "--html", "why.html", "--", sys.executable]
    done = subprocess.run([*command, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert done.stdout.startswith("DIVERGED at step 1")
    assert "train.py:6" in done.stdout
    assert "6   rng = np.random.default_rng()" in done.stdout
    assert "confirmed: with it held still both runs are identical to the last bit" in " ".join(done.stdout.split())
    assert (tmp_path / "why.html").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.py", "why.html"]


@pytest.mark.slow
def test_a_real_script_that_is_seeded_is_identical(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN.replace("default_rng()", "default_rng(0)"))
    command = [sys.executable, "-m", "rectest", "why", "--", sys.executable, "train.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("IDENTICAL: 2 runs, 12 steps")
