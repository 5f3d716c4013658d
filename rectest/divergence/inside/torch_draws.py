"""Which functions of torch draw random numbers, when they do, and from which generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["FUNCTIONAL", "METHODS", "NAMESPACE", "RECURRENT", "Condition", "device_of", "global_generator"]

Condition = Callable[[tuple[Any, ...], Mapping[str, Any]], bool]


def _given(position: int, name: str, default: Any) -> Condition:
    """Draws where this argument is given and not zero or false."""

    def holds(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        value = args[position] if len(args) > position else kwargs.get(name, default)
        return not isinstance(value, bool | int | float) or bool(value)

    return holds


def _both(first: Condition, second: Condition) -> Condition:
    return lambda args, kwargs: first(args, kwargs) and second(args, kwargs)


def _recurrent(args: tuple[Any, ...], _: Mapping[str, Any]) -> bool:
    """Dropout between layers: ``(..., has_biases, num_layers, dropout, train, ...)``."""
    start = next((place for place, value in enumerate(args) if isinstance(value, bool)), len(args))
    return len(args) > start + 3 and bool(args[start + 2]) and bool(args[start + 3]) and args[start + 1] > 1


def _always(_: tuple[Any, ...], __: Mapping[str, Any]) -> bool:
    return True


_TRAINS = _both(_given(1, "p", 0.5), _given(2, "training", default=True))
_TRAINS_IF_ASKED = _both(_given(1, "p", 0.5), _given(2, "training", default=False))
_DROPS = _both(_given(1, "p", 0.5), _given(2, "train", default=True))
_LEAKS = _given(3, "training", default=False)

NAMESPACE: dict[str, Condition] = {
    **dict.fromkeys(
        ("rand", "randn", "randint", "randperm", "normal", "rand_like", "randn_like", "randint_like"), _always
    ),
    **dict.fromkeys(
        ("bernoulli", "multinomial", "poisson", "binomial", "_standard_gamma", "_sample_dirichlet"), _always
    ),
    **dict.fromkeys(("dropout", "dropout_", "feature_dropout", "feature_dropout_", "native_dropout"), _DROPS),
    **dict.fromkeys(("alpha_dropout", "alpha_dropout_", "feature_alpha_dropout", "feature_alpha_dropout_"), _DROPS),
    **dict.fromkeys(("rrelu", "rrelu_"), _LEAKS),
}
"""Functions of `torch`, and when they draw."""

FUNCTIONAL: dict[str, Condition] = {
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d"), _TRAINS),
    **dict.fromkeys(("alpha_dropout", "feature_alpha_dropout"), _TRAINS_IF_ASKED),
    **dict.fromkeys(("rrelu", "rrelu_"), _LEAKS),
    "gumbel_softmax": _always,
    "scaled_dot_product_attention": _given(4, "dropout_p", 0.0),
}
"""Functions of `torch.nn.functional`."""

RECURRENT: dict[str, Condition] = dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent)
"""Functions of `torch._VF` by which the recurrent modules compute."""

METHODS = (
    *("random_", "uniform_", "normal_", "bernoulli_", "exponential_", "geometric_", "cauchy_", "log_normal_"),
    *("bernoulli", "multinomial"),
)
"""Methods of `torch.Tensor`."""


def device_of(torch: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The device on which a call draws."""
    asked = kwargs.get("device")
    if asked is not None:
        return torch.device(asked)
    for value in args:
        if isinstance(value, torch.Tensor):
            return value.device
    for value in kwargs.values():
        if isinstance(value, torch.Tensor):
            return value.device
    return torch.get_default_device() if hasattr(torch, "get_default_device") else torch.device("cpu")


def global_generator(torch: Any, device: Any) -> tuple[str, Any]:
    """Name and object of the generator that a device has by default; None for devices without such an object."""
    if device.type == "cpu":
        return "torch", torch.default_generator
    if device.type != "cuda":
        return f"{device.type}:{device.index or 0}", None
    torch.cuda.init()  # the draw that is about to happen does the same
    index = torch.cuda.current_device() if device.index is None else device.index
    return f"cuda:{index}", torch.cuda.default_generators[index]
