"""With ``--benchmark-json``, each benchmark says where it ran, so that ``rectest bench record`` can keep the file.

pytest-benchmark itself tells neither the versions of torch and NumPy nor the instructions and threads that were used,
and a history in which those change unseen compares what cannot be compared. Nothing is registered without that option.
"""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["BenchmarkOrigin", "tell_origin"]


def tell_origin(config: pytest.Config) -> None:
    """Have benchmarks say where they run, where a file is asked for that could keep it."""
    if config.pluginmanager.hasplugin("benchmark") and config.getoption("benchmark_json", None):
        config.pluginmanager.register(BenchmarkOrigin(), "rectest-benchmark-origin")


class BenchmarkOrigin:
    """Adds ``extra_info["environment"]`` to benchmarks, and to the commit whether what they measure was changed."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Note the environment once fixtures have set it up; what a test notes itself stays."""
        benchmark = getattr(item, "funcargs", {}).get("benchmark")
        extra = getattr(benchmark, "extra_info", None)
        if isinstance(extra, dict) and "environment" not in extra:
            from rectest.benchmarks.pytest_json import environment_values
            from rectest.training.determinism import probe

            extra["environment"] = environment_values(probe("cuda" if item.get_closest_marker("gpu") else "cpu"))

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_commit_info(self, config: pytest.Config, commit_info: dict[str, Any]) -> None:
        """Leave changes to stored baselines out: they are none to what is measured."""
        from rectest.baseline.provenance import git_state
        from rectest.plugin.options import Options

        commit, dirty = git_state(config.rootpath, apart_from=Options.of(config).baselines)
        if commit is not None:
            commit_info["dirty"] = dirty
