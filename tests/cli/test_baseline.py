from pathlib import Path

import pytest

from fixtures.baselines import make_baseline
from rectest.baseline.store import BaselineStore
from rectest.cli import main


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    store = BaselineStore(tmp_path / "baselines")
    store.save(make_baseline(config={"learning_rate": 0.1}))
    store.save(make_baseline(system="my.train:run"))
    return store.root


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    store = BaselineStore(tmp_path / "candidates")
    store.save(make_baseline(config={"learning_rate": 0.2}, recall=0.18))
    return store.root


@pytest.fixture
def run(capsys):
    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["baseline", *map(str, args)])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


class TestShow:
    def test_all_in_short(self, run, stored):
        code, out, _ = run("show", "--baselines", stored)

        assert code == 0
        assert "toy" in out
        assert "my.train:run" in out
        assert "first recording" in out

    def test_one_in_full(self, run, stored):
        code, out, _ = run("show", "toy", "--baselines", stored)

        assert code == 0
        assert "learning_rate=0.1" in out
        assert "test/recall@10" in out
        assert "2026-08-01T12:00:00Z, commit 0123456789ab" in out
        assert "seeds 0, 1, 2, 3, 4: cpu (vendor-6-85" in out.replace("\n", " ").replace("  ", " ")

    @pytest.mark.parametrize("args", [["show"], ["show", "toy"]])
    def test_a_pipe_gets_plain_text_of_eighty_columns(self, run, stored, args):
        _, out, _ = run(*args, "--baselines", stored)

        assert "\x1b" not in out
        assert max(len(line) for line in out.splitlines()) <= 80

    def test_no_color_is_honoured_in_a_terminal(self, run, stored, monkeypatch):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
        _, out, _ = run("show", "toy", "--baselines", stored)

        assert "\x1b[3" not in out

    def test_text_in_a_file_is_never_markup(self, run, stored):
        origin = make_baseline().provenance.model_copy(update={"reason": "[red]why[/red] :bug:"})
        BaselineStore(stored).save(make_baseline(system="odd").model_copy(update={"provenance": origin}))

        assert "[red]why[/red] :bug:" in run("show", "odd", "--baselines", stored)[1]

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["show", "--env", "cuda-sm90"], "no baselines in"),
            (["show", "tyo"], "unknown baseline 'tyo' (did you mean 'toy'?)"),
        ],
    )
    def test_nothing_to_show_is_an_error(self, run, stored, args, message):
        code, out, err = run(*args, "--baselines", stored)

        assert (code, out) == (2, "")
        assert err.startswith("rectest: error: ")
        assert message in err

    def test_a_corrupt_file_is_named_without_a_traceback(self, run, stored):
        (stored / "cpu" / "toy.json").write_text('{"schema": 1, "system"')
        code, _, err = run("show", "--baselines", stored)

        assert code == 2
        assert "toy.json: not valid JSON in line 1" in err
        assert "Traceback" not in err


class TestPlan:
    def test_seeds_for_a_wanted_drop(self, run, stored):
        code, out, _ = run("plan", "toy", "--drop", "8", "--baselines", stored)

        assert code == 0
        assert "caught with 16 seeds" in out
        assert "seeds for 8 %" in out
        assert any(line.startswith("test/recall@10") and line.split()[-1].isdigit() for line in out.splitlines())

    @pytest.mark.parametrize(
        ("args", "problem"),
        [(("toy", "--drop", "0"), "between 0 and 100 %"), (("tay", "--drop", "5"), "unknown baseline 'tay'")],
    )
    def test_mistakes_are_one_line(self, run, stored, args, problem):
        code, _, err = run("plan", *args, "--baselines", stored)

        assert code == 2
        assert problem in err


class TestDiff:
    def test_what_would_change(self, run, stored, candidates):
        before = (stored / "cpu" / "toy.json").read_bytes()
        code, out, _ = run("diff", candidates, "--baselines", stored)

        assert code == 0
        assert "-10.0" in out
        assert "setting config.learning_rate: 0.1 -> 0.2" in out
        assert max(len(line) for line in out.splitlines()) <= 80
        assert before == (stored / "cpu" / "toy.json").read_bytes()

    def test_nothing_changes(self, run, stored):
        _, out, _ = run("diff", stored, "--baselines", stored)

        assert out.count("nothing changes") == 2

    def test_no_candidates(self, run, stored, tmp_path):
        code, _, err = run("diff", tmp_path / "nowhere", "--baselines", stored)

        assert code == 2
        assert "no candidates in" in err


class TestAccept:
    def test_the_table_is_on_stdout_and_the_file_is_written(self, run, stored, candidates):
        code, out, err = run("accept", candidates, "toy", "--reason", "slower schedule", "--baselines", stored)

        assert code == 0
        assert out.startswith("Reason: slower schedule\n\n| baseline | feature | old | new | change | z |\n")
        assert "1 baseline written to" in err
        assert BaselineStore(stored).load("toy", "cpu").provenance.reason == "slower schedule"

    def test_a_reason_is_required(self, run, stored, candidates):
        code, _, err = run("accept", candidates, "--baselines", stored)

        assert code == 2
        assert "--reason" in err

    @pytest.mark.parametrize("args", [["toy", "--reason", " "], ["tyo", "--reason", "why"]])
    def test_refused_without_writing(self, run, stored, candidates, args):
        before = (stored / "cpu" / "toy.json").read_bytes()
        code, out, err = run("accept", candidates, *args, "--baselines", stored)

        assert (code, out) == (2, "")
        assert err.startswith("rectest: error: ")
        assert before == (stored / "cpu" / "toy.json").read_bytes()
