"""``rectest parity`` from the command line: tables, exit codes, one line for mistakes, and two agents of torchrun."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rectest.cli import main
from rectest.parity import judged_case

ROOT = Path(__file__).parents[2]
MINE = """
from fixtures.cases import build, case, loss_raising

def mine():
    return case(build=lambda: build(), name="mine")

def raising():
    return case(loss=loss_raising, name="raising")

settings = {"steps": 3}
"""


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run the command in an empty folder; exit code, what it printed, its errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["parity", *map(str, args)])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


def test_green(run, tmp_path):
    Path("my_cases.py").write_text(MINE)

    code, out, err = run("my_cases:mine", "--ranks", 2, "--steps", 1, "--json", "out/report.json")

    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["mine", "on", "2", "ranks"]
    assert lines[1] == ["check", "verdict", "figure", "limit", "worst"]
    assert ["parity/gradient", "PASS"] in [line[:2] for line in lines]
    assert lines[-1][-2:] == ["all", "green"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["verdict"], report["exit_status"]) == ("PASS", 0)
    assert report["environment"]["device"] == "cpu"
    assert {found["test"] for found in report["results"]} == {"my_cases:mine"}


def test_red_names_the_cause(run):
    code, out, _ = run("fixtures.cases:red", "--ranks", 2, "--json", "report.json")

    assert code == 1
    assert out.count("why: every rank kept the gradient of its own rows: they are never reduced") == 1
    assert out.count("next: ") == 1
    assert json.loads(Path("report.json").read_text())["exit_status"] == 1


def test_a_file(run):
    Path("some.py").write_text(MINE)

    code, out, _ = run("some.py:mine", "--ranks", 2, "--ranks", 2)

    assert code == 0
    assert out.splitlines().count("mine on 2 ranks") == 1


def test_numbers_of_ranks_without_the_option(run, monkeypatch):
    asked = []

    def judged(target, sizes, **how):
        asked.append((target, tuple(sizes), how["changes"]))
        return judged_case(target, (1,), **how)

    monkeypatch.setattr("rectest.parity.judged_case", judged)

    code, _, _ = run("fixtures.cases:small", "--device", "cpu")

    assert code == 0
    assert asked == [("fixtures.cases:small", (1, 2, 4), {"device": "cpu"})]


def test_a_system(run):
    code, out, err = run("fixtures.toy:ToySystem", "--ranks", 2, "--steps", 1)

    assert (code, err) == (0, "")
    assert out.startswith("fixtures.toy:ToySystem on 2 ranks")


@pytest.mark.slow
def test_a_registered_system(run):
    code, out, _ = run("comirec", "--ranks", 2)

    assert code == 0
    assert out.startswith("comirec on 2 ranks")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("absent.module:case", "cannot import 'absent.module'"),
        ("absent.py:case", "no such file"),
        ("fixtures.cases:absent", "fixtures.cases has no 'absent'"),
        ("fixtures.cases:no_case", "fixtures.cases:no_case is a int, a rectest.ParityCase"),
        ("fixtures.cases:of", "fixtures.cases:of needs arguments (number)"),
        ("comirek", "unknown system 'comirek' (did you mean 'comirec'?)"),
    ],
)
def test_a_mistake_is_one_line(run, target, message):
    code, out, err = run(target)

    assert (code, out) == (2, "")
    assert err.startswith("rectest: error: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_rank_that_fails_says_why(run):
    Path("more_cases.py").write_text(MINE)

    code, _, err = run("more_cases:raising", "--ranks", 2)

    assert code == 2
    assert "in loss_raising" in err
    assert err.splitlines()[-1] == "rectest: error: training raising: rank 1 of 2 raised RuntimeError: no rows for me"


def test_gpus_that_are_not_there_are_red(run, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)

    code, out, _ = run("fixtures.cases:small", "--device", "cuda")

    assert code == 1
    assert "NOT MEASURED" in out
    assert "asked for 1 GPU, found 0" in out


def test_as_a_module():
    printed = subprocess.run([sys.executable, "-m", "rectest", "parity", "--help"], capture_output=True, text=True)

    assert printed.returncode == 0
    assert "--ranks" in printed.stdout


def agents(target: str, *options: str) -> list[subprocess.CompletedProcess[str]]:
    """The command under two agents of torchrun on this machine, as on two machines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    started = [
        subprocess.Popen(
            [*command, "--node-rank", str(node), "-m", "rectest", "parity", target, *options],
            env=environ,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in range(2)
    ]
    ended = [(child, *child.communicate(timeout=120)) for child in started]
    return [subprocess.CompletedProcess(child.args, child.returncode, out, err) for child, out, err in ended]


@pytest.mark.slow
def test_two_agents():
    first, second = agents("fixtures.cases:green")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout.startswith("mine on 2 ranks")
    assert "all green" in first.stdout
    assert second.stdout == ""


@pytest.mark.slow
def test_two_agents_see_the_same_red():
    first, second = agents("fixtures.cases:red")

    assert first.returncode == second.returncode != 0
    assert "they are never reduced" in first.stdout
    assert second.stdout == ""


@pytest.mark.slow
def test_two_agents_and_another_number_of_ranks():
    first, second = agents("fixtures.cases:green", "--ranks", "4")

    assert first.returncode == second.returncode != 0
    assert "(4,) ranks were asked for, and torchrun started 2" in first.stderr
