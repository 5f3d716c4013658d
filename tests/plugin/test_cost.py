"""The plugin costs nothing when unused: no torch, no NumPy, and no time worth speaking of."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "numpy", "pydantic", "scipy", "typer", "rich", "hypothesis", "filelock", "safetensors")


def test_importing_the_plugin_imports_nothing_heavy():
    code = f"import sys, rectest.plugin; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "[]"


def test_an_unrelated_run_loads_nothing_heavy(pytester):
    pytester.makepyfile(
        f"""
        import sys
        def test_nothing_heavy():
            assert not set({("torch", "numpy", "pydantic", "scipy")!r}) & set(sys.modules)
        """
    )

    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest", "-p", "no:benchmark", "-p", "no:xdist")

    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*rectest*PASS*")


@pytest.mark.slow
def test_an_unrelated_run_pays_under_50_ms(pytester, monkeypatch):
    """The difference of the fastest of interleaved runs with and without the plugin, both compiled before."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    pytester.makepyfile("def test_empty(): pass")
    seconds = {True: [], False: []}
    for _ in range(9):
        for loaded in (True, False):
            switch = [] if loaded else ["-p", "no:rectest"]
            start = time.perf_counter()
            pytester.runpytest_subprocess("-q", *switch)
            seconds[loaded].append(time.perf_counter() - start)

    assert min(seconds[True]) - min(seconds[False]) < 0.05
