import pytest

from fixtures.baselines import make_baseline
from rectest.baseline.looks import promised_drop
from rectest.baseline.planning import MOST_STORED, plan_feature, stored_for_all
from rectest.baseline.store import BaselineStore
from rectest.cli import main

RECALL = "test/recall@10"


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    for name in ("FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    BaselineStore(tmp_path).save(make_baseline())

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["baseline", "plan", *args, "--baselines", str(tmp_path)])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


class TestPlanning:
    def test_what_was_planned_is_promised_once_it_is_stored(self):
        made = make_baseline()

        needed = plan_feature(made, RECALL, promised_drop(made, RECALL) * 1.001).num_stored

        assert needed == 16

    def test_a_smaller_drop_and_fewer_new_runs_cost_more_seeds(self):
        made = make_baseline()
        wanted = promised_drop(made, RECALL)

        seeds = [plan_feature(made, RECALL, wanted * factor).num_stored for factor in (1.5, 1.0, 0.8)]
        runs = [plan_feature(made, RECALL, wanted, num_new=most).num_stored for most in (5, 3, 2)]

        assert seeds == sorted(seeds)
        assert runs == sorted(runs)

    @pytest.mark.parametrize("feature", [RECALL, "loss/late"])
    def test_the_least_that_can_be_reached_can_and_no_less(self, feature):
        made = make_baseline()
        least = plan_feature(made, feature, 0.5).least

        assert plan_feature(made, feature, least * 1.0001).num_stored == MOST_STORED
        assert plan_feature(made, feature, least * 0.99).num_stored is None

    def test_all_features_need_what_the_neediest_does(self):
        made = make_baseline()
        plans = [plan_feature(made, name, 0.1) for name in made.ensemble.features]
        unreachable = plan_feature(made, RECALL, 0.001)

        assert stored_for_all(plans) == max(plan.num_stored for plan in plans)
        assert stored_for_all([*plans, unreachable]) is None

    @pytest.mark.parametrize(("wanted", "most", "problem"), [(0, 5, "0 and 100 %"), (0.1, 6, "2 to 5 seeds, got 6")])
    def test_mistakes(self, wanted, most, problem):
        with pytest.raises(ValueError, match=problem):
            plan_feature(make_baseline(), RECALL, wanted, num_new=most)


class TestCommand:
    def test_seeds_runs_and_cost(self, run, tmp_path):
        before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))

        code, out, _ = run("toy", "--drop", "9")

        assert code == 0
        assert "caught now (n0 16)" in out
        assert any(line.startswith(RECALL) and line.split()[-1].isdigit() for line in out.splitlines())
        assert "all test values: " in out
        assert "a gate then" in out
        assert max(len(line) for line in out.splitlines()) <= 80
        assert before == sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))

    def test_what_cannot_be_reached_is_said(self, run):
        code, out, _ = run("toy", "--drop", "0.1")

        assert code == 0
        assert "all features: out of reach" in out
        assert f"unreachable: even {MOST_STORED} stored seeds and 5 runs catch no less than" in out

    @pytest.mark.parametrize(
        ("args", "problem"),
        [(("toy", "--drop", "0"), "between 0 and 100 %"), (("tay", "--drop", "5"), "unknown baseline 'tay'")],
    )
    def test_mistakes_are_one_line(self, run, args, problem):
        code, _, err = run(*args)

        assert code == 2
        assert problem in err
