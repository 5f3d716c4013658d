import pytest

from fixtures.baselines import PROVENANCE, make_baseline, make_environment, make_records
from rectest.baseline.build import extend_baseline
from rectest.baseline.diff import COLUMNS, FeatureChange, cells_of, diff, markdown, notes_of
from rectest.baseline.history import Drift, continued
from rectest.errors import CorruptBaseline


def recall_of(change):
    return next(row for row in change.features if row.feature == "test/recall@10")


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
    assert recall_of(change).relative == pytest.approx(-0.5, abs=0.02)
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


def test_bits_of_other_environments_go_where_those_of_this_one_changed():
    old = make_baseline()
    runs = make_records([0], environment=make_environment(threads=2))
    more = extend_baseline(old, runs, reason="x", provenance=PROVENANCE)
    fingerprint = old.ensemble.fingerprint
    entry = old.exact[fingerprint]
    other = entry.seeds["0"].model_copy(update={"digests": {"batches": f"blake3:{'0' * 32}"}})
    new = old.model_copy(update={"exact": {fingerprint: entry.model_copy(update={"seeds": {"0": other}})}})

    assert any("are dropped" in line for line in diff(more, new).bits)


def test_a_feature_that_appears_or_goes_has_a_row():
    change = diff(make_baseline(), make_baseline(gate={"metrics": ["recall@10"], "loss": False}))

    assert [row.feature for row in change.features if row.new is None] == ["loss/early", "loss/late", "loss/mid"]


class TestDrift:
    """Old is the second recording of a history; what is proposed would be the third."""

    ANCHOR = make_baseline(8, sd=1e-3)
    OLD = continued(ANCHOR, make_baseline(8, sd=1e-3, recall=0.1995))

    def test_a_row_says_how_far_it_is_from_the_anchor_and_what_is_allowed(self):
        change = diff(self.OLD, make_baseline(8, sd=1e-3, recall=0.199))
        row = recall_of(change)

        assert row.drift.relative == pytest.approx(-0.005)
        assert row.relative == pytest.approx(-0.0025, abs=1e-4)
        assert row.drift.cap == self.ANCHOR.declared.mdd["test/recall@10"]
        assert (
            change.anchor
            == "drift is from the anchor of 2026-08-01T12:00:00Z (first recording), 2 recordings accepted since"
        )
        assert change.refusal == ""
        assert change.anchor in notes_of(change)

    def test_too_much_drift_is_the_first_note(self):
        change = diff(self.OLD, make_baseline(8, sd=1e-3, recall=0.19))

        assert change.refusal.startswith("toy (cpu): test/recall@10 went from")
        assert notes_of(change)[0] == f"refused: {change.refusal}"
        assert diff(self.OLD, make_baseline(8, sd=1e-3, recall=0.19), new_anchor=True).refusal == ""

    def test_a_metric_that_is_gone_has_a_row_and_a_refusal(self):
        gone = self.OLD.ensemble.features.keys() - {"test/recall@10"}
        features = {name: self.OLD.ensemble.features[name] for name in gone}
        new = self.OLD.model_copy(update={"ensemble": self.OLD.ensemble.model_copy(update={"features": features})})
        change = diff(self.OLD, new)

        assert recall_of(change).new is None
        assert "test/recall@10 is gone" in change.refusal

    def test_a_training_that_cannot_be_compared_has_no_drift_yet(self):
        change = diff(self.OLD, make_baseline(8, recall=0.1, world="blake2b:new"))

        assert "a new anchor starts, for the world changed" in notes_of(change)
        assert {row.drift for row in change.features} == {None}
        assert change.refusal == ""

    def test_other_settings_do_not_forgive_a_loss(self):
        change = diff(self.OLD, make_baseline(8, sd=1e-3, recall=0.1, steps=5))

        assert "setting steps: None -> 5" in notes_of(change)
        assert "begin a new anchor" in change.refusal

    def test_a_new_anchor_shows_what_it_forgives(self):
        change = diff(self.OLD, make_baseline(8, sd=1e-3, recall=0.1), new_anchor=True)

        assert change.anchor.startswith("a new anchor starts, as asked for; drift is from the anchor of 2026-08-01")
        assert recall_of(change).drift.relative == pytest.approx(-0.5)
        assert diff(self.ANCHOR, self.ANCHOR, new_anchor=True).anchor == "a new anchor starts, as asked for"

    def test_cells(self):
        drift = Drift(feature="x", anchor=0.2, now=0.19, cap=0.0934)
        row = FeatureChange(feature="x", old=0.195, new=0.19, old_sd=0.01, drift=drift)

        assert cells_of(row) == ["0.195", "0.19", "-2.56 %", "-0.5", "-5.00 %", "9.3 %"]
        assert cells_of(FeatureChange(feature="x", old=None, new=None)) == ["-"] * 6
        assert len(COLUMNS) == 7


def test_markdown_is_a_table_that_text_cannot_break():
    change = diff(make_baseline(), make_baseline(recall=0.1))
    lines = markdown([change], reason="why |\n not").splitlines()
    table = [line for line in lines if line.startswith("|")]

    assert lines[0] == "Reason: why | not"
    assert len({line.count("|") for line in table}) == 1
    assert "| toy | test/recall@10 | 0.19" in "\n".join(table)
    assert "-50.00 %" in "\n".join(table)
    assert any("-50.00 %" in line and "| 8" in line.rpartition("-50.00 %")[2] for line in table)
