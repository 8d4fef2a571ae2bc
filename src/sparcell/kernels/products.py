"""Matrix products, by the fastest library there is.

oneDNN comes with torch on x86 and Linux on ARM, but torch gives float32 products to MKL or OpenBLAS; on AMD processors oneDNN is more
than twice as fast (benchmarks/speed.md). Under `torch.autocast` to bfloat16 the factors are rounded to it and the sums are float32;
`knows_bfloat16` says where that is worth it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from llvmlite import binding
from torch.nn.functional import linear

from sparcell.kernels.awake import together

if TYPE_CHECKING:
    from torch import Tensor

ONEDNN: bool = torch.backends.mkldnn.is_available() and hasattr(  # type: ignore[no-untyped-call]
    torch.ops.mkldnn, "_linear_pointwise"
)


@cache
def knows_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products in bfloat16. Without them such a product takes ten times as long as in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        found = binding.get_host_cpu_features()
        return ONEDNN and any(found.get(name, False) for name in ("avx512bf16", "bf16"))
    return True


def rounded(device: str = "cpu") -> bool:
    """Whether products are to be in bfloat16."""
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16


def fast(x: Tensor) -> bool:
    """Whether oneDNN multiplies such as this, in its full precision."""
    return (
        ONEDNN
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
    )


@together
def product(a_nk: Tensor, b_mk: Tensor, bias_m: Tensor | None = None, *, bfloat16: bool = False) -> Tensor:
    """a bᵀ + bias, (n, m), without gradients. Either factor may be a transposed view."""
    if bfloat16:
        product_nm = rounded_product(a_nk, b_mk).float()
        return product_nm if bias_m is None else product_nm.add_(bias_m)
    if ONEDNN and a_nk.dtype == torch.float32 and a_nk.device.type == "cpu":
        return torch.ops.mkldnn._linear_pointwise(a_nk, b_mk, bias_m, "none", [], "")  # type: ignore[no-any-return]
    return linear(a_nk, b_mk, bias_m)


@together
def rounded_product(a_nk: Tensor, b_mk: Tensor) -> Tensor:
    """a bᵀ in bfloat16 of factors rounded to it; the sums are float32."""
    return torch.mm(a_nk.bfloat16(), b_mk.bfloat16().t())
