"""``rectest audit``: its commands, and ``--explain``."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from rectest.audits.theory import theories
from rectest.cli import main
from rectest.cli.audit import COMMANDS, app


@pytest.fixture
def run(capsys):
    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["audit", *map(str, args)])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


def test_a_known_code_is_explained(run):
    """Claim, reason and what red looks like, wrapped."""
    code, out, _ = run("--explain", "splits/time_order")
    lines = out.splitlines()

    assert code == 0
    assert lines[0] == "splits/time_order"
    assert [name for name in ("claim", "why", "red", "exempt") if f"  {name} " in out] == [
        "claim",
        "why",
        "red",
        "exempt",
    ]
    assert max(map(len, lines)) <= 110


def test_a_code_with_a_measure_is_found_by_its_family(run):
    """``effect/x`` is explained by ``effect``."""
    code, out, _ = run("--explain", "effect/num_draws")

    assert code == 0
    assert out.startswith("effect/num_draws\n  claim")


def test_an_unknown_code_is_one_line_with_the_nearest(run):
    """Exit code 2, nothing on the standard output."""
    code, out, err = run("--explain", "splits/disjont")

    assert (2, "") == (code, out)
    assert "did you mean 'splits/disjoint'?" in err
    assert err.count("\n") == 1


def test_all_codes_are_listed(run):
    """One line for each, with its claim."""
    code, out, _ = run("--explain", "all")

    assert code == 0
    assert list(theories()) == [line.split()[0] for line in out.splitlines()]


def test_every_theory_can_be_printed():
    """None of them is broken."""
    for code in theories():
        assert CliRunner().invoke(app, ["--explain", code]).output.startswith(f"{code}\n  claim ")


def test_every_command_has_help(run):
    """And the group names them all."""
    _, out, _ = run("--help")
    for name in COMMANDS:
        code, text, _ = run(name, "--help")

        assert code == 0
        assert name in out
        assert "--json" in text


def test_wrong_usage_is_exit_code_two(run):
    """No command, no such command, no such option."""
    assert [2, 2, 2] == [run(*args)[0] for args in ([], ["tables"], ["data", "--nope"])]


def test_the_group_imports_nothing_heavy():
    """The help text needs no numerical library."""
    code = "import sys, rectest.cli.audit; sys.exit(any(name in sys.modules for name in ('torch', 'scipy', 'numpy')))"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
