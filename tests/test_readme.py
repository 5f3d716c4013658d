"""README.md is true: its example is run as written, its options, checks and commands exist, its two lines are two."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fixtures.inner import at_home
from rectest.cli import build_app
from rectest.faults.variants import VARIANTS
from rectest.plugin.options import add_options

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def file_in_readme(name):
    """The code block below ``<!-- file: name -->``."""
    found = re.search(rf"<!-- file: {re.escape(name)} -->\n\n```python\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no {name}"
    return found.group(1)


def setup_lines():
    return re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)


def test_it_opens_with_exactly_two_lines():
    first, second = setup_lines()

    assert "pytest -m gate" in first
    assert second.endswith(".venv/bin/pytest -n 2")
    assert README.index(second) < README.index("## ")


def test_ci_takes_its_command_from_here():
    script = (ROOT / ".ci" / "run").read_text()

    assert "README.md" in script
    assert "lines[1]" in script
    assert "pip install" not in script


def test_the_example_works_as_written(pytester, monkeypatch):
    at_home(monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("CI", raising=False)
    for name in ("my_training.py", "test_my_training.py"):
        (pytester.path / name).write_text(file_in_readme(name))

    first = pytester.runpytest_inprocess("-m", "gate", "--rectest-update=new", "--rectest-seeds=5")
    (pytester.path / "my_training.py").write_text(file_in_readme("my_training.py").replace("lr=0.03", "lr=0.003"))
    second = pytester.runpytest_inprocess("-m", "gate", "-k", "quality")

    assert first.ret == 0
    first.assert_outcomes(passed=7)
    assert (pytester.path / "baselines" / "cpu" / "my_training+train.json").exists()
    assert second.ret == 1
    second.stdout.fnmatch_lines(["*FAIL baseline/test/recall@5*"])


def test_the_parity_example_works_as_written(pytester):
    for name in ("my_parity.py", "test_my_parity.py"):
        (pytester.path / name).write_text(file_in_readme(name))

    result = pytester.runpytest_inprocess("-p", "no:xdist")

    assert result.ret == 0
    result.assert_outcomes(passed=3)


def test_every_variant_is_in_the_table_with_its_cause():
    section = README.partition("<!-- parallel -->")[2].partition("<!-- end of parallel -->")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in section.strip().splitlines()[2:]]

    assert {row[0]: row[-2] for row in rows} == {variant.name: variant.cause for variant in VARIANTS}
    assert all(re.fullmatch(r"(\d) of \1 systems", row[-1]) for row in rows)


def test_every_option_is_described_and_exists():
    class Collects:
        def __init__(self):
            self.names = set()

        def getgroup(self, *_):
            return self

        def addoption(self, name, **_):
            self.names.add(name)

        def addini(self, *_, **__):
            pass

    parser = Collects()
    add_options(parser)
    named = set(re.findall(r"--rectest-[a-z-]+", README))

    assert named == parser.names


def test_every_command_exists():
    app = build_app()
    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    named = set(re.findall(r"`rectest ([a-z]+)", README))

    assert named <= known
    assert {"train", "study", "baseline", "data", "faults"} <= named


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "rectest" / "checks").glob("[a-z]*.py")))
def test_every_check_family_is_described(name):
    helpers = {"result", "tolerance", "norms", "tablescan", "table_signal", "gradients", "trend"}
    helpers |= {"cause", "decomposition", "hypotheses", "replicas", "rows", "scene", "shares", "weights"}  # of parity
    helpers |= {"alignment", "columns", "cooccurrence", "duplicates", "fingerprints", "row_sample"}  # of tables
    helpers |= {"rowset", "rowsource", "spectrum", "table_items", "neighbours"}
    helpers |= {"mapping_entries", "mapping_events", "mapping_format", "mapping_hashes", "mapping_ids"}
    helpers |= {"mapping_indices", "mapping_numbers"}
    helpers |= {"event_log", "held_out_features", "single_record"}  # of logs and records
    called = {"candidate_sets": "`candidates`", "joint_chance": "`chance/joint`", "metric_repair": "repair"}

    assert name in helpers or called.get(name, f"`{name}`") in README


def claims_in_readme():
    """Number, words and verdict of every row of the tables of claims."""
    section = README.partition("<!-- claims -->")[2].partition("<!-- end of claims -->")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if re.match(r"\| [\w.]+\.\d+ \|", line)]
    return {row[0]: (row[1], row[-1]) for row in rows}


def test_every_claim_is_in_the_tables():
    from rectest.claims.catalogue import chosen

    assert {claim.number: claim.said for claim in chosen(())} == {
        number: said for number, (said, _) in claims_in_readme().items()
    }


def test_verdicts_that_need_no_training_are_those_of_today():
    from rectest.claims.catalogue import chosen
    from rectest.claims.runs import Runs

    quick = [claim for claim in chosen(("000", "004")) if not claim.needs_training and claim.counter]
    told = claims_in_readme()

    assert {claim.number: str(claim.judge(Runs()).verdict) for claim in quick} == {
        claim.number: told[claim.number][1] for claim in quick
    }
