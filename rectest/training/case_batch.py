"""A user's batch, whatever it is made of, as the `Batch` that shares are cut from.

A batch is any nesting of tensors in mappings, lists, tuples and dataclasses, or an object of which the user says how
to cut rows from it. Names of its tensors are dotted paths (``negatives.ids``, ``0``); the only tensor is ``batch``.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rectest.errors import TrainingError
from rectest.systems.protocol import Batch
from rectest.training.tape import digest_tensors

__all__ = ["Cut", "TreeBatch", "as_batch"]

NumRows = Callable[[Any], int]
Shard = Callable[[Any, int, int], Any]
_PLAIN = (type(None), bool, int, float, complex, str, bytes, Enum, torch.dtype, torch.device)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """How rows are cut from a batch."""

    shared: tuple[str, ...] = ()
    """Paths, whole or their beginning, of tensors that have no row for each sample."""

    shard: Shard | None = None
    """``shard(batch, start, stop)`` gives some rows, for a batch that is no nesting of tensors."""

    num_rows: NumRows | None = None
    """How many rows such a batch has."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shared", (self.shared,) if isinstance(self.shared, str) else tuple(self.shared))
        if (self.shard is None) != (self.num_rows is None):
            msg = "shard and num_rows belong together: one cuts rows from a batch, the other counts them"
            raise ValueError(msg)

    def shares(self, path: str) -> bool:
        """Whether everybody needs the tensor at `path` whole."""
        return any(path == name or path.startswith(f"{name}.") for name in self.shared)


@dataclass(frozen=True, kw_only=True)
class TreeBatch(Batch):
    """A `Batch` whose `tree` is what the user's loss is called with; `inputs` are its tensors by path."""

    tree: Any
    cut: Cut

    @property
    def num_rows(self) -> int:
        """Samples."""
        if self.cut.num_rows is not None:
            return self.cut.num_rows(self.tree)
        return super().num_rows

    def to(self, device: torch.device) -> TreeBatch:
        """The same batch on `device`; an object that the user cuts moves itself, if it has a ``to``."""
        if self.cut.shard is None:
            return self._remade(lambda _path, value: value.to(device))
        moved = self.tree.to(device) if hasattr(self.tree, "to") else self.tree
        return dataclasses.replace(self, tree=moved)

    def rows(self, start: int, stop: int) -> TreeBatch:
        """The batch of some samples, as the user's loss takes it."""
        if self.cut.shard is None:
            shared = self.shared
            return self._remade(lambda path, v: v if v.dim() == 0 or path in shared else v[start:stop])
        piece = as_batch(self.cut.shard(self.tree, start, stop), self.cut)
        if piece.num_rows != stop - start:
            msg = f"shard(batch, {start}, {stop}) gave {piece.num_rows} rows, {stop - start} were needed"
            raise TrainingError(msg)
        return piece

    def _remade(self, change: Callable[[str, Tensor], Tensor]) -> TreeBatch:
        tree = _rebuilt(self.tree, "", change)
        return dataclasses.replace(self, tree=tree, inputs=dict(_tensors(tree, "")))


def as_batch(tree: Any, cut: Cut | None = None) -> TreeBatch:
    """Look at a user's batch: which tensors it has, and how many rows.

    Raises:
        TypeError: something in it is neither a tensor nor a plain value, and nothing says how to cut it.
        ValueError: it is empty, or its tensors have different numbers of rows.
    """
    cut = cut or Cut()
    if cut.shard is not None:
        return _opaque(tree, cut)
    tensors = dict(_tensors(_rebuilt(tree, "", lambda _path, value: value, cut), ""))
    unknown = [name for name in cut.shared if not any(Cut(shared=(name,)).shares(path) for path in tensors)]
    if unknown:
        msg = f"shared names {', '.join(unknown)}, which the batch does not have; it has {', '.join(tensors) or 'none'}"
        raise ValueError(msg)
    lengths = {path: len(value) for path, value in tensors.items() if value.dim() > 0 and not cut.shares(path)}
    if not lengths:
        msg = f"the batch has no tensor with a row for each sample; its tensors are: {', '.join(tensors) or 'none'}"
        raise ValueError(msg)
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{path} {length}" for path, length in lengths.items())
        hint = "name those without a row for each sample, e.g. shared=('negatives',)"
        msg = f"the tensors of the batch have different numbers of rows ({found}); {hint}"
        raise ValueError(msg)
    if not next(iter(lengths.values())):
        msg = f"the batch is empty: {next(iter(lengths))} has 0 rows"
        raise ValueError(msg)
    shared = frozenset(path for path in tensors if cut.shares(path))
    return TreeBatch(inputs=tensors, shared=shared, tree=tree, cut=cut)


