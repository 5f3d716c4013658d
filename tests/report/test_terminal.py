"""The terminal section: what is folded, what never is, and how it wraps without losing or breaking a word."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.checks.result import CheckResult, Verdict
from rectest.report.terminal import counts_line, summary_lines

ODD = [verdict for verdict in Verdict if verdict is not Verdict.PASS]
WORDS = st.text(st.characters(blacklist_categories=("Z", "C")), min_size=1, max_size=90)
TEXTS = st.lists(WORDS | st.sampled_from(["recall@10", "--rectest-update=new", "0.3412", "é", "推薦"]), max_size=14)
NAMES = st.sampled_from(
    ["chance", "chance/hit@10", "ranges/loss", "embeddings/padding_row", "baseline/test/recall@10", "x" * 70]
)
SUBJECTS = st.sampled_from(
    ["toy", "toy/item", "toy valid/hit@10", "toy/as reported: an unseeded generator", "/a/my models/m.py:train/item"]
)


def result(verdict: Verdict = Verdict.PASS, *, check: str = "chance", subject: str = "toy", **texts: str):
    return CheckResult(check=check, subject=subject, verdict=verdict, **{"figure": "0.34", **texts})


@st.composite
def results(draw):
    texts = {name: " ".join(draw(TEXTS)) for name in ("figure", "expected", "limit", "advice")}
    return result(draw(st.sampled_from(list(Verdict))), check=draw(NAMES), subject=draw(SUBJECTS), **texts)


class TestFolding:
    def test_a_green_family_is_one_line_with_an_example(self):
        green = [result(check=f"embeddings/{name}", limit="0 rows") for name in ("finite", "norms", "zero")]

        lines = summary_lines(green)

        assert lines == [
            "toy",
            "  PASS  embeddings  3 of 3, e.g. finite: 0.34  limit 0 rows",
            "3 properties: 3 PASS",
        ]

    @pytest.mark.parametrize("odd", ODD)
    def test_what_is_not_green_has_a_line_of_its_own(self, odd):
        mixed = [
            result(check="embeddings/finite"),
            result(odd, check="embeddings/norms", figure="row 17"),
            result(check="embeddings/zero"),
        ]

        lines = summary_lines(mixed)

        assert [line.split("  ")[1:] for line in lines[1:3]] == [
            [str(odd), "embeddings/norms", "row 17"],
            [*f"{'PASS':<{len(odd)}}  {'embeddings':<16}  2 of 3, e.g. finite: 0.34".split("  ")],
        ]

    def test_baselines_and_single_greens_are_never_folded(self):
        green = [result(check=f"baseline/{name}") for name in ("exact", "test/recall@10")]

        text = "\n".join(summary_lines([*green, result(check="ranges/loss")]))

        assert all(name in text for name in ("baseline/exact", "baseline/test/recall@10", "ranges/loss"))
        assert "e.g." not in text

    def test_verbose_folds_nothing(self):
        green = [result(check=f"embeddings/{name}") for name in ("finite", "norms", "zero")]

        assert len(summary_lines(green, verbose=True)) == 1 + 3 + 1

    @settings(max_examples=50, deadline=None)
    @given(st.lists(results(), min_size=1, max_size=8), st.booleans())
    def test_red_is_never_folded(self, found, verbose):
        lines = summary_lines(found, width=10_000, verbose=verbose)

        for verdict in ODD:
            assert sum(r.verdict is verdict for r in found) == sum(line.startswith(f"  {verdict} ") for line in lines)


class TestGroups:
    def test_by_what_was_trained_in_the_order_in_which_results_came(self):
        found = [result(subject=s) for s in ("toy", "comirec", "toy/item", "comirec test", "comirec valid/hit@10")]

        lines = summary_lines(found, verbose=True)

        assert [line for line in lines[:-1] if not line.startswith(" ")] == ["toy", "comirec"]
        assert [line.split("  ")[2].strip() for line in lines if line.startswith("  ")] == [
            "chance",
            "chance [item]",
            "chance",
            "chance [test]",
            "chance [valid/hit@10]",
        ]

    def test_a_file_is_a_group_although_its_path_has_slashes_and_blanks(self):
        lines = summary_lines([result(subject="/home/my models/m.py:Mine.train/item")])

        assert lines[:2] == ["/home/my models/m.py:Mine.train", "  PASS  chance [item]  0.34"]

    def test_notes_come_first(self):
        assert summary_lines([result()], notes=["environment cpu"])[0] == "environment cpu"


class TestAdvice:
    @pytest.mark.parametrize("verdict", list(Verdict))
    @pytest.mark.parametrize("verbose", [False, True])
    def test_only_for_what_is_not_green(self, verdict, verbose):
        text = "\n".join(summary_lines([result(verdict, advice="rebuild the map")], verbose=verbose))

        assert ("next: rebuild the map" in text) is (verdict is not Verdict.PASS)


class TestWidth:
    @settings(max_examples=50, deadline=None)
    @given(st.lists(results(), min_size=1, max_size=5), st.sampled_from([60, 80, 120]), st.lists(TEXTS, max_size=2))
    def test_no_line_is_too_long_unless_a_word_is(self, found, width, notes):
        lines = summary_lines(found, width=width, notes=map(" ".join, notes), verbose=True)

        for line in (line for line in lines if len(line) > width):
            verdict = next((f"  {v} " for v in Verdict if line.startswith(f"  {v} ")), "")
            assert len(line.removeprefix(verdict).split()) == 1

    @settings(max_examples=50, deadline=None)
    @given(results(), st.sampled_from([60, 80, 120]))
    def test_nothing_is_cut_off_or_broken(self, found, width):
        obtained = " ".join(summary_lines([found], width=width, verbose=True)).split()

        assert " ".join(summary_lines([found], width=100_000, verbose=True)).split() == obtained
        for text in (found.figure, found.expected, found.limit):
            assert set(text.split()) <= set(obtained)

    @pytest.mark.parametrize("width", [60, 80, 120])
    def test_commands_stay_whole(self, width):
        command = "record one on this machine: pytest -m gate --rectest-update=new --rectest-world=taste-users"
        red = result(Verdict.UNCALIBRATED, check="baseline/ensemble", figure="no baseline", advice=command)

        lines = summary_lines([red], width=width)

        assert max(map(len, lines)) <= width
        assert all(any(word in line for line in lines) for word in command.split())

    def test_continued_lines_are_indented_below_the_name(self):
        red = result(Verdict.FAIL, figure="a " * 40, limit="0 %")

        lines = summary_lines([red], width=60)

        assert lines[1] == "  FAIL  chance  " + "a " * 21 + "a"
        assert lines[2] == " " * 10 + ("a " * 18).strip() + "  limit 0 %"

    def test_a_text_of_several_lines_is_one_paragraph(self):
        assert "  FAIL  chance  one two" in summary_lines([result(Verdict.FAIL, figure="one\n\n  two")])


class TestCounts:
    def test_every_verdict_is_counted(self):
        found = [result(), result(), *map(result, ODD)]

        assert counts_line(found) == (
            "9 properties: 2 PASS, 1 FAIL, 1 SUSPICIOUS, 1 CHANCE, 1 CHANGED, 1 UNDECIDED, 1 UNCALIBRATED, "
            "1 NOT MEASURED"
        )

    def test_one_property(self):
        assert counts_line([result()]) == "1 property: 1 PASS"

    def test_nothing(self):
        assert summary_lines([]) == ["0 properties: nothing was measured"]
