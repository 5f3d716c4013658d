"""128-bit digests of whatever a script computes with: tensors, arrays, plain values and containers of them.

A digest covers dtype, shape and every bit of every number, in order: -0.0 is not 0.0 and one NaN is not another. The
same numbers in a tensor and in an array have the same digest; values that stand for no numbers (fake, functional and
transformed tensors) have none. Memory of the processor is read in place; what lies on a device is summed up there by
`lanes`, so that only 16 bytes come back. Owned by others: names of leaves (`naming`), events (the installers).
"""

from __future__ import annotations

import ctypes
import dataclasses
import struct
import sys
from array import array
from collections.abc import Mapping
from enum import Enum
from math import gcd
from typing import Any

from .hashing import digest_bytes
from .lanes import lanes_of

__all__ = ["EMPTY", "Part", "digest_value", "join", "parts_of"]

Part = bytes | Any
"""Bytes, or a tensor of two int64 on a device that becomes 16 bytes when it is fetched (see `lanes`)."""

EMPTY = ""
"""The digest of what has no numbers to read."""

_MAX_DEPTH = 16
_HEADERS: dict[tuple[Any, Any], bytes] = {}
_BUFFERS: dict[int, Any] = {}
_SPEAKING = frozenset({"datetime", "decimal", "fractions", "pathlib", "uuid", "ipaddress", "zoneinfo"})
"""Modules whose objects say in their text all that they are."""


def digest_value(value: Any, *, sample: int = 0) -> str:
    """32 hex digits for a tensor, array, plain value or container; empty for what has no numbers to read.

    Args:
        value: anything; an object of an unknown class counts as its class.
        sample: about so many elements of each tensor instead of all; a sampled digest equals no full one.
    """
    parts = parts_of(value, sample=sample)
    if not parts:
        return EMPTY
    return digest_bytes(join(parts)).hex()


def join(parts: list[Part]) -> bytes:
    """The bytes of all parts; waits for the device when one lies there."""
    return b"".join(part if isinstance(part, bytes) else _fetched(part) for part in parts)


def parts_of(value: Any, *, sample: int = 0) -> list[Part]:
    """What a digest of `value` is made of; `join` it, or let `lanes.Late` fetch the parts on devices at one go."""
    parts: list[Part] = []
    _gather(value, parts, sample, 0)
    return parts


def _fetched(lanes: Any) -> bytes:
    return struct.pack("<2q", *lanes.tolist())


def _gather(value: Any, parts: list[Part], sample: int, depth: int) -> None:
    if (torch := sys.modules.get("torch")) is not None and isinstance(value, getattr(torch, "Tensor", ())):
        _gather_tensor(value, parts, sample, depth)
    elif isinstance(value, bool | int | float | complex | str | bytes | bytearray | type(None)):
        parts.append(_plain(value))
    elif (numpy := sys.modules.get("numpy")) is not None and isinstance(value, numpy.ndarray | numpy.generic):
        _gather_array(numpy.asarray(value), parts, sample, depth)
    elif depth > _MAX_DEPTH:
        parts.append(f"deep {type(value).__qualname__}\0".encode())
    else:
        _gather_container(value, parts, sample, depth + 1)


def _gather_container(value: Any, parts: list[Part], sample: int, depth: int) -> None:
    if isinstance(value, Mapping):
        parts.append(b"dict %d\0" % len(value))
        for key, item in value.items():
            _gather(key, parts, sample, depth)
            _gather(item, parts, sample, depth)
    elif isinstance(value, list | tuple):
        parts.append(b"%s %d\0" % (b"list" if isinstance(value, list) else b"tuple", len(value)))
        packed = _packed(value)
        for item in value if packed is None else ():
            _gather(item, parts, sample, depth)
        if packed is not None:
            parts.append(packed)
    elif isinstance(value, set | frozenset):
        parts.append(b"set %d\0" % len(value) + b"".join(sorted(digest_value(item).encode() for item in value)))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _gather(
            {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}, parts, sample, depth
        )
    else:
        parts.append(_described(value))


