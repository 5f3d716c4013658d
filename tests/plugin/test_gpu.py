"""`pytest -m gpu` where there is no GPU: skipped tests are not a green run."""

from __future__ import annotations

import pytest

TESTS = """
import pytest

@pytest.mark.gpu
def test_one(): pass

@pytest.mark.gpu(count=4)
def test_four(): pass

def test_plain(): pass
"""


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Keep notes on one line."""
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that this machine has so many GPUs."""

    def pretend(number):
        monkeypatch.setattr("rectest.plugin.num_gpus", lambda: number)

    return pretend


def test_nothing_measured_does_not_exit_0(pytester, gpus):
    gpus(0)
    pytester.makepyfile(TESTS)

    result = pytester.runpytest_inprocess("-m", "gpu")

    assert result.ret == 1
    result.assert_outcomes(skipped=2, deselected=1)
    result.stdout.fnmatch_lines(["*NOT MEASURED: all 2 gpu tests were skipped*does not exit 0*allow it with*"])


def test_it_can_be_allowed_and_still_says_so(pytester, gpus):
    gpus(0)
    pytester.makepyfile(TESTS)

    result = pytester.runpytest_inprocess("-m", "gpu", "--rectest-allow-no-gpu")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["*NOT MEASURED*allowed by --rectest-allow-no-gpu*"])


def test_a_whole_run_may_skip_its_gpu_tests(pytester, gpus):
    gpus(0)
    pytester.makepyfile(TESTS)

    result = pytester.runpytest_inprocess()

    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=2)


def test_enough_gpus_run_and_too_few_are_named(pytester, gpus):
    gpus(1)
    pytester.makepyfile(TESTS)

    result = pytester.runpytest_inprocess("-m", "gpu", "-rs")

    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=1, deselected=1)
    result.stdout.fnmatch_lines(["*needs 4 GPUs, found 1*"])


def test_under_xdist_too(pytester):
    pytester.makeconftest("import rectest.plugin\nrectest.plugin.num_gpus = lambda: 0\n")
    pytester.makepyfile(TESTS)

    result = pytester.runpytest_subprocess("-m", "gpu", "-n2")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*NOT MEASURED: all 2 gpu tests were skipped*"])


def test_an_odd_count_is_named(pytester, gpus):
    gpus(1)
    pytester.makepyfile("import pytest\n@pytest.mark.gpu(count='2')\ndef test_it(): pass\n")

    result = pytester.runpytest_inprocess()

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*gpu(count='2'): count must be a whole number of at least 1*"])
