import pytest

from fixtures.baselines import PROVENANCE, make_baseline, make_environment, make_records
from rectest.baseline.build import extend_baseline
from rectest.baseline.diff import FeatureChange, diff, markdown, notes_of
from rectest.errors import CorruptBaseline


def test_hand_computed_row():
    change = FeatureChange(feature="test/recall@10", old=0.2, new=0.25, old_sd=0.01)

    assert change.absolute == pytest.approx(0.05)
    assert change.relative == pytest.approx(0.25)
    assert change.z == pytest.approx(5.0)


@pytest.mark.parametrize(("old", "new", "sd"), [(None, 1.0, None), (1.0, None, 0.1), (1.0, 2.0, 0.0)])
def test_what_cannot_be_computed_is_none(old, new, sd):
    assert FeatureChange(feature="x", old=old, new=new, old_sd=sd).z is None


def test_equal_baselines_have_no_difference():
    change = diff(make_baseline(), make_baseline())

    assert change.empty
    assert notes_of(change) == []


def test_everything_that_changes_is_named():
    new = make_baseline(12, recall=0.1, steps=5, world="blake2b:new")
    change = diff(make_baseline(), new.model_copy(update={"provenance": PROVENANCE.model_copy(update={"dirty": True})}))
    notes = "\n".join(notes_of(change))

    assert not change.empty
    assert change.features[1].relative == pytest.approx(-0.5, abs=0.02)
    assert "setting steps: None -> 5" in notes
    assert "world: blake2b:5eed -> blake2b:new" in notes
    assert "seeds 16 -> 12" in notes
    assert "uncommitted changes" in notes
    assert "bits of seeds 0, 1, 2, 3, 4 in" in notes
    assert ": metrics differ" in notes


def test_new_and_unreadable():
    assert diff(None, make_baseline()).is_new
    assert diff(CorruptBaseline("x.json", "broken"), make_baseline()).unreadable
    assert not diff(None, make_baseline()).empty


def test_environments_come_and_go():
    old = make_baseline()
    runs = make_records([0], environment=make_environment(threads=2))
    more = extend_baseline(old, runs, reason="x", provenance=PROVENANCE)

    assert "are added" in diff(old, more).bits[0]
    assert diff(more, old).bits == ()
    assert any("are dropped" in line for line in diff(more, make_baseline(recall=0.3)).bits)


def test_a_feature_that_appears_or_goes_has_a_row():
    change = diff(make_baseline(), make_baseline(gate={"metrics": ["recall@10"], "loss": False}))

    assert next((row.feature, row.new is None) for row in change.features) == ("loss/late", True)


def test_markdown_is_a_table_that_text_cannot_break():
    change = diff(make_baseline(), make_baseline(recall=0.1))
    lines = markdown([change], reason="why |\n not").splitlines()
    table = [line for line in lines if line.startswith("|")]

    assert lines[0] == "Reason: why | not"
    assert len({line.count("|") for line in table}) == 1
    assert "| toy | test/recall@10 | 0.19" in "\n".join(table)
    assert "-50.00 %" in "\n".join(table)
