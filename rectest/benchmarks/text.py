"""A comparison for people: rows of a table, lines on what is red, and the same as Markdown for a job summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rectest.benchmarks.results import Comparison, Report, State

__all__ = ["COLUMNS", "NUMBERS", "markdown", "row", "summary", "told"]

COLUMNS = ("benchmark", "base", "head", "ratio", "95 % CI", "limit", "memory", "verdict", "pairs", "clock")
NUMBERS = ("base", "head", "ratio", "limit", "memory", "pairs")

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def row(found: Comparison) -> tuple[str, ...]:
    """The cells of one benchmark, in the order of `COLUMNS`."""
    ratio, interval = ("", "")
    if found.ratio is not None and found.low is not None and found.high is not None:
        ratio, interval = f"{found.ratio:.3f}", f"{found.low:.3f} to {found.high:.3f}"
    return (
        found.name,
        _seconds(found.base.judged_seconds) if found.base else "",
        _seconds(found.head.judged_seconds) if found.head else "",
        ratio,
        interval,
        f"+{100 * found.limit:g} %" if found.ratio is not None else "",
        _memory(found),
        found.verdict,
        str(found.num_pairs) if found.num_pairs else "",
        found.clock if found.num_pairs else "",
    )


def told(report: Report) -> Iterator[str]:
    """A line or more for each benchmark of which there is more to say than its row does."""
    for found in report.comparisons:
        if found.time is State.SLOWER and found.ratio is not None and found.surely_above is not None:
            yield (
                f"{found.name}: slower by {_percent(found.ratio)}, and by more than {_percent(found.surely_above)} "
                f"at a false-alarm rate of {report.alpha:g} for the whole comparison"
            )
        if found.memory is State.FATTER:
            yield f"{found.name}: a call needs {_memory(found)} of memory at its peak"
        if found.detail:
            yield f"{found.name}: {found.detail}"


def summary(report: Report) -> str:
    """One line on the whole."""
    compared = sum(found.ratio is not None for found in report.comparisons)
    red = sum(found.red for found in report.comparisons)
    new = sum(found.time is State.NEW for found in report.comparisons)
    return (
        f"{'RED' if report.red else 'GREEN'}: {compared} compared with {report.base[:12]}, {red} red, {new} new; "
        f"false alarms {report.alpha:g}, misses at the limit {report.beta:g}; {report.seconds:.0f} s"
    )


def markdown(report: Report) -> str:
    """For the summary page of a CI job."""
    lines = [f"### Benchmarks: {summary(report)}", "", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
    lines += [_line([cell.replace("|", "\\|") for cell in row(found)]) for found in report.comparisons]
    notes = [f"- {text.strip()}" for text in (*told(report), *report.notes)]
    return "\n".join([*lines, "", *(note.replace("\n", "\n  ") for note in notes)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):.1f} %"


def _seconds(value: float) -> str:
    scale, unit = next(((scale, unit) for scale, unit in _UNITS if value >= scale), _UNITS[-1])
    return f"{value / scale:.4g} {unit}"


def _memory(found: Comparison) -> str:
    """The peak on the head, and on the base where it is another; of the device where that is what changed."""
    if found.base is None or found.head is None:
        return ""
    sizes = [
        (base, head)
        for base, head in (
            (found.base.device_peak_bytes, found.head.device_peak_bytes),
            (found.base.peak_bytes, found.head.peak_bytes),
        )
        if base is not None and head is not None
    ]
    if not sizes:
        return ""
    base, head = max(sizes, key=lambda pair: abs(pair[1] - pair[0]))
    now = f"{head / 2**20:.1f} MiB"
    same = found.memory not in (State.FATTER, State.LEANER)
    return now if same else f"{base / 2**20:.1f} to {now}"
