"""The screen: what it says in which order, and that it fits whatever a finding holds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.findings import HOSTILE, IDENTICAL_FINDING, NEGATIVES, RNG
from rectest.divergence.answer import MOST_COLUMNS, MOST_LINES, answer, headline
from rectest.divergence.confirm import Confirmed, Trial, confirm
from rectest.divergence.finding import DIVERGED, IDENTICAL, NATURES, STAGES, UNKNOWN, Cause, Finding, Growth

SAMPLER = "class Sampler:\n    self.rng = np.random.default_rng()\n\n\n    neg = self.rng.integers(9)\n"


def said(finding: Finding, **settings: object) -> str:
    """The answer in one line, labels and all."""
    return " ".join(" ".join(answer(finding, **settings)).split())


def test_a_stray_generator_is_told_from_verdict_to_details(tmp_path):
    (tmp_path / "sampler.py").write_text(SAMPLER)
    obtained = answer(NEGATIVES, roots=[tmp_path], details="why.json, why.html; tapes in keep/")

    assert obtained == [
        "DIVERGED at step 1, negatives: batch.neg",
        "",
        "what       the same examples, other negatives",
        "where      sampler.py:2 in __init__",
        "             2   self.rng = np.random.default_rng()",
        "           numpy.random.default_rng() was created without a seed",
        "used at    sampler.py:5 in sample: 5,120 draws from step 1 on",
        "evidence   batch.user and batch.pos are equal, batch.neg differs",
        "           the generator at sampler.py:2 starts from another state in each run",
        "nature     the runs drew other random numbers",
        "size       loss: 1e-08 after 1 step, 3e-08 after 10, 0.014 % after 100",
        "           step 20: recall@10 0.1234 and 0.1240",
        "change     give it one: numpy.random.default_rng(seed)",
        "proof      not confirmed: --confirm runs it again with this source held still",
        "harmless   1 source differs and did not reach training: time.time was read (train.py:8 in main)",
        "details    why.json, why.html; tapes in keep/",
    ]


def test_identical_is_one_line():
    assert answer(IDENTICAL_FINDING) == ["IDENTICAL: 2 runs, 250 steps, 31,240 events, every bit"]


def test_identical_under_a_restriction_does_not_say_every_bit():
    finding = replace(IDENTICAL_FINDING, reason="1024 elements of each tensor were looked at")

    assert "every bit" not in said(finding)
    assert "but 1024 elements of each tensor were looked at" in said(finding)


def test_could_not_tell_says_why():
    assert said(Finding(verdict=UNKNOWN, reason="no step was recorded")) == "COULD NOT TELL: no step was recorded"
    assert said(Finding(verdict=UNKNOWN)) == "COULD NOT TELL: the runs could not be compared"


def test_before_training_and_in_another_process():
    finding = Finding(verdict=DIVERGED, stage="id_map", step=0, name="vocabulary", process="rank1")

    assert headline(finding) == "DIVERGED before training, id map: vocabulary (process rank1)"
    assert "no line of code was found" in said(finding)
    assert "with hash, threads, deterministic, listing, pristine held still, one at a time" in said(finding)


@pytest.mark.parametrize(
    ("growth", "expected"),
    [
        ((Growth(step=5, loss=0.0, parameters=1e-9),), "loss: no difference after 1 step"),
        ((Growth(step=5, loss=math.nan, parameters=2.0),), "parameters: 200 % after 1 step"),
        ((Growth(step=4, loss=1.0, parameters=1.0),), None),
        ((Growth(step=5, loss=math.inf, parameters=1.0),), "loss: not a finite number after 1 step"),
        (
            tuple(Growth(step=k, loss=0.01, parameters=1.0) for k in range(5, 40)),
            "loss: 1 % after 1 step, 1 % after 10, 1 % after 35",
        ),
    ],
)
def test_size_counts_from_the_first_divergence(growth, expected):
    finding = replace(NEGATIVES, step=5, growth=growth, metric="")

    assert (expected or "size") in said(finding) if expected else " size " not in said(finding)


@pytest.mark.parametrize("place", ["gone.py:2:f", "sampler.py:99:f", "sampler.py:x:f", "", "\x00:1:f", "no site"])
def test_a_line_that_cannot_be_read_is_left_out(tmp_path, place):
    (tmp_path / "sampler.py").write_text(SAMPLER)
    finding = replace(NEGATIVES, causes=(replace(RNG, site=place),))

    assert "self.rng" not in said(finding, roots=[tmp_path])


def told(*found: Finding, limit: int = 8) -> str:
    """The answer after a confirmation in which the first pin held gives the last finding, and none the first."""
    first, last = found[0], found[-1]
    return said(first, confirmed=confirm(first, lambda pins: last if pins else first, limit=limit))


def test_confirmed_is_said_with_what_it_showed():
    assert "confirmed: with it held still both runs are identical to the last bit" in told(NEGATIVES, IDENTICAL_FINDING)


def test_another_that_remains_is_said():
    later = replace(NEGATIVES, step=4, stage="forward", name="SASRec", causes=())
    text = told(NEGATIVES, later)

    assert "confirmed: with it held still the runs part elsewhere: at step 4, forward: SASRec; another" in text
    assert "not the cause (held still one at a time, no change): hash, threads, deterministic" in text


def test_in_vain_is_said():
    text = told(NEGATIVES, NEGATIVES)

    assert "not confirmed: nothing that was held still makes the runs identical" in text
    assert "no line of code was found" in text


def test_luck_is_said_with_its_count():
    text = said(NEGATIVES, confirmed=confirm(NEGATIVES, lambda _: IDENTICAL_FINDING))

    assert "it comes and goes, and showed in 1 of 2 comparisons" in text
    assert " confirmed: with" not in text


def test_a_limit_reached_and_a_pin_that_broke_the_script_are_said():
    limited = told(NEGATIVES, IDENTICAL_FINDING, limit=1)
    failed = Trial(pins=("hash",), tried=(RNG,), outcome="could not be tried", problem="the script failed (exit 1)")
    broken = Confirmed(trials=(failed,), causes=(), final=NEGATIVES)

    assert "not confirmed: it stayed away with one held still, but was not seen to come back without" in limited
    assert "stopped after 1 comparison" in limited
    assert f"could not be tried: {RNG.pin}: the script failed (exit 1)" in said(NEGATIVES, confirmed=broken)


def test_two_confirmed_causes_have_a_place_each():
    second = replace(RNG, site="model.py:9:forward", what="torch.Generator() was seeded from the clock")
    sure = tuple(replace(each, confirmed=True) for each in (RNG, second))
    text = said(NEGATIVES, confirmed=Confirmed(trials=(), causes=sure, final=IDENTICAL_FINDING))

    assert "sampler.py:2 in __init__" in text
    assert "model.py:9 in forward" in text
    assert "confirmed: with these 2 held still both runs are identical" in text


texts = st.text(max_size=300) | st.sampled_from([HOSTILE, "x" * 500, "a b " * 100, "\n\x1b[2J", "\ud800", "a/b.py:1:f"])
numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)
causes = st.builds(
    Cause,
    kind=texts,
    what=texts,
    site=texts,
    drawn_at=texts,
    num_draws=st.integers(0, 10**12),
    step=st.integers(0, 10**9),
    process=texts,
    advice=texts,
    pin=st.sampled_from(["", "hash", "site:a.py:1:f"]),
    confirmed=st.sampled_from([None, True, False]),
)
findings = st.builds(
    Finding,
    verdict=st.sampled_from([IDENTICAL, DIVERGED, UNKNOWN]),
    reason=texts,
    stage=st.sampled_from(["", "another", *STAGES]),
    step=st.integers(0, 10**9),
    process=texts,
    name=texts,
    nature=st.sampled_from(["", *NATURES]),
    causes=st.lists(causes, max_size=12).map(tuple),
    evidence=st.lists(texts, max_size=12).map(tuple),
    growth=st.lists(
        st.builds(Growth, step=st.integers(0, 10**6), loss=numbers.map(abs), parameters=numbers.map(abs)), max_size=5
    ).map(tuple),
    metric=texts,
    harmless=st.lists(causes, max_size=12).map(tuple),
    num_steps=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
    num_events=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
)


@given(finding=findings, notes=st.lists(texts, max_size=6), place=texts, many=st.booleans())
@settings(max_examples=50, deadline=None)
def test_it_fits_and_is_printable_whatever_the_finding_holds(finding, notes, place, many):
    confirmed = Confirmed(trials=(), causes=finding.causes, final=finding, refuted=finding.harmless, limited=many)
    lines = answer(finding, confirmed=confirmed if many else None, notes=notes, details=place)

    assert 1 <= len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= MOST_COLUMNS
    assert all(line.isprintable() for line in lines)
    assert lines[0].split()[0].rstrip(":") in ("IDENTICAL", "DIVERGED", "COULD")


def test_what_matters_most_is_kept_when_there_is_too_much():
    crowded = replace(
        NEGATIVES,
        evidence=("long " * 60,) * 9,
        harmless=(replace(RNG, what="long " * 60),) * 9,
        causes=tuple(replace(RNG, what="long " * 60, site=f"m{k}.py:1:f", confirmed=True) for k in range(6)),
    )
    lines = answer(crowded, notes=["the script failed"], details="why.json")

    assert len(lines) == MOST_LINES
    assert [line.split()[0] for line in lines if line and not line.startswith(" ")] == [
        *("DIVERGED", "what", "where", "then", "then", "then", "nature", "size", "change", "proof"),
        *("note", "details"),
    ]


def test_what_was_held_still_in_vain_is_no_evidence_and_what_is_sure_has_no_alternative():
    other = replace(RNG, site="late.py:7:f", pin="site:late.py:7:f", drawn_at="")
    third = replace(RNG, site="third.py:7:f", pin="site:third.py:7:f")
    finding = replace(NEGATIVES, causes=(RNG, other, third))
    text = said(finding, confirmed=confirm(finding, lambda pins: IDENTICAL_FINDING if other.pin in pins else finding))

    assert "where late.py:7 in f" in text
    assert "sampler.py:2" not in text
    assert "batch.user and batch.pos are equal" in text
    assert "or else" in said(finding)
    assert "or else" not in text
