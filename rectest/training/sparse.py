"""Sparse gradients for the embedding tables of any model that can have them.

A table that is only ever looked up can hand its optimizer the rows that were read, and nothing of the rest. One that
is also read as a matrix (an output layer tied to it, a full softmax) cannot: the sum of a sparse and a dense gradient
is dense, and switching its ``sparse`` flag costs time for nothing. Which is which is no question of its class, so one
backward pass on a copy of the model answers it. Optimizers are not owned here: SGD, Adagrad and SparseAdam take
sparse gradients, Adam and AdamW refuse them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["make_sparse", "sparse_tables"]


def sparse_tables(model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> tuple[str, ...]:
    """Names of the parameters whose gradients are sparse if all tables are switched to it; `model` stays as it is.

    Tables that the loss does not reach, that do not train, or that scale their gradients by frequency (which torch
    cannot do for sparse ones) are not among them.

    Args:
        loss: the scalar loss of the model that it is given, on a batch that reads every table.

    Raises:
        ValueError: the loss is not a scalar with a gradient.
    """
    trial = copy.deepcopy(model)
    tables = _tables(trial)
    for table in tables.values():
        table.sparse = True
    with torch.enable_grad():
        found = loss(trial)
    if found.numel() != 1 or not found.requires_grad:
        msg = f"loss must give a scalar with a gradient, got shape {tuple(found.shape)}; give a loss of its argument"
        raise ValueError(msg)
    if not tables:
        return ()
    gradients = torch.autograd.grad(found, [table.weight for table in tables.values()], allow_unused=True)
    return tuple(
        name
        for name, value in zip(tables, gradients, strict=True)
        if value is not None and value.layout != torch.strided
    )


def make_sparse(model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> tuple[str, ...]:
    """Switch the tables of `sparse_tables` to sparse gradients; their names.

    Args:
        loss: as for `sparse_tables`; it is called once, on a copy, so that nothing of `model` moves but the flags.

    Raises:
        ValueError: the loss is not a scalar with a gradient.
    """
    names = sparse_tables(model, loss)
    tables = _tables(model)
    for name in names:
        tables[name].sparse = True
    return names


def _tables(model: nn.Module) -> dict[str, nn.Embedding | nn.EmbeddingBag]:
    """The tables that may have sparse gradients, by the name of their parameter; a table under two names once."""
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        names[id(module.weight)]: module
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
        and id(module.weight) in names
        and not module.scale_grad_by_freq
        and getattr(module, "mode", "sum") != "max"
    }
