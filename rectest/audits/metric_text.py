"""Metric tables in text: CSV, Markdown with several tables, and plain ``name: value`` lines of a log."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator

from rectest.audits.metric_grid import Entry, Read, collected, tables_of_grid
from rectest.audits.metric_names import Name, name_of, plain, split_of

__all__ = ["read_csv", "read_lines", "read_markdown"]

_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*")
_PAIR = re.compile(
    r"(?P<name>[^\s:=|,][^:=|,]*?)\s*[:=]\s*(?P<value>[+-]?(?:\d[\d.]*(?:e[+-]?\d+)?\s*%?|nan|inf(?:inity)?))(?=[\s,;|)]|$)"
    r"(?!\s*(?:→|->|~|–|to\s))",
    re.IGNORECASE,
)
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+(.*)")
_QUOTED = re.compile(
    r"""(?P<quote>['"])(?P<name>[^'"]+)(?P=quote)\s*[,:]\s*(?:(?:np|numpy)\.float\d+\(|tensor\()?"""
    r"""(?P<value>[+-]?(?:\d[\d.]*(?:e[+-]?\d+)?|nan|inf(?:inity)?))(?![\w.])""",
    re.IGNORECASE,
)
"""``'recall@10': 0.3`` of a printed dict, and ``('recall@10', 0.3)`` of an OrderedDict, as RecBole logs its test."""
_PREAMBLE = re.compile(r"^.*?\b(?:INFO|DEBUG|WARNING)\b[\s:\]-]*")


def read_csv(text: str) -> Read:
    """A table with a header, separated by commas, semicolons or tabs."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
    return tables_of_grid(rows[0], rows[1:]) if rows else Read()


def read_markdown(text: str) -> Read:
    """Every table of a Markdown file; a heading before a table names it where there are several.

    A file without any table of metrics is read as lines.
    """
    read = Read()
    blocks = list(_blocks(text))
    for number, (heading, header, rows) in enumerate(blocks, start=1):
        group = "" if len(blocks) == 1 else heading or f"table {number}"
        read += tables_of_grid(header, rows, group=group)
    return read if read.tables else read + read_lines(text)


def _blocks(text: str) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Heading, header and rows of each table: a line with bars, a rule, and the lines with bars after it."""
    lines, heading, i = text.splitlines(), "", 0
    while i < len(lines):
        title = _HEADING.fullmatch(lines[i])
        heading = plain(title[1]) if title else heading
        if "|" in lines[i] and i + 1 < len(lines) and "-" in lines[i + 1] and _RULE.fullmatch(lines[i + 1]):
            header, rows, i = _cells(lines[i]), [], i + 2
            while i < len(lines) and "|" in lines[i]:
                rows.append(_cells(lines[i]))
                i += 1
            yield heading, header, rows
        else:
            i += 1


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|")
    inner = inner[:-1] if inner.endswith("|") and not inner.endswith("\\|") else inner
    return [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", inner)]


def read_lines(text: str) -> Read:
    """``hit@5: 0.0544`` and ``Recall@10 = 0.83 | NDCG@10 = 0.71``: a block of lines is a table, a heading its label.

    Printed dicts are blocks of their own. Blocks of a log with one label that names validation or training are
    evaluations of one training.
    """
    blocks: list[tuple[str, int, list[tuple[Name, str]]]] = []
    label, empty = "", True
    for line in text.splitlines():
        bare = _PREAMBLE.sub("", line)
        pairs, lead = _quoted(bare)
        title = _HEADING.fullmatch(line)
        if pairs:
            blocks.append((lead or label, len(blocks) + 1, pairs))
            empty = True
            continue
        pairs = list(_pairs(bare))
        if title or (not pairs and line.strip().endswith(":")):
            label = plain(title[1] if title else bare).rstrip(":")
        if not pairs:
            empty = True
        elif empty or blocks[-1][0] != label:
            blocks.append((label, len(blocks) + 1, pairs))
            empty = False
        else:
            blocks[-1][2].extend(pairs)
    return collected(_entries(blocks), group="")


def _quoted(line: str) -> tuple[list[tuple[Name, str]], str]:
    """The measures of a printed dict, and what the line says before it."""
    matches = list(_QUOTED.finditer(line))
    named = [(name, match["value"]) for match in matches if (name := name_of(match["name"])) and name.measure]
    lead = re.split(r"OrderedDict|[({\[]", line[: matches[0].start()])[0] if named else ""
    return named, plain(lead).rstrip(":= ")


def _entries(blocks: list[tuple[str, int, list[tuple[Name, str]]]]) -> Iterator[Entry]:
    times = Counter(label for label, _, _ in blocks)
    for label, number, pairs in blocks:
        series = times[label] > 1 and split_of(label) in ("valid", "train")
        own = f"{label or 'block'} ({number})"
        yield from (Entry(name=name, k=None, text=value, label=own, series=series) for name, value in pairs)


def _pairs(line: str) -> Iterator[tuple[Name, str]]:
    for match in _PAIR.finditer(line.strip().lstrip("-*• ")):
        name = name_of(match["name"])
        if name is not None and name.measure:
            yield name, match["value"]