def _opaque(tree: Any, cut: Cut) -> TreeBatch:
    """A batch that only the user can cut; its rows are known by digests of what one of them holds."""
    assert cut.shard is not None
    assert cut.num_rows is not None
    num_rows = cut.num_rows(tree)
    if isinstance(num_rows, bool) or not isinstance(num_rows, int) or num_rows < 1:
        msg = f"num_rows(batch) must be a whole number of at least 1, got {num_rows!r}"
        raise ValueError(msg)
    pieces = [cut.shard(tree, row, row + 1) for row in range(num_rows)]
    digests = [digest_tensors({str(i): value for i, value in enumerate(_held(piece))}) for piece in pieces]
    rows = torch.from_numpy(np.array(digests, dtype=np.uint64).view(np.int64))
    return TreeBatch(inputs={"rows": rows}, tree=tree, cut=cut)


def _held(value: Any, depth: int = 4) -> Iterator[Tensor]:
    """All tensors inside a value, in the order of its attributes."""
    if isinstance(value, Tensor):
        yield value.detach().cpu()
    elif depth:
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        attributes = vars(value) if hasattr(value, "__dict__") and not isinstance(value, type) else {}
        for part in [*inner, *(attributes[name] for name in sorted(attributes))]:
            yield from _held(part, depth - 1)


def _tensors(tree: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        yield path or "batch", tree
        return
    for name, value in _children(tree) or ():
        yield from _tensors(value, f"{path}.{name}" if path else name)


def _children(tree: Any) -> list[tuple[str, Any]] | None:
    """Parts of a container by name; None for what is none."""
    if isinstance(tree, Mapping):
        return [(str(key), value) for key, value in tree.items()]
    if isinstance(tree, list | tuple):
        fields = getattr(tree, "_fields", range(len(tree)))
        return [(str(name), value) for name, value in zip(fields, tree, strict=True)]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(f.name, getattr(tree, f.name)) for f in dataclasses.fields(tree)]
    return None


def _rebuilt(tree: Any, path: str, change: Callable[[str, Tensor], Tensor], cut: Cut | None = None) -> Any:
    """The same nesting with other tensors; with `cut`, what it cannot hold is refused."""
    if isinstance(tree, Tensor):
        return change(path or "batch", tree)
    children = _children(tree)
    if children is None:
        if cut is not None and not isinstance(tree, _PLAIN) and not cut.shares(path):
            raise _unknown(tree, path)
        return tree
    if cut is not None and isinstance(tree, list | tuple) and _is_column(children) and not cut.shares(path):
        raise _unknown(tree, path)
    parts = [_rebuilt(value, f"{path}.{name}" if path else name, change, cut) for name, value in children]
    return _like(tree, parts)


def _is_column(children: list[tuple[str, Any]]) -> bool:
    """Whether a list holds plain values only: perhaps one for each sample, which nobody would cut."""
    return bool(children) and all(isinstance(value, _PLAIN) for _, value in children)


def _unknown(tree: Any, path: str) -> TypeError:
    kind = type(tree).__name__
    what = f"a {kind} of plain values" if isinstance(tree, list | tuple) else f"a {kind}"
    hint = "make it a tensor, name it in shared=(...), or say how rows are cut with shard= and num_rows="
    return TypeError(f"{path or 'the batch'} is {what}, of which rows cannot be cut; {hint}")


def _like(tree: Any, parts: list[Any]) -> Any:
    """A container of the same kind with other parts."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*parts)
    if isinstance(tree, list | tuple):
        return type(tree)(parts)
    made = copy.copy(tree)
    if isinstance(tree, Mapping):
        for key, part in zip(tree, parts, strict=True):
            made[key] = part
        return made
    for field, part in zip(dataclasses.fields(tree), parts, strict=True):
        object.__setattr__(made, field.name, part)
    return made
