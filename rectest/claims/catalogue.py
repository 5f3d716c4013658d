"""All books of claims, and finding claims by report or number."""

from __future__ import annotations

from collections.abc import Sequence

from rectest.claims import (
    evaluators,
    r000,
    r001,
    r001_data,
    r001_runs,
    r002,
    r002_runs,
    r003,
    r003_runs,
    r004,
    r004_more,
    r004_runs,
)
from rectest.claims.claim import Book, Claim
from rectest.errors import UnknownNameError

__all__ = ["BOOKS", "chosen"]

_CONTINUED = (r001_data, r001_runs, r002_runs, r003_runs, r004_more, r004_runs)
"""Modules that enter further claims into the book of their report when they are imported."""

BOOKS: tuple[Book, ...] = tuple(module.BOOK for module in (r000, r001, r002, r003, r004, evaluators))


def chosen(names: Sequence[str]) -> list[Claim]:
    """The claims of the named reports (``003``) and single ones (``003.2``), in order; all of them without names.

    Raises:
        UnknownNameError: there is no such report or claim.
    """
    claims = [claim for book in BOOKS for claim in book.claims]
    reports, numbers = {claim.report for claim in claims}, {claim.number for claim in claims}
    for name in names:
        if name not in reports | numbers:
            raise UnknownNameError("claim" if "." in name else "report", name, numbers if "." in name else reports)
    wanted = set(names)
    return [claim for claim in claims if not wanted or claim.report in wanted or claim.number in wanted]
