"""The page of `rectest bench history`: what it shows, that it stands alone, that no name is markup, equal bytes."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from fixtures.bench_runs import make_history, make_run, make_timing, noisy_times
from fixtures.html_page import Page
from rectest.benchmarks.changes import changes_in, series_of
from rectest.benchmarks.history import BenchHistory
from rectest.report.bench_history import history_page, series_figure, standalone_plot, write_history_page

STEADY, SLOWER = "a.py::test_steady", "a.py::test_slower"
HOSTILE = "a.py::test[<script>alert('x')</script>&\"$x_1$]"


@pytest.fixture(scope="module")
def history():
    rng = np.random.default_rng(0)
    slower = noisy_times(20, rng=rng, noise=0.01, step_at=12)
    return make_history({STEADY: noisy_times(20, rng=rng, noise=0.01), SLOWER: slower})


def page_of(*histories):
    series = [each for history in histories for each in series_of(history)]
    return history_page(histories, series, changes_in(series))


def test_steps_come_first_and_everything_is_there(history):
    page = Page(page_of(history))

    assert "1 step found" in page.text
    assert page.text.index("0012aaaaaaaa") < page.text.index(STEADY)
    assert "20 runs, 2026-01-01 to 2026-01-20" in page.text
    assert "fingerprint" in page.text
    assert page.text.count("Median time by run.") == 2
    assert "none" in page.under(STEADY, "rectest 0")


def test_it_stands_alone(history):
    page = Page(page_of(history))

    assert page.all("script") == []
    assert [attributes for tag in ("link", "img", "iframe") for attributes in page.all(tag)] == []
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)
    assert page.all("meta")[1]["content"] == "width=device-width, initial-scale=1"


def test_it_has_colours_for_the_dark_and_figures_use_them(history):
    text = page_of(history)

    assert "prefers-color-scheme: dark" in text
    assert re.findall(r"#01010\d", text) == []
    assert "var(--new)" in text


def test_equal_histories_give_equal_bytes(history):
    assert page_of(history) == page_of(history)


def test_ids_are_not_shared(history):
    ids = re.findall(r' id="([^"]+)"', page_of(history))

    assert len(ids) == len(set(ids))


def test_names_are_never_markup():
    history = make_history({HOSTILE: [1.0, 1.1]})
    text = page_of(history)

    assert "<script>" not in text
    assert HOSTILE in Page(text).text


def test_machines_have_lines_of_their_own():
    runs = [make_run({STEADY: 1.0 + day}, day=day, machine={"cpu": f"CPU {day % 2}"}) for day in range(4)]
    history = BenchHistory(path=Path("cpu.jsonl"), runs=tuple(runs))
    text = Page(page_of(history)).text

    assert "Each machine has a line of its own" in text
    assert "CPU 0" in text
    assert "CPU 1" in text


def test_what_is_damaged_or_gone_is_told():
    history = make_history({STEADY: [1.0, 1.0], SLOWER: [1.0]})
    damaged = BenchHistory(path=history.path, runs=history.runs, damaged=("line 3 is no run",))
    text = Page(page_of(damaged)).text

    assert "Damaged: line 3 is no run" in text
    assert text.count("not in the last run") == 1


def test_every_measure_has_its_row_in_its_unit():
    timing = make_timing(STEADY, 0.0021, memory={"host_growth": 3 << 20}, ratios={"count": 2.5}, cpu_seconds=3e-7)
    text = Page(page_of(make_history({STEADY: [1.0]}))).text
    history = BenchHistory(path=Path("cpu.jsonl"), runs=(make_run({STEADY: timing}),))
    full = Page(page_of(history)).text

    assert "ratio" not in text.partition(STEADY)[2]
    for part in ("2.1 ms", "3 MiB", "2.5", "300 ns", "too few runs"):
        assert part in full


@pytest.mark.parametrize("times", [[1.0], [1.0, 1.0], [1e-9, 1e6]], ids=str)
def test_odd_series_have_a_figure(times):
    series = [each for each in series_of(make_history({STEADY: times})) if each.measure == "seconds"]
    figure = ET.fromstring(series_figure(series, {}, ident="x"))

    assert figure.attrib["viewBox"].startswith("0 0 360 ")
    assert "no step" in figure.attrib["aria-label"]


def test_a_plot_of_its_own_has_its_colours(history):
    series = [each for each in series_of(history) if (each.benchmark, each.measure) == (SLOWER, "seconds")]
    changes = changes_in(series)
    plot = standalone_plot(series, changes)
    used = set(re.findall(r"var\(--(\w+)\)", plot))

    assert ET.fromstring(plot).tag.endswith("svg")
    assert all(f"--{name}:" in plot for name in used)
    assert "0012aaaa" in plot
    assert plot == standalone_plot(series, changes)


def test_a_plot_of_two_is_refused(history):
    with pytest.raises(ValueError, match="a plot is of one benchmark"):
        standalone_plot(series_of(history), {})


def test_it_is_written_whole(history, tmp_path):
    series = series_of(history)
    path = write_history_page(tmp_path / "deep" / "page.html", [history], series, {})

    assert path.read_text().endswith("</html>\n")
