"""Command-line options, ini settings and markers. Standard library and pytest only: this is always loaded."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Options", "add_options", "register_markers"]

MARKERS = (
    "gate: part of the merge gate: systems trained under fixed seeds and judged against stored baselines",
    "gpu(count=1): needs that many CUDA devices; a run of only such tests without a GPU does not exit 0",
    "slow: takes long; run it before a release",
)
REQUIRABLE = ("benchmark", "gpu")
UPDATE_MODES = ("new", "failed", "all")
_LOOKS = range(2, 6)
_FEWEST_SEEDS = 5
"""`baseline.schema.MIN_SEEDS`, which costs an import of pydantic; a test holds them equal."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The plugin's settings of this run, parsed and checked."""

    update: str | None
    baselines: Path
    candidates: Path | None
    world: str
    device: str
    deadline: float
    processes: int
    seeds: int
    """Seeds of a recorded ensemble."""

    gate_seeds: int
    """Seeds trained to judge a system."""

    reason: str
    json_path: Path | None
    html_path: Path | None
    markdown_path: Path | None
    allow_dirty: bool
    """Whether a baseline may be recorded from a working tree with uncommitted changes."""

    new_anchor: bool
    """Whether drift is measured from the recordings of this run on."""

    nightly: bool
    """Whether the gate trains fresh seeds, at a tenth of the false-alarm rate."""

    allow_no_gpu: bool
    require: tuple[str, ...]
    """Kinds of tests, of `REQUIRABLE`, each of which must have been measured for the run to be green."""

    why: bool
    """Whether two runs that part are trained once more, watched, so that the line is named."""

    @classmethod
    def of(cls, config: pytest.Config) -> Options:
        """Read them from a configured pytest.

        Paths on the command line are relative to the folder that pytest was called in, the ini's to its root.
        """
        given = config.getoption
        stored = config.rootpath / (config.getini("rectest_baseline_dir") or "baselines")
        return cls(
            update=given("rectest_update"),
            baselines=_given_path(config, "rectest_baselines") or stored,
            candidates=_given_path(config, "rectest_candidates"),
            world=given("rectest_world"),
            device=given("rectest_device"),
            deadline=given("rectest_deadline"),
            processes=given("rectest_processes"),
            seeds=given("rectest_seeds"),
            gate_seeds=given("rectest_gate_seeds"),
            reason=given("rectest_reason"),
            json_path=_given_path(config, "rectest_json"),
            html_path=_given_path(config, "rectest_html"),
            markdown_path=_given_path(config, "rectest_markdown"),
            allow_dirty=given("rectest_allow_dirty"),
            new_anchor=given("rectest_new_anchor"),
            nightly=given("rectest_nightly"),
            allow_no_gpu=given("rectest_allow_no_gpu"),
            require=given("rectest_require"),
            why=not given("rectest_no_why"),
        )


