"""Configuration: dead keys, confounded ablations and inert settings turn red; one setting that works does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import edit_array, edit_facts, make_record
from rectest.checks.configuration import ablation, configuration, reaches, settings_apart
from rectest.checks.result import Verdict

DEFAULTS = {"steps": 300, "embedding_size": 32, "num_blocks": 1, "norm_first": False, "kinds": ("dot", "cosine")}


def run(*, seed=0, spec=None, **changes):
    record = edit_facts(make_record(), "settings", value={**DEFAULTS, **changes})
    return replace(record, spec=record.spec.with_(seed=seed, **(spec or {})))


def other_stage(record, stage, *, step=5):
    def change(tape):
        tape[step:] += 1

    return edit_array(record, f"tape/{stage}", change)


def test_settings_that_were_read_are_green():
    facts = {"given": ["embedding_size"], "unread": [], "never_read": ["kinds"]}

    (result,) = configuration(edit_facts(make_record(), "settings_read", value=facts))

    assert result.check == "configuration/read"
    assert result.verdict is Verdict.PASS
    assert result.detail == "no use in this run: kinds"


def test_a_key_that_nobody_reads_is_red():
    """Report 001: stages and patience stood in the file, the script took them from the command line."""
    facts = {"given": ["stages", "patience", "sasrec_lr"], "unread": ["stages", "patience"], "never_read": ["stages"]}

    (result,) = configuration(edit_facts(make_record(), "settings_read", value=facts))

    assert result.verdict is Verdict.FAIL
    assert result.outside == "patience, stages"
    assert "DEAD" in result.detail


@pytest.mark.parametrize("facts", [None, {}, {"given": ["stages"]}])
def test_silence_is_not_read(facts):
    (result,) = configuration(edit_facts(make_record(), "settings_read", value=facts))

    assert result.verdict is Verdict.NOT_MEASURED


def test_one_setting_over_two_seeds_is_an_ablation():
    (result,) = ablation(run(), run(seed=1, norm_first=True))

    assert result.verdict is Verdict.PASS
    assert result.figure == "norm_first False and True"


def test_report_002_is_confounded():
    """The optimised arm alone got norm_first; the full preset also changed size and blocks."""
    (result,) = ablation(run(), run(norm_first=True, embedding_size=64, num_blocks=2))

    assert result.verdict is Verdict.FAIL
    assert result.figure == "3 settings differ: embedding_size, norm_first, num_blocks"
    assert "CONFOUNDED" in result.detail


@settings(max_examples=40, deadline=None)
@given(changed=st.sets(st.sampled_from(sorted(DEFAULTS))))
def test_exactly_one_setting_may_differ(changed):
    (result,) = ablation(run(), run(**dict.fromkeys(changed, "other")))

    expected = {0: Verdict.NOT_MEASURED, 1: Verdict.PASS}.get(len(changed), Verdict.FAIL)
    assert expected is result.verdict
    assert changed == {*settings_apart(run(), run(**dict.fromkeys(changed, "other")))}


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("inputs", "world"), "blake2b:other", "worlds"),
        (("protocol", "test", "num_candidates_mean"), 100.0, "num_candidates_mean"),
        (("protocol", "test", "kind"), "sampled", "kind"),
        (("protocol", "test", "num_users"), 59, "num_users"),
    ],
)
def test_one_setting_on_another_task_is_confounded(path, value, word):
    (result,) = ablation(run(), edit_facts(run(norm_first=True), *path, value=value))

    assert result.verdict is Verdict.FAIL
    assert word in result.worst


@pytest.mark.parametrize("spec", [{"plant": "m:f"}, {"threads": 2}, {"system": "other"}, {"device": "cuda"}])
def test_what_the_spec_changes_counts_as_a_setting(spec):
    (result,) = ablation(run(), run(norm_first=True, spec=spec))

    assert result.verdict is Verdict.FAIL


def test_without_recorded_settings_the_overrides_of_the_spec_are_compared():
    first = make_record()
    second = replace(first, spec=first.spec.with_(config={"norm_first": True}, steps=10))

    assert settings_apart(first, second) == {"norm_first": ("(absent)", True), "steps": ("(absent)", 10)}


def test_a_stored_tuple_is_still_the_same_setting():
    assert settings_apart(run(), run(kinds=["dot", "cosine"])) == {}


@pytest.mark.parametrize("stage", ["batch", "negatives", "loss"])
def test_a_setting_that_reaches_training_is_green(stage):
    (result,) = reaches(other_stage(run(norm_first=True), stage), run(), by=stage)

    assert result.verdict is Verdict.PASS
    assert result.subject == "toy norm_first"
    assert result.figure.startswith("3 of 8 steps")


def test_an_inert_setting_is_red():
    """Report 002: int(1 * 0.3) popular negatives of one are none; only the dashboard changes."""
    (result,) = reaches(other_stage(run(popular_ratio=0.3), "rng"), run(popular_ratio=0.0), by="negatives")

    assert result.verdict is Verdict.FAIL
    assert "INERT: popular_ratio" in result.detail


@pytest.mark.parametrize(
    ("on", "off", "reason"),
    [
        (run(norm_first=True, seed=1), run(), "seeds 1 and 0"),
        (run(), run(), "0 settings differ, exactly one"),
        (run(norm_first=True, num_blocks=2), run(), "2 settings differ: norm_first, num_blocks"),
        (edit_facts(run(norm_first=True), "inputs", "world", value="blake2b:other"), run(), "worlds"),
        (run(norm_first=True).with_arrays(tape__loss=None), run(), "no tape of loss"),
    ],
)
def test_what_cannot_show_one_setting_is_not_green(on, off, reason):
    (result,) = reaches(on, off)

    assert result.verdict is Verdict.NOT_MEASURED
    assert reason in result.figure


def test_an_unknown_stage_is_refused():
    with pytest.raises(ValueError, match="by must be one of batch, negatives, loss, got 'rng'"):
        reaches(run(norm_first=True), run(), by="rng")
