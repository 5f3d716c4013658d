"""Names that are equal in another run: of models and their parts, of parameters, of the leaves of a batch.

A model is the module that is called while no other is; it is named by its class. Scripts that call the parts of a
model themselves (``loss = model.compute_loss(batch)``, a LightningModule's step) are looked through: the model is then
the outermost module that was given the part as a child. Nothing here keeps a module or a tensor alive, and no frame's
variables are read but torch's own: a script that keeps its ``locals()`` would see them change.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Place", "Root", "Roots", "argument_leaves", "leaves", "local"]

_WRAPPERS = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "OptimizedModule": "_orig_mod",
    "DeepSpeedEngine": "module",
}
"""Classes that stand around a model, and where they keep it."""

_MAX_LEAVES = 64
_MAX_DEPTH = 8
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


class Root:
    """A model and the names of its parts."""

    def __init__(self, name: str, module: Any) -> None:
        self.name = name
        self.noted = False
        """Whether its parameters have reached the tape."""
        self.at_step = 0
        """The step at whose first forward its parameters were noted last."""
        self._module = weakref.ref(module)
        self._names: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()

    @property
    def gone(self) -> bool:
        """Whether the model is no more; a part of it may have outlived it."""
        return self._module() is None

    def tensors(self, *, buffers: bool) -> list[tuple[str, Any]]:
        """Parameters, then buffers if asked for, with their qualified names."""
        module = self._module()
        if module is None:
            return []
        found = [(f"{self.name}.{name}", tensor) for name, tensor in module.named_parameters()]
        if buffers:
            found += [(f"{self.name}.{name}", tensor) for name, tensor in module.named_buffers()]
        return found

    def parts(self) -> list[Any]:
        """All modules of the model; their names are learned."""
        root = self._module()
        found = [] if root is None else list(root.named_modules())
        for name, module in found:
            self._names.setdefault(module, f"{self.name}.{name}" if name else self.name)
        return [module for _, module in found]

    def name_of(self, module: Any, caller: str) -> str:
        """Qualified name of a part; one that is no registered part is named after its caller and class."""
        name = self._names.get(module)
        if name is None:
            self.parts()
            name = self._names.get(module)
        if name is None:
            name = self._names[module] = f"{caller}.{type(module).__name__}"
        return name


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a module that was called by no other belongs."""

    root: Root
    name: str
    arguments: tuple[str, ...]
    """Names of the positional arguments of its forward."""


class Roots:
    """All models that were called, by order of their first call."""

    def __init__(self) -> None:
        self._roots: weakref.WeakKeyDictionary[Any, Root] = weakref.WeakKeyDictionary()
        self._root_of: weakref.WeakKeyDictionary[Any, Root] = weakref.WeakKeyDictionary()
        self._places: weakref.WeakKeyDictionary[Any, Place] = weakref.WeakKeyDictionary()
        self._holders: weakref.WeakKeyDictionary[Any, list[weakref.ref[Any]]] = weakref.WeakKeyDictionary()
        self._counts: Counter[str] = Counter()
        self._parameters: dict[int, tuple[weakref.ref[Any], str]] = {}

    def adopt(self, holder: Any, part: Any) -> None:
        """A module becomes a part of another."""
        self._holders.setdefault(part, []).append(weakref.ref(holder))

    def place(self, module: Any) -> Place:
        """The place of a module that is called by no other."""
        known = self._places.get(module)
        if known is None or known.root.gone:
            inner = _unwrapped(module)
            root = self._root_of.get(inner)
            root = self._root(self._owner(inner)) if root is None or root.gone else root
            known = self._places[module] = Place(root, root.name_of(inner, root.name), _positional(inner))
        return known

    def parameter_names(self, parameters: list[Any], group: list[str]) -> list[str]:
        """Name of each parameter: that of the model that holds it, else `group`'s."""
        names = [self._name_of(parameter) for parameter in parameters]
        if not all(names):
            for root in list(self._roots.values()):
                self._learn(root)
            names = [self._name_of(parameter) for parameter in parameters]
        return [name or other for name, other in zip(names, group, strict=True)]

    def _owner(self, module: Any) -> Any:
        """The outermost module that holds `module`; itself where it has no parameters to be named."""
        for _ in range(_MAX_DEPTH if _has_parameters(module) else 0):
            holders = [reference() for reference in self._holders.get(module, ())]
            holder = next((holder for holder in holders if holder is not None and _holds(holder, module)), None)
            if holder is None:
                break
            module = holder
        return _unwrapped(module)

    def _root(self, module: Any) -> Root:
        root = self._roots.get(module)
        if root is None:
            name = type(module).__name__
            if _has_parameters(module):
                self._counts[name] += 1
                name = name if self._counts[name] == 1 else f"{name}#{self._counts[name]}"
            root = self._roots[module] = Root(name, module)
            self._learn(root)
        for part in root.parts():
            self._root_of[part] = root
        return root

    def _learn(self, root: Root) -> None:
        for name, parameter in root.tensors(buffers=False):
            if not self._name_of(parameter):
                self._parameters[id(parameter)] = (weakref.ref(parameter), name)

    def _name_of(self, parameter: Any) -> str:
        known = self._parameters.get(id(parameter))
        return known[1] if known is not None and known[0]() is parameter else ""