def _described(value: Any) -> bytes:
    kind = type(value)
    if isinstance(value, Enum) or kind.__module__.partition(".")[0] in _SPEAKING or kind in (range, slice):
        return f"{kind.__qualname__} {value!r}\0".encode()
    if kind.__module__ == "torch" and kind.__name__ in ("dtype", "device", "layout", "Size"):
        return f"{value}\0".encode()
    return f"object {kind.__module__}.{kind.__qualname__}\0".encode()


def _plain(value: Any) -> bytes:
    """Kind, length where it varies, and every bit."""
    kind = type(value)
    if kind is float:
        return b"float" + struct.pack("<d", value)
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        return b"str %d\0" % len(data) + data
    if isinstance(value, bytes | bytearray):
        return b"bytes %d\0" % len(value) + bytes(value)
    if isinstance(value, complex):
        return b"complex" + struct.pack("<2d", value.real, value.imag)
    if isinstance(value, float):
        return b"float" + struct.pack("<d", float(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return b"int %d\0" % int(value)
    return f"{value}\0".encode()


def _packed(values: list[Any] | tuple[Any, ...]) -> bytes | None:
    """Long lists of plain numbers or texts at one go; None for others."""
    kinds = set(map(type, values))
    if len(kinds) != 1:
        return None
    kind = kinds.pop()
    data: Any
    try:
        if kind in (int, bool):
            data = array("q", values)
        elif kind is float:
            data = array("d", values)
        else:
            data = repr(values).encode("utf-8", "surrogatepass") if kind is str else None
    except OverflowError:
        return None
    return None if data is None else kind.__name__.encode() + digest_bytes(data)


def _gather_array(value: Any, parts: list[Part], sample: int, depth: int) -> None:
    if value.dtype.hasobject:
        parts.append(f"objects {value.shape}\0".encode())
        _gather(value.ravel().tolist(), parts, sample, depth + 1)
        return
    native = value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))
    name = native.dtype.name if native.dtype.kind in "biufc" else str(native.dtype)
    step = _sample_step(native.size, sample)
    if step > 1:
        native = native.reshape(-1)[::step]
    parts.append(_header(name, tuple(value.shape), step))
    flat = native.reshape(-1)
    flat = flat if flat.flags.c_contiguous else flat.copy()
    parts.append(digest_bytes(flat.view("u1") if flat.size else b""))


