import errno
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from fixtures.baselines import make_baseline, make_whole_baseline
from rectest.baseline.history import continued
from rectest.baseline.store import BaselineStore, StoredName
from rectest.cli import main

TOY = StoredName(env_class="cpu", system="toy")


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
def whole(tmp_path: Path) -> Path:
    """A store of a baseline with twins and a sidecar."""
    store = BaselineStore(tmp_path / "whole")
    baseline, sidecar = make_whole_baseline()
    store.save(baseline, sidecar=sidecar)
    return store.root


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    store = BaselineStore(tmp_path / "candidates")
    store.save(make_baseline(config={"learning_rate": 0.2}, recall=0.19))
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

    def test_how_runs_twins_and_users_scatter(self, run, whole):
        _, out, _ = run("show", "toy", "--baselines", whole)
        rows = {line.split()[0]: line for line in out.splitlines() if line.startswith(("test/", "valid/", "loss/"))}

        assert re.search(r"^feature +mean +run sd +twin sd +phi +caught +declared$", out, re.MULTILINE)
        assert re.search(
            r"^test/recall@10 +0\.2\d* +1\.\d\d % +0\.[01]\d % +\d\.\d+ +\d\.\d % +\d\.\d %$", rows["test/recall@10"]
        )
        assert re.search(r"^loss/late .* - +\d\.\d % +\d\.\d %$", rows["loss/late"])
        assert "declared  false alarms 0.0008 for drops and 0.0002 for rises" in out
        assert "caught with 90 %, in 5 runs" in out.replace("\n", " ")
        assert "twins     none" not in out

    def test_what_is_left_out_is_named_with_the_reason(self, run, stored):
        BaselineStore(stored).save(make_baseline(system="few", recall=0.01))
        _, out, _ = run("show", "few", "--baselines", stored)

        assert "left out  valid/recall@10/early: fewer than 5 expected hits" in out
        assert "twins     none: the gate cannot tell rounding from a change" in out

    def test_the_history_and_its_drift(self, run, stored):
        store = BaselineStore(stored)
        for recall in (0.2, 0.199, 0.198):
            origin = make_baseline().provenance.model_copy(update={"reason": f"to {recall}"})
            new = make_baseline(system="old", recall=recall).model_copy(update={"provenance": origin})
            store.save(new, combine=continued)
        _, out, _ = run("show", "old", "--baselines", stored)

        assert "anchor    2026-08-01T12:00:00Z, commit 0123456789ab: to 0.2\n" in out
        assert "accepted  2026-08-01T12:00:00Z, commit 0123456789ab: to 0.198\n" in out
        assert re.search(r"^test/recall@10 +0\.\d* +-1\.00 % +\d\.\d %$", out, re.MULTILINE)
        assert re.search(r"^loss/late +1\.\d* +\+0\.00 % +-$", out, re.MULTILINE)

    def test_a_bad_sidecar_is_an_error_without_a_traceback(self, run, whole):
        """Control: the same file is shown while its sidecar is good."""
        assert run("show", "toy", "--baselines", whole)[0] == 0

        (bulk,) = (whole / "cpu").glob("*.npz")
        bulk.write_bytes(bulk.read_bytes()[:99])
        code, out, err = run("show", "toy", "--baselines", whole)

        assert (code, out) == (2, "")
        assert f"{bulk.name}: not a readable sidecar" in err
        assert "restore it from version control together with its baseline" in err

    @pytest.mark.parametrize("args", [["show"], ["show", "toy"]])
    def test_a_pipe_gets_plain_text_of_eighty_columns(self, run, stored, args):
        _, out, _ = run(*args, "--baselines", stored)

        assert "\x1b" not in out
        assert max(len(line) for line in out.splitlines()) <= 80
        assert all("valid/recall@10/early" in line for line in out.splitlines() if line.startswith("valid/recall@10/e"))

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


