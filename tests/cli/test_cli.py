import subprocess
import sys

import pytest

import rectest.cli
from rectest.cli import GROUPS, build_app, main
from rectest.errors import RectestError


def run(*args: str) -> int:
    """Exit code of the command."""
    with pytest.raises(SystemExit) as leaving:
        main(args)
    return leaving.value.code or 0


@pytest.mark.parametrize("error", [RectestError("the sky fell"), ValueError("the sky fell")])
def test_expected_errors_are_one_line_and_exit_code_two(monkeypatch, capsys, error):
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(rectest.cli, "build_app", lambda: fail)

    assert run("anything") == 2
    assert capsys.readouterr() == ("", "rectest: error: the sky fell\n")


def test_an_unexpected_error_keeps_its_traceback(monkeypatch):
    def fail(**_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(rectest.cli, "build_app", lambda: fail)

    with pytest.raises(KeyError):
        main(["anything"])


def test_wrong_usage_is_exit_code_two_on_stderr(capsys):
    assert run("baseline", "no-such-command") == 2

    out, err = capsys.readouterr()

    assert out == ""
    assert "no-such-command" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_has_help(group, capsys):
    assert run(group, "--help") == 0
    assert f"Usage: rectest {group}" in capsys.readouterr().out


def test_the_frame_lists_its_groups(capsys):
    assert run("--help") == 0

    out = capsys.readouterr().out

    assert all(group in out for group in GROUPS)


def test_version(capsys, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda _: "1.2.3")

    assert run("version") == 0
    assert capsys.readouterr().out == "rectest 1.2.3\n"


def test_importing_the_command_or_building_its_help_imports_nothing_heavy():
    code = (
        "import sys, rectest.cli; assert 'typer' not in sys.modules; rectest.cli.build_app();"
        "heavy = {'torch', 'numpy', 'scipy', 'pydantic', 'pytest'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_application_can_be_built_twice():
    assert build_app() is not build_app()
