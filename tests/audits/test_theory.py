"""The theories: every one complete, found by its code or its family, and near names for a wrong one."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from rectest.audits.theory import KINDS, theories, theory_of
from rectest.checks.single_record import SINGLE
from rectest.errors import UnknownNameError

CHECKS = Path(__file__).parents[2] / "rectest" / "checks"
MINE = ("event_log", "splits", "stages", "held_out_features", "candidate_sets")
FAMILIES = {"data", "splits", "stages", "leak", "candidates"}


RECORD_FAMILIES = {"chance", "checkpoint", "coherence", "configuration", "embeddings", "evaluation", "floor", "fusion"}
RECORD_FAMILIES |= {"invariance", "learning", "mapping", "purity", "ranges"}
OTHERS = {"configuration/ablation", "configuration/reaches", "evaluation/cache_key"}
CODE = re.compile(r"[a-z_]+/[a-z_]+")


def constants(path):
    """All texts in a source file, f-strings by their constant parts."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def known(code):
    """Whether the code, or its family, is explained."""
    try:
        return bool(theory_of(code))
    except UnknownNameError:
        return False


def codes_in(module):
    """Texts such as ``data/returns`` of the families of data, f-strings by their constant part."""
    texts = constants(CHECKS / f"{module}.py")
    return {text for text in texts if text.partition("/")[0] in FAMILIES and "/" in text and " " not in text}


@pytest.mark.parametrize("module", MINE)
def test_every_code_of_the_checks_of_data_has_a_theory(module):
    """Read from the source, so that a new check cannot be forgotten."""
    names = theories()
    codes = codes_in(module)

    assert codes
    assert {code for code in codes if not any(name.startswith(code) for name in names)} == set()


@pytest.mark.parametrize("single", SINGLE, ids=lambda single: single.name)
def test_every_check_of_a_record_has_a_theory(single):
    """The codes that stand in the module of each check of the list; checks of two runs are not asked of a file."""
    texts = constants(Path(import_module(single.judge.__module__).__file__))
    codes = {text for text in texts if CODE.fullmatch(text) and text.partition("/")[0] in RECORD_FAMILIES} - OTHERS

    assert {code for code in codes if not known(code)} == set()


def test_every_theory_is_complete():
    """A claim, a reason, what red looks like; sentences without blanks at the ends."""
    for code, theory in theories().items():
        for text in (theory.claim, theory.why, theory.red):
            assert text, code
            assert text.endswith((".", ")")), (code, text)
            assert text == " ".join(text.split()), code


def test_no_code_is_told_twice():
    """Each code belongs to one kind of artefact."""
    told = [code for kind in KINDS for code in import_module(f"rectest.audits.theory.{kind}").THEORY]

    assert sorted(set(told)) == sorted(told)


def test_a_family_stands_for_its_members():
    """``effect/anything`` is found under ``effect``."""
    assert theory_of("effect/num_draws") is theory_of("effect")


def test_an_unknown_code_is_answered_with_the_nearest():
    """A misspelt one."""
    with pytest.raises(UnknownNameError, match="did you mean 'splits/time_order'"):
        theory_of("splits/time_ordr")