class TestDiff:
    def test_what_would_change(self, run, stored, candidates):
        before = (stored / "cpu" / "toy.json").read_bytes()
        code, out, _ = run("diff", candidates, "--baselines", stored)

        assert code == 0
        assert "-5.0" in out
        assert "setting config.learning_rate: 0.1 -> 0.2" in out
        assert max(len(line) for line in out.splitlines()) <= 80
        assert before == (stored / "cpu" / "toy.json").read_bytes()

    def test_nothing_changes(self, run, stored):
        _, out, _ = run("diff", stored, "--baselines", stored)

        assert out.count("nothing changes") == 2

    def test_drift_is_shown_in_eighty_columns_and_a_refusal_first(self, run, stored, tmp_path):
        """A control beside it: what lost less is not refused."""
        candidates = BaselineStore(tmp_path / "two")
        candidates.save(make_baseline(system="my.train:run", recall=0.199))
        candidates.save(make_baseline(recall=0.15, config={"learning_rate": 0.1}))
        code, out, _ = run("diff", candidates.root, "--baselines", stored)
        good, bad = out.split("\ntoy (cpu)\n")

        assert code == 0
        assert max(len(line) for line in out.splitlines()) <= 80
        assert good.count("valid/recall@10/early") == 1
        assert re.search(r"^test/recall@10 .* -0\.50 % +-?\d\.\d +-0\.50 % +\d\.\d %$", good, re.MULTILINE)
        assert re.search(r"^valid/recall@10/early .* -$", good, re.MULTILINE)
        assert "- drift is from the anchor of 2026-08-01T12:00:00Z (first recording), 1" in good
        assert "refused" not in good
        assert "- refused: toy (cpu): test/recall@10 went from" in bad

    def test_no_candidates(self, run, stored, tmp_path):
        code, _, err = run("diff", tmp_path / "nowhere", "--baselines", stored)

        assert code == 2
        assert "no candidates in" in err


class TestAccept:
    def test_the_table_is_on_stdout_and_the_file_is_written(self, run, stored, candidates):
        code, out, err = run("accept", candidates, "toy", "--reason", "slower schedule", "--baselines", stored)

        assert code == 0
        head = "| baseline | feature | old | new | change | z | drift | cap |"
        assert out.startswith(f"Reason: slower schedule\n\n{head}\n")
        assert "- `toy` (cpu): setting config.learning_rate: 0.1 -> 0.2" in out
        assert "a new anchor" not in out
        assert "1 baseline written to" in err
        assert BaselineStore(stored).load("toy", "cpu").provenance.reason == "slower schedule"

    def test_drift_beyond_the_promise_needs_a_new_anchor(self, run, whole, tmp_path):
        candidates = BaselineStore(tmp_path / "worse")
        baseline, sidecar = make_whole_baseline(recall=0.15)
        candidates.save(baseline, sidecar=sidecar)
        before = (whole / "cpu" / "toy.json").read_bytes()
        asked = ("accept", candidates.root, "--reason", "half the size", "--baselines", whole)
        code, out, err = run(*asked)

        assert (code, out) == (2, "")
        assert "test/recall@10 went from" in err
        assert "--new-anchor --reason" in err
        assert before == (whole / "cpu" / "toy.json").read_bytes()

        code, out, _ = run(*asked, "--new-anchor")

        assert code == 0
        assert "- `toy` (cpu): a new anchor starts, as asked for; drift is from the anchor" in out
        assert len(BaselineStore(whole).read_whole(TOY)[0].history) == 1

    def test_a_zip_of_an_artifact_with_a_folder_around(self, run, whole, tmp_path):
        baseline, sidecar = make_whole_baseline(recall=0.199)
        BaselineStore(tmp_path / "job" / "report" / "candidates").save(baseline, sidecar=sidecar)
        path = shutil.make_archive(str(tmp_path / "artifact"), "zip", tmp_path / "job")
        code, out, _ = run("accept", path, "--reason", "why", "--baselines", whole)

        assert code == 0
        assert "| toy | test/recall@10 | 0." in out
        assert "-0.50 %" in out
        assert [entry.reason for entry in BaselineStore(whole).read(TOY).history] == ["first recording", "why"]

    def test_an_unsafe_zip_is_refused(self, run, whole, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("../cpu/toy.json", b"{}")
        code, _, err = run("accept", tmp_path / "a.zip", "--reason", "why", "--baselines", whole)

        assert code == 2
        assert "leaves the folder it is unpacked to; nothing was unpacked" in err

    def test_a_full_disk_is_one_line(self, run, stored, candidates, monkeypatch):
        before = (stored / "cpu" / "toy.json").read_bytes()

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        code, _, err = run("accept", candidates, "--reason", "why", "--baselines", stored)

        assert code == 2
        assert re.fullmatch(
            r"rectest: error: .*toy\.json cannot be written \(No space left .*\); what was stored .*\n", err
        )
        assert before == (stored / "cpu" / "toy.json").read_bytes()

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
