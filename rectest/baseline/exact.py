"""The bits of a run in a form that can be stored: one digest per group of arrays, in the order of training.

The order lets a difference be named by its first group: a changed batch makes every later group differ too.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

from rectest.baseline.schema import SeedEntry
from rectest.errors import RecordError
from rectest.record import RunRecord

__all__ = ["GROUPS", "describe_change", "differing_groups", "digests", "final_values", "seed_entry"]

GROUPS: dict[str, tuple[str, ...]] = {
    "id_map": ("tape/id_map", "idmap/"),
    "init": ("tape/init", "table_init/"),
    "batches": ("tape/batch",),
    "negatives": ("tape/negatives",),
    "losses": ("tape/loss", "loss/"),
    "gradients": ("tape/gradients", "grad/"),
    "tables": ("tape/parameters", "table/"),
    "ranks": ("ranks/",),
    "metrics": ("eval/", "metric/"),
}
"""Group of arrays to the prefixes of its keys, in the order in which training passes through them."""


def seed_entry(record: RunRecord) -> SeedEntry:
    """What a baseline stores about one run's bits.

    Raises:
        RecordError: the record has none of the groups, or a final value that is not finite.
    """
    found, values = digests(record), final_values(record)
    if not found:
        msg = f"record of {record.spec.describe()} has no array that a baseline stores ({', '.join(GROUPS)})"
        raise RecordError(msg)
    for name, value in values.items():
        if not math.isfinite(value):
            msg = f"record of {record.spec.describe()}: {name} is {value!r}, needed a finite number"
            raise RecordError(msg)
    return SeedEntry(digests=found, values=values)


def digests(record: RunRecord) -> dict[str, str]:
    """Digest of every group of which the record has at least one array."""
    present = {
        name: prefixes for name, prefixes in GROUPS.items() if any(k.startswith(prefixes) for k in record.arrays)
    }
    return {name: record.digest(*prefixes) for name, prefixes in present.items()}


def final_values(record: RunRecord) -> dict[str, float]:
    """Last value of every test and validation measure and of the total loss, for people to read beside a digest."""
    names = [f"{split}/{name}" for split in ("test", "valid") for name in record.names(f"metric/{split}/")]
    values = {name: record.final(name) for name in names if record[f"metric/{name}"].size}
    loss = record.arrays.get("loss/total")
    return values if loss is None or loss.size == 0 else {**values, "loss/total": float(loss[-1])}


def differing_groups(expected: Mapping[str, str], obtained: Mapping[str, str]) -> list[str]:
    """Groups whose digests differ or that only one side has, in the order of training."""
    names = [*GROUPS, *sorted((expected.keys() | obtained.keys()) - GROUPS.keys())]
    return [name for name in names if expected.get(name) != obtained.get(name)]


def describe_change(expected: float, obtained: float) -> str:
    """Both numbers at full precision and their distance.

    >>> describe_change(0.25, 0.2)
    'expected 0.25, obtained 0.2 (-20 %)'
    >>> describe_change(0.1 + 0.2, 0.3)
    'expected 0.30000000000000004, obtained 0.3 (1 ulp)'
    """
    return f"expected {expected!r}, obtained {obtained!r} ({_distance(expected, obtained)})"


def _distance(expected: float, obtained: float) -> str:
    if not (math.isfinite(expected) and math.isfinite(obtained)):
        return "not finite"
    ulps = abs(_ordinal(expected) - _ordinal(obtained))
    if ulps <= 1000:
        return f"{ulps} ulp"
    return f"{100 * (obtained / expected - 1):+.3g} %" if expected else f"{obtained - expected:+.3g}"


def _ordinal(value: float) -> int:
    """Position of a float among all floats, so that neighbours differ by one and both zeros are 0."""
    bits = int.from_bytes(struct.pack("<d", value), "little", signed=True)
    return bits if bits >= 0 else -(bits & 0x7FFF_FFFF_FFFF_FFFF)
