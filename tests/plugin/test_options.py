"""The plugin's options as the rest of it sees them: defaults, the ini setting, and what paths are relative to."""

from __future__ import annotations

from pathlib import Path

import pytest

from rectest.plugin.options import MARKERS, Options


@pytest.fixture
def options(pytester, monkeypatch):
    """Options of a run with these arguments, called in `cwd` below the folder of its ini file."""

    def configure(*args: str, ini: str = "[pytest]\n", cwd: str = ".") -> Options:
        (pytester.path / "pytest.ini").write_text(ini)
        folder = pytester.path / cwd
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        return Options.of(pytester.parseconfigure(*args))

    return configure


def test_defaults(options, pytester):
    obtained = options()

    assert obtained == Options(
        update=None,
        baselines=pytester.path / "baselines",
        candidates=None,
        world="",
        device="cpu",
        deadline=600.0,
        processes=2,
        seeds=16,
        gate_seeds=5,
        reason="",
        json_path=None,
        html_path=None,
        markdown_path=None,
        allow_dirty=False,
        new_anchor=False,
        nightly=False,
        allow_no_gpu=False,
        require=(),
        why=True,
    )


def test_every_option_arrives(options, pytester, monkeypatch):
    for name in ("CI", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    values = ("--rectest-world=tiny", "--rectest-device=cuda:1", "--rectest-deadline=1.5", "--rectest-reason=a b")
    numbers = ("--rectest-processes=3", "--rectest-seeds=9", "--rectest-gate-seeds=4", "--rectest-allow-no-gpu")
    paths = ("--rectest-candidates=c", "--rectest-json=out/r.json", "--rectest-html=r.html", "--rectest-markdown=r.md")
    switches = ("--rectest-allow-dirty", "--rectest-new-anchor", "--rectest-nightly", "--rectest-no-why")
    required = "--rectest-require=benchmark, benchmark"
    obtained = options(*values, *numbers, "--rectest-update", *paths, *switches, required)

    assert obtained == Options(
        update="failed",
        baselines=pytester.path / "baselines",
        candidates=pytester.path / "c",
        world="tiny",
        device="cuda:1",
        deadline=1.5,
        processes=3,
        seeds=9,
        gate_seeds=4,
        reason="a b",
        json_path=pytester.path / "out" / "r.json",
        html_path=pytester.path / "r.html",
        markdown_path=pytester.path / "r.md",
        allow_dirty=True,
        new_anchor=True,
        nightly=True,
        allow_no_gpu=True,
        require=("benchmark",),
        why=False,
    )


@pytest.mark.parametrize(("folder", "expected"), [("stored", "stored"), ("", "baselines"), ("a/b", "a/b")])
def test_the_ini_setting_is_relative_to_the_root(options, pytester, folder, expected):
    obtained = options(ini=f"[pytest]\nrectest_baseline_dir = {folder}\n", cwd="sub")

    assert pytester.path / expected == obtained.baselines


def test_the_command_line_wins_over_the_ini_setting(options, pytester):
    ini = "[pytest]\nrectest_baseline_dir = stored\n"

    assert options("--rectest-baselines=mine", ini=ini).baselines == pytester.path / "mine"


@pytest.mark.parametrize(
    ("option", "attribute"),
    [("--rectest-baselines", "baselines"), ("--rectest-candidates", "candidates"), ("--rectest-json", "json_path")],
)
@pytest.mark.parametrize(("given", "expected"), [("x", "sub/x"), ("../x", "sub/../x"), ("/x", "/x")])
def test_command_line_paths_are_relative_to_where_pytest_was_called(
    options, pytester, option, attribute, given, expected
):
    obtained = options(f"{option}={given}", cwd="sub")

    assert Path(pytester.path, expected) == getattr(obtained, attribute)


def test_markers_explain_themselves(pytester):
    config = pytester.parseconfigure()

    assert set(MARKERS) <= set(config.getini("markers"))
    assert all(": " in line for line in MARKERS)


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e999"])
def test_deadlines_are_finite_and_positive(pytester, seconds):
    result = pytester.runpytest_inprocess(f"--rectest-deadline={seconds}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*must be positive, got {seconds}*"])


@pytest.mark.parametrize("device", ["cuda:", "cuda:-1", "cuda:a", "gpu", "CPU", "cpu:x"])
def test_odd_devices(pytester, device):
    result = pytester.runpytest_inprocess(f"--rectest-device={device}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*must be cpu, cuda or cuda:N, got '{device}'*"])