def add_options(parser: pytest.Parser) -> None:
    """Declare every option under one group; a bad value dies when options are parsed."""
    group = parser.getgroup("rectest", "training regression tests for recommenders")
    add = group.addoption
    add(
        "--rectest-update",
        dest="rectest_update",
        nargs="?",
        const="failed",
        choices=UPDATE_MODES,
        help="write baselines: those that are missing (new), that are red (failed, the default) or all; not in CI",
    )
    add("--rectest-reason", dest="rectest_reason", default="", metavar="TEXT", help="why baselines are updated")
    add("--rectest-baselines", dest="rectest_baselines", metavar="DIR", help="folder of the stored baselines")
    add(
        "--rectest-candidates",
        dest="rectest_candidates",
        metavar="DIR",
        help="write a complete candidate baseline there for each system that is red or has none (works in CI)",
    )
    add(
        "--rectest-world",
        dest="rectest_world",
        default="",
        metavar="NAME",
        help="train systems on this world instead of their default one, e.g. ml-100k",
    )
    add(
        "--rectest-device",
        dest="rectest_device",
        default="cpu",
        type=_device,
        metavar="DEVICE",
        help="device of the training children (cpu, cuda, cuda:N); default cpu",
    )
    add(
        "--rectest-deadline",
        dest="rectest_deadline",
        type=_positive_float,
        default=600.0,
        metavar="SECONDS",
        help="seconds one training child may take before it is killed (default 600)",
    )
    add(
        "--rectest-processes",
        dest="rectest_processes",
        type=_positive_int,
        default=2,
        metavar="N",
        help="training children at a time, without xdist (default 2)",
    )
    add(
        "--rectest-seeds",
        dest="rectest_seeds",
        type=_enough_seeds,
        default=16,
        metavar="N",
        help="seeds trained when a baseline is recorded (default 16, at least 5)",
    )
    add(
        "--rectest-gate-seeds",
        dest="rectest_gate_seeds",
        type=_looks,
        default=5,
        metavar="N",
        help="seeds trained at most to judge a system against its baseline: 2 to 5 (default 5), mostly one is enough",
    )
    add("--rectest-json", dest="rectest_json", metavar="PATH", help="write every result there as JSON")
    add("--rectest-html", dest="rectest_html", metavar="PATH", help="write the report of the gates there, one page")
    add(
        "--rectest-markdown",
        dest="rectest_markdown",
        metavar="PATH",
        help="append a summary of the gates there, e.g. to $GITHUB_STEP_SUMMARY",
    )
    add(
        "--rectest-allow-dirty",
        dest="rectest_allow_dirty",
        action="store_true",
        help="let an update record from uncommitted changes; needs --rectest-reason",
    )
    add(
        "--rectest-new-anchor",
        dest="rectest_new_anchor",
        action="store_true",
        help="with an update: measure drift over several updates from this recording on",
    )
    add(
        "--rectest-nightly",
        dest="rectest_nightly",
        action="store_true",
        help="gate on fresh seeds, others every day (RECTEST_NIGHTLY_DATE repeats one), at a tenth of the alarm rate",
    )
    add(
        "--rectest-allow-no-gpu",
        dest="rectest_allow_no_gpu",
        action="store_true",
        help="let a run whose gpu tests were all skipped for want of a GPU exit 0",
    )
    add(
        "--rectest-require",
        dest="rectest_require",
        type=_kinds,
        default=(),
        metavar="KIND,...",
        help="fail the run unless every test of these kinds was measured: benchmark, gpu",
    )
    add(
        "--rectest-no-why",
        dest="rectest_no_why",
        action="store_true",
        help="where repeated runs differ, do not train them once more to name the line",
    )
    parser.addini("rectest_baseline_dir", "folder of the stored baselines (default: baselines)", type="string")
    parser.addini(
        "rectest_benchmarks",
        "node ids of benchmarks that --rectest-require=benchmark expects, beside those of the last recorded runs",
        type="linelist",
    )


def register_markers(config: pytest.Config) -> None:
    """Register the markers, so that `-m gate` and `-m gpu` work under strict markers."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)


def _given_path(config: pytest.Config, option: str) -> Path | None:
    given = config.getoption(option)
    return None if given is None else config.invocation_params.dir / given


def _positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError as e:
        msg = f"{text!r} is not a number of seconds"
        raise argparse.ArgumentTypeError(msg) from e
    if not 0 < value < float("inf"):
        msg = f"must be positive, got {text}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _positive_int(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        msg = f"must be a whole number of at least 1, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _enough_seeds(text: str) -> int:
    value = _positive_int(text)
    if value < _FEWEST_SEEDS:
        msg = f"{value} seeds cannot carry a gate, at least {_FEWEST_SEEDS} are needed"
        raise argparse.ArgumentTypeError(msg)
    return value


def _looks(text: str) -> int:
    value = _positive_int(text)
    if value not in _LOOKS:
        msg = f"{value} seeds; a gate needs a second one before it may fail, and its rates are stated for at most 5"
        raise argparse.ArgumentTypeError(msg)
    return value


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(kind.strip() for kind in text.split(","))
    unknown = [kind for kind in kinds if kind not in REQUIRABLE]
    if unknown:
        msg = f"{unknown[0]!r} cannot be required; a list of {', '.join(REQUIRABLE)} was needed"
        raise argparse.ArgumentTypeError(msg)
    return tuple(dict.fromkeys(kinds))


def _device(text: str) -> str:
    kind, colon, index = text.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (index.isascii() and index.isdigit())):
        msg = f"must be cpu, cuda or cuda:N, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return text
