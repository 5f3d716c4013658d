"""The pytest plugin: hooks only. It is loaded in every pytest run of an environment that has rectest installed.

Therefore importing it imports pytest and the standard library, nothing else; NumPy, torch and the rest of rectest
are imported when a fixture is used or a result has come in.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import pytest

from rectest.plugin.collect import Collector
from rectest.plugin.fixtures import rec_check, rec_device, rec_gate, rec_train, rec_world
from rectest.plugin.gpus import num_gpus
from rectest.plugin.options import Options, add_options, register_markers
from rectest.plugin.ranks import rec_ranks

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
    if config.getoption("rectest_update") is not None:
        _refuse_update_in_ci()
    path = Options.of(config).json_path
    if path is not None and path.is_dir():
        msg = f"--rectest-json={path} is a folder; the name of a file was needed"
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
        pytest.skip(f"needs {needed} GPU{'s' if needed != 1 else ''}, found {found}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the JSON report, and fail a run that measured nothing on the GPU it was about."""
    config = session.config
    if hasattr(config, "workerinput"):
        return
    collector = config.stash[_COLLECTOR]
    options = Options.of(config)
    if collector.gpu_unmeasured and not options.allow_no_gpu and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if options.json_path is not None:
        try:
            _write_json(options, collector, int(session.exitstatus))
        except OSError as e:
            sys.stderr.write(f"rectest: cannot write {options.json_path}: {e.strerror or e}\n")
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the rectest section, when there is anything to say."""
    if hasattr(config, "workerinput"):
        return
    collector = config.stash[_COLLECTOR]
    notes = _gpu_notes(collector, Options.of(config))
    if not collector.results and not notes:
        return
    from rectest.report.terminal import summary_lines

    terminalreporter.section("rectest")
    results = list(dict.fromkeys(result for _, result in collector.found()))
    notes = [*_environment_notes(collector), *notes]
    verbose = config.get_verbosity() > 0
    for line in summary_lines(results, width=_width(), notes=notes, verbose=verbose):
        terminalreporter.write_line(line)


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


def _environment_notes(collector: Collector) -> list[str]:
    from rectest.environment import Environment

    values = collector.notes.get("environment")
    if not values:
        return []
    environment = Environment.from_dict(values)
    return [f"environment {environment.describe()}, fingerprint {environment.fingerprint}"]


def _write_json(options: Options, collector: Collector, status: int) -> None:
    from rectest.report.machine import write_report

    if options.json_path is not None:
        write_report(
            options.json_path,
            collector.found(),
            environment=collector.notes.get("environment"),
            exit_status=status,
            notes=_gpu_notes(collector, options),
            gates=collector.evidence(),
        )


def _width() -> int:
    return max(60, min(shutil.get_terminal_size().columns, 140))