def _unwrapped(module: Any) -> Any:
    for _ in range(4):
        inner = getattr(module, _WRAPPERS.get(type(module).__name__, ""), None)
        if inner is None:
            return module
        module = inner
    return module


def _has_parameters(module: Any) -> bool:
    return any(True for _ in module.parameters())


def _holds(module: Any, part: Any) -> bool:
    return any(child is part for child in module._modules.values())


def local(frame: Any, name: str) -> Any:
    """A variable of a running function of torch; the snapshot is emptied, or it would keep tensors alive."""
    values = frame.f_locals
    value = values.get(name)
    if type(values) is dict and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        values.clear()
    return value


def _positional(module: Any) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(parameter.name for parameter in parameters if parameter.kind in kinds)


def argument_leaves(place: Place, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The leaves of a call's arguments, named as its forward names them."""
    for number, value in enumerate(args):
        bound = number < len(place.arguments)
        yield from leaves(value, f"{place.name}.{place.arguments[number]}" if bound else f"{place.name}[{number}]")
    for key, value in kwargs.items():
        yield from leaves(value, f"{place.name}.{key}")


def leaves(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Tensors, arrays and plain values in `value` with their names: ``batch.user``, ``batch[1]``.

    A list of plain values is one leaf, and so is a list of very many items. Objects are opened when they hold a tensor
    or an array somewhere below; others are left out.
    """
    if isinstance(value, _PLAIN) or _is_array(value):
        yield name, value
    elif depth > _MAX_DEPTH:
        return
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}", depth + 1)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for key, item in zip(value._fields, value, strict=False):
            yield from leaves(item, f"{name}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        if len(value) > _MAX_LEAVES or all(isinstance(item, _PLAIN) for item in value):
            yield name, value
            return
        for place, item in enumerate(value):
            yield from leaves(item, f"{name}[{place}]", depth + 1)
    else:
        yield from _object_leaves(value, name, depth)


def _object_leaves(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """The fields of a batch object; its plain fields count only beside a tensor or an array."""
    torch = sys.modules.get("torch")
    if isinstance(value, type) or callable(value) or (torch is not None and isinstance(value, torch.nn.Module)):
        return
    fields = getattr(value, "__dict__", None)
    if not isinstance(fields, dict):
        return
    found = [leaf for key, item in list(fields.items()) for leaf in leaves(item, f"{name}.{key}", depth + 1)]
    if any(_is_array(item) for _, item in found):
        yield from found


def _is_array(value: Any) -> bool:
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    return (torch is not None and isinstance(value, torch.Tensor)) or (
        numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)
    )
