"""`rectest why` on a framework as it is: RecBole trains SASRec on MovieLens-100K, in an environment without rectest.

It needs an interpreter that has RecBole 1.2.1, and is skipped without one:

    python3.11 -m venv VENV && VENV/bin/pip install -r tests/external/recbole-requirements.txt
    RECTEST_RECBOLE_PYTHON=VENV/bin/python pytest tests/external -m slow

The data come with RecBole's wheel and stay there. A fault is planted in a copy of the package in the working directory
of the run, where Python finds it before the installed one; the clean run is the installed one, untouched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from rectest.divergence.details import Details, read_details
from rectest.divergence.finding import DIVERGED, IDENTICAL

SCRIPT = Path(__file__).with_name("recbole_train.py")
PYTHON = os.environ.get("RECTEST_RECBOLE_PYTHON", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="RECTEST_RECBOLE_PYTHON names no interpreter that has RecBole"),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plant:
    """A fault: what is replaced in a file of RecBole, and what must be said about it."""

    file: str
    edits: Mapping[str, str]
    """Old text, which must be there, to new text."""

    line: str
    """The new line at which the difference enters."""

    stage: str
    kind: str = "generator"
    """Kind of the cause."""


PLANTS = {
    # the sampler has a generator of its own, and nobody has seeded it
    "negatives": Plant(
        file="recbole/sampler/sampler.py",
        edits={
            "from collections import Counter\n": "from collections import Counter\n\nrng = np.random.default_rng()\n",
            "np.random.randint(1, self.item_num, sample_num)": "rng.integers(1, self.item_num, sample_num)",
        },
        line="rng = np.random.default_rng()",
        stage="negatives",
    ),
    # users and items get their ids in the order in which a set of their names is iterated
    "ids": Plant(
        file="recbole/data/dataset/dataset.py",
        edits={
            "        new_ids_list, mp = pd.factorize(tokens)\n": """\
        mp = np.array(list(set(tokens)))
        place = {token: index for index, token in enumerate(mp)}
        new_ids_list = np.array([place[token] for token in tokens])
"""
        },
        line="mp = np.array(list(set(tokens)))",
        stage="id_map",
        kind="hash_order",
    ),
    # the loader's generator is seeded by the operating system
    "shuffle": Plant(
        file="recbole/data/dataloader/abstract_dataloader.py",
        edits={'self.generator.manual_seed(config["seed"])': "self.generator.seed()"},
        line="self.generator.seed()",
        stage="batch",
        kind="seed",
    ),
    # parameters are drawn from a generator that is seeded by the clock
    "init": Plant(
        file="recbole/model/sequential_recommender/sasrec.py",
        edits={
            "import torch\nfrom torch import nn\n": "import time\n\nimport torch\nfrom torch import nn\n",
            "import BPRLoss\n": "import BPRLoss\n\nnoise = torch.Generator().manual_seed(time.time_ns())\n",
            "std=self.initializer_range)": "std=self.initializer_range, generator=noise)",
        },
        line="noise = torch.Generator().manual_seed(time.time_ns())",
        stage="init",
        kind="seed",
    ),
    # a dropout with noise of its own
    "dropout": Plant(
        file="recbole/model/sequential_recommender/sasrec.py",
        edits={
            "import BPRLoss\n": "import BPRLoss\n\nnoise = torch.Generator()\nnoise.seed()\n",
            "        input_emb = self.dropout(input_emb)\n": """\
        if self.training:
            input_emb = input_emb * 2 * torch.rand(input_emb.shape, generator=noise).gt(0.5)
""",
        },
        line="noise.seed()",
        stage="forward",
        kind="seed",
    ),
    # the log shows as many random numbers as the clock says, drawn from the generator that dropout draws from
    "evaluation": Plant(
        file="recbole/trainer/trainer.py",
        edits={
            "        valid_score = calculate_valid_score(": """\
        self.logger.info(torch.rand(1 + int(time() * 1e6) % 1000).mean())
        valid_score = calculate_valid_score("""
        },
        line="self.logger.info(torch.rand(1 + int(time() * 1e6) % 1000).mean())",
        stage="rng_evaluation",
        kind="extra_draws",
    ),
    # training starts from what the run before has left
    "resume": Plant(
        file="recbole/trainer/trainer.py",
        edits={
            "        self.eval_collector.data_collect(train_data)\n        if": """\
        self.eval_collector.data_collect(train_data)
        for kept in os.listdir(self.checkpoint_dir):
            checkpoint = torch.load(os.path.join(self.checkpoint_dir, kept))
            self.model.load_state_dict(checkpoint["state_dict"])
        if"""
        },
        line="checkpoint = torch.load(os.path.join(self.checkpoint_dir, kept))",
        stage="resume",
        kind="file",
    ),
}


@pytest.fixture(scope="module")
def package() -> Path:
    """RecBole as it is installed; an interpreter that was named and has none is an error, not a reason to skip."""
    code = "import importlib.util as u, os; print(os.path.dirname(u.find_spec('recbole').origin))"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, f"RECTEST_RECBOLE_PYTHON ({PYTHON}) has no RecBole: {done.stderr}"
    return Path(done.stdout.strip())


def planted(folder: Path, package: Path, plant: Plant) -> str:
    """Copy the package into `folder` with the fault in it; where it is, as sites are written."""
    shutil.copytree(package, folder / "recbole", ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / plant.file
    text = file.read_text()
    for old, new in plant.edits.items():
        assert old in text, f"{old!r} is not in {plant.file}"
        text = text.replace(old, new)
    file.write_text(text)
    number = 1 + [line.strip() for line in text.splitlines()].index(plant.line)
    return f"{plant.file}:{number}"


def why(folder: Path, *options: str, code: int) -> Details:
    """Watch the script in a working directory, and read what was found."""
    shutil.copy(SCRIPT, folder)
    details = folder.parent / "details.json"
    command = [sys.executable, "-m", "rectest", "why", "--json", str(details), *options, "--", PYTHON, SCRIPT.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert code == done.returncode, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) <= 25
    return read_details(details)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working directory of a run."""
    made = tmp_path / "project"
    made.mkdir()
    return made


def test_a_framework_that_keeps_its_seeds_is_identical_and_unharmed(folder, package):
    details = why(folder, code=0)

    assert IDENTICAL == details.finding.verdict
    assert 18 == min(details.finding.num_steps)
    assert [SCRIPT.name] == [file.name for file in folder.iterdir()]


@pytest.mark.parametrize("name", PLANTS)
def test_each_planted_fault_is_located_to_its_line(folder, package, name):
    plant = PLANTS[name]
    site = planted(folder, package, plant)

    finding = why(folder, code=1).finding

    assert (DIVERGED, plant.stage) == (finding.verdict, finding.stage)
    assert (site, plant.kind) == (finding.causes[0].site.rpartition(":")[0], finding.causes[0].kind)


@pytest.mark.parametrize("name", ["negatives"])
def test_a_fault_is_confirmed_by_holding_it_still(folder, package, name):
    site = planted(folder, package, PLANTS[name])

    details = why(folder, "--confirm", code=1)

    assert details.confirmed
    assert [site] == [cause.site.rpartition(":")[0] for cause in details.finding.causes if cause.confirmed]
