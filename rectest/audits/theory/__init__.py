"""Why each property that an audit judges is one: a few sentences, a formula where there is one, a source.

One file for each kind of artefact holds ``THEORY``, from the code of a check to its `Theory`; a check whose code ends
in a measure (``chance/hit@10``) is found by the part before the slash. Texts only; the limits are in `rectest.checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from rectest.errors import UnknownNameError

__all__ = ["KINDS", "Theory", "theories", "theory_of"]

KINDS = ("tables", "mappings", "metrics", "data")


@dataclass(frozen=True, kw_only=True, slots=True)
class Theory:
    """What is behind one check."""

    claim: str
    """What holds for every sound artefact, in one sentence."""

    why: str
    """Why it must hold, with the formula and its source."""

    red: str
    """What a violation looks like from outside, and which mistakes cause it."""

    exempt: str = ""
    """Where it need not hold, and how to say so."""


def theories() -> Mapping[str, Theory]:
    """Every code with its theory, in the order of the codes."""
    found: dict[str, Theory] = {}
    for kind in KINDS:
        found |= import_module(f"rectest.audits.theory.{kind}").THEORY
    return dict(sorted(found.items()))


def theory_of(code: str) -> Theory:
    """The theory of a check.

    Raises:
        UnknownNameError: no audit gives such a code.
    """
    known = theories()
    for name in (code, code.partition("/")[0]):
        if name in known:
            return known[name]
    raise UnknownNameError("check", code, known)
