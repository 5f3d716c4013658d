import pytest

from fixtures.baselines import make_environment, make_record, make_twins
from rectest.baseline.build import ROUNDING
from rectest.baseline.recording import record_baseline
from rectest.baseline.store import BaselineStore, StoredName
from rectest.errors import ChildFailed, UpdateRefused
from rectest.record import RunRecord, RunSpec

SPEC = RunSpec(system="toy", seed=3)


class Trainer:
    """Gives hand-made runs and remembers what it was asked for."""

    def __init__(self, *, plantable: bool = True) -> None:
        self.asked: list[RunSpec] = []
        self.plantable = plantable

    def __call__(self, specs):
        self.asked += specs
        return [self.run(spec) for spec in specs]

    def run(self, spec: RunSpec) -> RunRecord:
        clean = make_record(spec.seed)
        record = make_twins([clean])[0] if spec.plant == ROUNDING else clean
        settings = {"settings": {"eval_every": 5}} if self.plantable else {}
        return RunRecord(
            spec=spec, environment=make_environment(), arrays=record.arrays, facts={**record.facts, **settings}
        )


def test_seeds_and_then_their_twins_are_trained_and_can_be_saved(tmp_path):
    train, store = Trainer(), BaselineStore(tmp_path)
    made = record_baseline(SPEC, train, num_seeds=5, reason="first")

    seeds = [SPEC.with_(seed=seed) for seed in range(3, 8)]
    assert train.asked == [*seeds, *(spec.with_(plant=ROUNDING) for spec in seeds)]
    assert made.baseline.ensemble.seeds == (3, 4, 5, 6, 7)
    assert made.baseline.provenance.reason == "first"
    assert "prefix/twin" in made.sidecar

    store.save(made.baseline, sidecar=made.sidecar)
    _, sidecar = store.read_whole(StoredName(env_class="cpu", system="toy"))

    assert sidecar["seeds"].tolist() == [3, 4, 5, 6, 7]


def test_a_function_that_cannot_be_planted_has_no_twins():
    train = Trainer(plantable=False)
    made = record_baseline(SPEC, train, num_seeds=5, reason="first")

    assert len(train.asked) == 5
    assert made.baseline.ensemble.twins == {}
    assert "prefix/twin" not in made.sidecar


@pytest.mark.parametrize(
    ("spec", "num_seeds", "reason", "error", "problem"),
    [
        (SPEC, 4, "why", UpdateRefused, "4 seeds cannot carry a gate, at least 5"),
        (SPEC, 0, "why", UpdateRefused, "0 seeds cannot carry a gate"),
        (SPEC, 5, "  ", ValueError, "needs a reason"),
        (SPEC.with_(plant="m:f"), 5, "why", UpdateRefused, "a run with a planted fault never becomes a baseline"),
    ],
)
def test_what_can_be_refused_before_training_is(spec, num_seeds, reason, error, problem):
    train = Trainer()

    with pytest.raises(error, match=problem):
        record_baseline(spec, train, num_seeds=num_seeds, reason=reason)
    assert train.asked == []


def test_a_training_that_fails_records_nothing():
    def train(specs):
        raise ChildFailed("toy", reason="raised", detail="out of memory")

    with pytest.raises(ChildFailed, match="out of memory"):
        record_baseline(SPEC, train, num_seeds=5, reason="why")