def _sample_step(size: int, sample: int) -> int:
    """Distance of the elements to read; it shares no divisor with the size, so that no column is left out for good."""
    if sample <= 0 or size <= sample:
        return 1
    step = -(-size // sample)
    while gcd(step, size) != 1:
        step += 1
    return step


def _header(dtype: Any, shape: Any, step: int = 1, kind: str = "") -> bytes:
    if step == 1 and not kind:
        known = _HEADERS.get((dtype, shape))
        if known is not None:
            return known
    name = str(dtype).removeprefix("torch.")
    header = f"{kind}{name}{tuple(shape)}{f'every {step}' if step > 1 else ''}\0".encode()
    if step == 1 and not kind:
        if len(_HEADERS) > 10_000:
            _HEADERS.clear()
        _HEADERS[dtype, shape] = header
    return header


def _gather_tensor(value: Any, parts: list[Part], sample: int, depth: int) -> None:
    torch = sys.modules["torch"]
    size = len(parts)
    try:
        if type(value) in (torch.Tensor, torch.nn.Parameter) and value.is_cpu and not sample and value.is_contiguous():
            if not (value.is_neg() or value.is_quantized or value.is_complex()) and _gather_memory(value, parts):
                return
            del parts[size:]
    except (RuntimeError, NotImplementedError):
        del parts[size:]
    try:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            _gather_any_tensor(torch, value, parts, sample, depth)
    except (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError):
        # It holds no numbers now: it is being traced, transformed, or only promised.
        del parts[size:]


def _gather_memory(value: Any, parts: list[Part], header: bytes | None = None) -> bool:
    """Reads the memory of a dense, contiguous tensor; `Tensor.numpy` would forbid the script to resize it.

    False for one without memory (a functional tensor, a shard that was freed): nothing was read.
    """
    address, size = value.data_ptr(), value.nbytes
    parts.append(header or _header(value.dtype, value.shape))
    if not address or not size:
        parts.append(digest_bytes(b""))
        return not size
    kind = _BUFFERS.get(size)
    if kind is None:
        if len(_BUFFERS) > 10_000:
            _BUFFERS.clear()
        kind = _BUFFERS[size] = ctypes.c_char * size
    parts.append(digest_bytes(kind.from_address(address)))
    return True


def _gather_any_tensor(torch: Any, value: Any, parts: list[Part], sample: int, depth: int) -> None:
    if torch._C._functorch.is_functorch_wrapped_tensor(value) or torch._is_functional_tensor(value):
        return
    if isinstance(value, torch.nn.parameter.UninitializedTensorMixin):
        parts.append(_header(value.dtype, (), kind="uninitialized "))
    elif type(value) not in (torch.Tensor, torch.nn.Parameter):
        _gather_subclass(torch, value, parts, sample, depth)
    elif value.is_nested:
        parts.append(f"nested {value.dtype}\0".encode())
        _gather(list(value.detach().unbind()), parts, sample, depth + 1)
    elif value.layout is not torch.strided:
        _gather_sparse(torch, value, parts, sample, depth)
    elif value.is_quantized:
        parts.append(_header(value.dtype, value.shape, kind=f"{value.qscheme()} "))
        _gather([value.int_repr(), *_scales(torch, value)], parts, sample, depth + 1)
    elif value.device.type == "meta":
        parts.append(_header(value.dtype, value.shape, kind="meta "))
    else:
        _gather_dense(torch, value.detach(), parts, sample)


def _gather_dense(torch: Any, value: Any, parts: list[Part], sample: int) -> None:
    """Any strided tensor, wherever it lives; a copy is made only where its memory is not in order."""
    if value.is_conj() or value.is_neg():
        value = value.resolve_conj().resolve_neg()
    if not value.untyped_storage().nbytes() and value.numel():
        return
    shape, step = value.shape, _sample_step(value.numel(), sample)
    value = (value if step == 1 else value.reshape(-1)[::step]).contiguous()
    if value.is_cpu:
        size = len(parts)
        if not _gather_memory(value, parts, _header(value.dtype, shape, step)):
            del parts[size:]
    elif not (value.is_cuda and torch.cuda.is_current_stream_capturing()):
        parts.append(_header(value.dtype, shape, step, kind=f"{value.device.type} "))
        if value.numel():
            parts.append(lanes_of(torch, value))


def _gather_subclass(torch: Any, value: Any, parts: list[Part], sample: int, depth: int) -> None:
    """A sharded tensor counts as this process's part, a wrapper as what it wraps, any other class as its numbers."""
    fake = sys.modules.get("torch._subclasses.fake_tensor")
    if fake is not None and isinstance(value, fake.FakeTensor):
        return
    parts.append(f"{type(value).__qualname__}\0".encode())
    local = getattr(value, "_local_tensor", None)
    if local is not None:
        _gather(local, parts, sample, depth + 1)
    elif hasattr(value, "__tensor_flatten__"):
        names, _ = value.__tensor_flatten__()
        _gather([getattr(value, name) for name in names], parts, sample, depth + 1)
    else:
        parts.pop()
        _gather_any_tensor(torch, value.detach().as_subclass(torch.Tensor), parts, sample, depth)


def _gather_sparse(torch: Any, value: Any, parts: list[Part], sample: int, depth: int) -> None:
    parts.append(_header(value.dtype, value.shape, kind=f"{value.layout} "))
    value = value.detach()
    if value.layout is torch.sparse_coo:
        inner = [value._indices(), value._values()]
    elif value.layout in (torch.sparse_csr, torch.sparse_bsr):
        inner = [value.crow_indices(), value.col_indices(), value.values()]
    elif value.layout in (torch.sparse_csc, torch.sparse_bsc):
        inner = [value.ccol_indices(), value.row_indices(), value.values()]
    else:
        inner = [value.to_dense()]
    _gather(inner, parts, sample, depth + 1)


def _scales(torch: Any, value: Any) -> list[Any]:
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return [value.q_scale(), value.q_zero_point()]
    return [value.q_per_channel_scales(), value.q_per_channel_zero_points(), value.q_per_channel_axis()]
