"""The pytest plugin: hooks only. It is loaded in every pytest run of an environment that has rectest installed.

Therefore importing it imports pytest and the standard library, nothing else; NumPy, torch and the rest of rectest
are imported when a fixture is used or a result has come in.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rectest.plugin.bench_origin import tell_origin
from rectest.plugin.benchmarks import NO_GPU, require_benchmarks, unmeasured
from rectest.plugin.collect import Collector
from rectest.plugin.exit_status import ended, infrastructure_notes
from rectest.plugin.fixtures import rec_check, rec_device, rec_gate, rec_train, rec_world
from rectest.plugin.gpus import num_gpus
from rectest.plugin.options import Options, add_options, register_markers
from rectest.plugin.ranks import rec_ranks

if TYPE_CHECKING:
    from rectest.report.machine import RunReport

__all__ = ["rec_check", "rec_device", "rec_gate", "rec_ranks", "rec_train", "rec_world"]

_COLLECTOR = pytest.StashKey[Collector]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register markers, start collecting, and refuse what must not happen here."""
    register_markers(config)
    config.stash[_COLLECTOR] = Collector()
    config.pluginmanager.register(config.stash[_COLLECTOR], "rectest-collector")
    if "benchmark" in config.getoption("rectest_require"):
        require_benchmarks(config)
    tell_origin(config)
    if "gpu" in config.getoption("rectest_require") and config.getoption("rectest_allow_no_gpu"):
        msg = "--rectest-require=gpu and --rectest-allow-no-gpu contradict each other"
        raise pytest.UsageError(msg)
    if config.getoption("rectest_update") is not None:
        _refuse_update_in_ci()
    for name, path in _report_paths(Options.of(config)).items():
        if path.is_dir():
            msg = f"--rectest-{name}={path} is a folder; the name of a file was needed"
            raise pytest.UsageError(msg)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need more GPUs than there are; the session says so and does not exit 0 on that alone."""
    marker = item.get_closest_marker("gpu")
    if marker is None:
        return
    needed = marker.kwargs.get("count", marker.args[0] if marker.args else 1)
    if isinstance(needed, bool) or not isinstance(needed, int) or needed < 1:
        pytest.fail(f"gpu(count={needed!r}): count must be a whole number of at least 1", pytrace=False)
    found = num_gpus()
    if found < needed:
        item.user_properties.append((NO_GPU, needed))
        pytest.skip(f"needs {needed} GPU{'s' if needed != 1 else ''}, found {found}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the reports, and fail a run that measured nothing on the GPU it was about."""
    config = session.config
    if hasattr(config, "workerinput"):
        return
    collector = config.stash[_COLLECTOR]
    options = Options.of(config)
    refused = (collector.gpu_unmeasured and not options.allow_no_gpu) or _required_notes(config, collector)
    if refused and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    session.exitstatus = ended(session, collector)
    paths = _report_paths(options)
    if not paths:
        return
    report = _report(config, collector, int(session.exitstatus))
    for name, path in paths.items():
        try:
            _write(name, path, report)
        except OSError as e:
            sys.stderr.write(f"rectest: cannot write {path}: {e.strerror or e}\n")
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        else:
            collector.written[name] = path


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the rectest section, when there is anything to say."""
    if hasattr(config, "workerinput"):
        return
    collector = config.stash[_COLLECTOR]
    notes = [*_gpu_notes(collector, Options.of(config)), *_required_notes(config, collector)]
    if not (collector.results or notes or collector.written):
        return
    from rectest.report.terminal import summary_lines

    terminalreporter.section("rectest")
    results = list(dict.fromkeys(result for _, result in collector.found()))
    notes = [*_environment_notes(collector), *notes, *infrastructure_notes(config, collector)]
    verbose = config.get_verbosity() > 0
    for line in summary_lines(results, width=_width(), notes=notes, verbose=verbose):
        terminalreporter.write_line(line)
    for name, path in collector.written.items():
        terminalreporter.write_line(f"{name} report: {_shown(path)}")


def _refuse_update_in_ci() -> None:
    from rectest.baseline.update import refuse_in_ci
    from rectest.errors import UpdateRefused

    try:
        refuse_in_ci(os.environ)
    except UpdateRefused as e:
        raise pytest.UsageError(str(e)) from e


def _gpu_notes(collector: Collector, options: Options) -> list[str]:
    if collector.gpu_ran or not collector.gpu_skipped:
        return []
    text = f"NOT MEASURED: all {len(collector.gpu_skipped)} gpu tests were skipped"
    if not collector.gpu_unmeasured:
        return [text]
    allowed = "; allowed by --rectest-allow-no-gpu"
    refused = "; this run does not exit 0. If that is intended, allow it with --rectest-allow-no-gpu"
    return [text + (allowed if options.allow_no_gpu else refused)]


def _required_notes(config: pytest.Config, collector: Collector) -> list[str]:
    """What was required with --rectest-require and was not measured: each is a reason not to exit 0."""
    notes = [f"NOT MEASURED: {problem}" for problem in unmeasured(config)]
    if "gpu" in Options.of(config).require:
        skipped = sorted(collector.gpu_skipped)
        notes += [f"NOT MEASURED: {name} needs a GPU, and gpu tests are required" for name in skipped]
        if not skipped and not collector.gpu_ran:
            notes.append("NOT MEASURED: no gpu test ran, and gpu tests are required")
    return notes


def _environment_notes(collector: Collector) -> list[str]:
    from rectest.environment import Environment

    values = collector.notes.get("environment")
    if not values:
        return []
    environment = Environment.from_dict(values)
    return [f"environment {environment.describe()}, fingerprint {environment.fingerprint}"]


def _report_paths(options: Options) -> dict[str, Path]:
    """The reports that were asked for, by the end of the option's name."""
    paths = {"json": options.json_path, "html": options.html_path, "markdown": options.markdown_path}
    return {name: path for name, path in paths.items() if path is not None}


def _report(config: pytest.Config, collector: Collector, status: int) -> RunReport:
    from rectest.report.machine import Origin, RunReport

    notes = [*_gpu_notes(collector, Options.of(config)), *_required_notes(config, collector)]
    return RunReport(
        results=tuple(collector.found()),
        environment=collector.notes.get("environment"),
        exit_status=status,
        notes=(*notes, *infrastructure_notes(config, collector), *collector.unexplained()),
        gates=tuple(collector.evidence()),
        origin=Origin.here(Path.cwd()),
    )


def _write(name: str, path: Path, report: RunReport) -> None:
    if name == "json":
        from rectest.report.machine import write_report

        write_report(path, report)
    elif name == "html":
        from rectest.report.html import write_page

        write_page(path, report)
    else:
        from rectest.report.github import append_summary

        append_summary(path, report)


def _shown(path: Path) -> str:
    """Relative to where pytest was called, for what lies in there."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _width() -> int:
    return max(60, min(shutil.get_terminal_size().columns, 140))
