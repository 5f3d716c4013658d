"""Shares: whether the samples of all ranks together are the batch of one process, each of them once.

Samples are known by digests, so their order and their owner do not matter. Whether their gradients are then combined
rightly is for `rectest.checks.parity`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rectest.checks.result import CheckResult, count_of, judged, not_measured, sample
from rectest.record import RunRecord

__all__ = ["Shares", "compare_shares", "shares_make_the_batch"]

_CHECK = "parity/shares"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """The samples of all ranks against those of one process, as multisets."""

    num_rows: int
    """Samples of one process."""

    num_shared_out: int
    """Samples of all ranks together."""

    extra: int
    """Samples that are trained on more often than in one process."""

    missing: int
    """Samples of one process that no rank has (or too few have)."""

    extra_inputs: int
    """`extra`, when negatives are left out of a sample."""

    missing_inputs: int
    shared: tuple[str, ...]
    """Tensors without rows (such as shared negatives) in which a rank differs from one process."""

    repeated: tuple[int, ...]
    """Ranks that hold a sample which occurs too often; for all ranks the same sample, all of them."""

    @property
    def wrong_rows(self) -> bool:
        """Whether the inputs themselves are other samples."""
        return bool(self.extra_inputs or self.missing_inputs)

    @property
    def negatives_apart(self) -> bool:
        """Whether the inputs are right and only negatives, or what is shared, are not those of one process."""
        return not self.wrong_rows and bool(self.extra or self.missing or self.shared)

    @property
    def sentence(self) -> str:
        """What is wrong, with numbers; empty where nothing is."""
        if self.wrong_rows:
            where = f" (on ranks {', '.join(map(str, self.repeated))})" if self.repeated else ""
            return (
                f"{count_of(self.extra_inputs, self.num_shared_out, 'samples')} are trained on more often than in one "
                f"process{where} and {count_of(self.missing_inputs, self.num_rows, 'samples')} by no rank"
            )
        if not self.negatives_apart:
            return ""
        what = f"the negatives of {count_of(self.missing, self.num_rows, 'samples')}" if self.missing else ""
        named = f"the shared {sample(self.shared)}" if self.shared else ""
        both = " and ".join(part for part in (what, named) if part)
        return f"inputs are right, but {both} are not those of one process: they depend on rank or number of ranks"


def shares_make_the_batch(single: RunRecord, ranks: Sequence[RunRecord]) -> list[CheckResult]:
    """``parity/shares``: each sample of the batch of one process is on exactly one rank, with the same negatives."""
    subject = f"{single.spec.system} on {len(ranks)} ranks"
    if problem := _unusable(single, ranks):
        return [not_measured(_CHECK, subject, problem)]
    found = compare_shares(single, ranks)
    return [
        judged(
            _CHECK,
            subject,
            ok=not (found.wrong_rows or found.negatives_apart),
            figure=f"{found.num_shared_out} samples on {len(ranks)} ranks",
            expected=f"the {found.num_rows} samples of one process",
            limit="each on exactly one rank, with the same negatives",
            outside=count_of(max(found.extra, found.missing), found.num_rows, "samples"),
            detail=found.sentence,
            advice="draw the batch and its negatives as one process does, then take the rows of the rank",
        )
    ]


def compare_shares(single: RunRecord, ranks: Sequence[RunRecord]) -> Shares:
    """The samples of all ranks against those of one process; keys that a record lacks count as no samples."""
    one, many = _counts([single], "rows/digest"), _counts(ranks, "rows/digest")
    key = "rows/inputs" if "rows/inputs" in single else "rows/digest"
    one_inputs, many_inputs = _counts([single], key), _counts(ranks, key)
    too_often = many_inputs - one_inputs
    return Shares(
        num_rows=one.total(),
        num_shared_out=many.total(),
        extra=(many - one).total(),
        missing=(one - many).total(),
        extra_inputs=too_often.total(),
        missing_inputs=(one_inputs - many_inputs).total(),
        shared=_shared_apart(single, ranks),
        repeated=tuple(r for r, record in enumerate(ranks) if set(_counts([record], key)) & set(too_often)),
    )


def _unusable(single: RunRecord, ranks: Sequence[RunRecord]) -> str:
    if not ranks or any("rows/digest" not in record for record in (single, *ranks)):
        return "digests of the samples are needed of one process and of every rank (rows/digest)"
    if not len(single["rows/digest"]):
        return "the batch of one process is empty"
    places = [(_parallel(record).get("rank", r), _parallel(record).get("world_size")) for r, record in enumerate(ranks)]
    if any(size not in (None, len(ranks)) for _, size in places) or [r for r, _ in places] != list(range(len(ranks))):
        found = sample(f"rank {rank} of {size}" for rank, size in places)
        return f"need every rank of one job in turn, found {found}"
    return ""


def _parallel(record: RunRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = record.facts.get("parallel") or {}
    return found


def _counts(records: Sequence[RunRecord], key: str) -> Counter[tuple[int, ...]]:
    return Counter(tuple(row) for record in records if key in record for row in record[key].tolist())


def _shared_apart(single: RunRecord, ranks: Sequence[RunRecord]) -> tuple[str, ...]:
    """Names of shared tensors that a rank has otherwise, of the ranks that say what they share."""
    expected = _shared(single)
    found = [_shared(record) for record in ranks if "shared" in _parallel(record)]
    names = dict.fromkeys([*expected, *(name for shared in found for name in shared)])
    return tuple(name for name in names if any(shared.get(name) != expected.get(name) for shared in found))


def _shared(record: RunRecord) -> dict[str, list[int]]:
    names = _parallel(record).get("shared") or []
    digests = record["rows/shared"].tolist() if "rows/shared" in record else []
    return dict(zip(names, digests, strict=False))
