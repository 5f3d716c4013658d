"""Operations that torch itself lists as nondeterministic on CUDA, by the module types that run them.

Source: the documentation of ``torch.use_deterministic_algorithms`` (torch 2.13).
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["FUNCTIONS", "MODULES", "kernels_of"]

MODULES: dict[str, tuple[str, str]] = {
    **{f"Conv{n}d": ("convolution algorithms that cuDNN picks", "both") for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": ("convolution algorithms that cuDNN picks", "both") for n in (1, 2, 3)},
    **{f"ReplicationPad{n}d": (f"replication_pad{n}d_backward", "backward") for n in (1, 2, 3)},
    **{f"ReflectionPad{n}d": (f"reflection_pad{n}d_backward", "backward") for n in (1, 2, 3)},
    **{f"MaxUnpool{n}d": (f"max_unpool{n}d", "both") for n in (1, 2, 3)},
    "AvgPool3d": ("avg_pool3d_backward", "backward"),
    "AdaptiveAvgPool2d": ("adaptive_avg_pool2d_backward", "backward"),
    "AdaptiveAvgPool3d": ("adaptive_avg_pool3d_backward", "backward"),
    "AdaptiveMaxPool2d": ("adaptive_max_pool2d_backward", "backward"),
    "FractionalMaxPool2d": ("fractional_max_pool2d_backward", "backward"),
    "FractionalMaxPool3d": ("fractional_max_pool3d_backward", "backward"),
    "MaxPool3d": ("max_pool3d_backward", "backward"),
    "Upsample": ("upsample_backward (interpolate with linear, bilinear, bicubic or trilinear)", "backward"),
    "UpsamplingBilinear2d": ("upsample_bilinear2d_backward", "backward"),
    "NLLLoss": ("nll_loss2d", "both"),
    "NLLLoss2d": ("nll_loss2d", "both"),
    "CrossEntropyLoss": ("nll_loss2d, on inputs of more than two dimensions", "both"),
    "CTCLoss": ("ctc_loss_backward", "backward"),
    "EmbeddingBag": ('embedding_bag_backward with mode="max"', "backward"),
}
"""By class of module: the kernel, and whether its forward or its backward varies."""

FUNCTIONS: dict[str, str] = {
    "index_add": "both",
    "scatter_add": "both",
    "scatter": "both",
    "scatter_reduce": "both",
    "index_copy": "both",
    "index_put": "both",
    "put_": "both",
    "cumsum": "both",
    "histc": "both",
    "bincount with weights": "both",
    "median with indices": "both",
    "kthvalue": "both",
    "bmm of sparse matrices": "both",
    "gather": "backward",
    "index_select": "backward",
    "repeat_interleave": "backward",
    "grid_sample": "backward",
    "interpolate": "backward",
}
"""Functions that no module shows; they are named where no module explains a difference."""


def kernels_of(types: Iterable[str], *, backward: bool) -> tuple[str, ...]:
    """The nondeterministic kernels behind some classes of modules, in a forward or in a backward pass.

    >>> kernels_of(["Linear", "CTCLoss"], backward=True), kernels_of(["CTCLoss"], backward=False)
    (('ctc_loss_backward',), ())
    """
    known = (MODULES[name] for name in types if name in MODULES)
    return tuple(dict.fromkeys(kernel for kernel, when in known if backward or when == "both"))
