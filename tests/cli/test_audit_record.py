"""``rectest audit record``: a saved run judged, alone and beside another one."""

from __future__ import annotations

import json

import pytest

from fixtures.records import edit_array
from fixtures.whole_records import watched_record
from rectest.cli import main


@pytest.fixture
def run(capsys):
    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["audit", "record", *map(str, args)])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


def test_a_healthy_record_is_green(run, tmp_path):
    """What does not apply to it is a note."""
    code, out, err = run(watched_record().save(tmp_path / "run.npz"))

    assert (0, "") == (code, err)
    assert "0 found" in out
    assert "  note         purity was not asked" in out


def test_a_spoiled_record_is_red(run, tmp_path):
    """With the checks of the gate, in JSON."""
    spoiled = edit_array(watched_record(), "metric/test/hit@10", lambda values: values + 1)

    code, out, _ = run(spoiled.save(tmp_path / "run.npz"), "--json")
    results = json.loads(out)[0]["results"]

    assert code == 1
    assert {"ranges/metric", "coherence/recomputed"} <= {one["check"] for one in results if one["severity"] == "error"}


def test_a_second_run_is_compared(run, tmp_path):
    """Equal bits are one more property in order."""
    first, second = (watched_record(replica=number).save(tmp_path / f"{number}.npz") for number in (0, 1))

    code, out, _ = run(first, "--against", second, "--verbose")

    assert code == 0
    assert "reproducible [toy]" in out


def test_a_damaged_record_is_one_line(run, tmp_path):
    """Cut, empty, absent, a folder; as the second record, too."""
    good = watched_record().save(tmp_path / "run.npz")
    cut = tmp_path / "cut.npz"
    cut.write_bytes(good.read_bytes()[:3000])
    empty = tmp_path / "empty.npz"
    empty.write_bytes(b"")
    for args in ([cut], [empty], [tmp_path / "none.npz"], [tmp_path], [good, "--against", cut]):
        code, out, err = run(*args)

        assert (2, "") == (code, out)
        assert err.startswith("rectest: error: ")
        assert err.count("\n") == 1
