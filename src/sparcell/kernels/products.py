"""Matrix products by the fastest library that torch comes with.

torch gives float32 products to MKL or OpenBLAS. oneDNN, which comes with torch on x86 and on Linux for ARM, is more than twice as fast on
AMD processors: with torch's own products an epoch of nb on 13,714 genes takes 2.0 times as long, on 2,000 genes 1.2 to 1.6 times (AMD
EPYC, 2 cores, AVX-512, 2026-11-28). No public function of torch reaches oneDNN for such a product at that speed (docs/notes/speed.md),
so `product` calls a private one; without it, torch's own product is taken.

Under `torch.autocast` to bfloat16 the factors are rounded to it and the sums are float32.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import linear

if TYPE_CHECKING:
    from torch import Tensor

ONEDNN: bool = torch.backends.mkldnn.is_available() and hasattr(  # type: ignore[no-untyped-call]
    torch.ops.mkldnn, "_linear_pointwise"
)


@cache
def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for products in bfloat16. Without them a product takes ten times as long as in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return ONEDNN and cpu_has_bfloat16()
    return True


def cpu_has_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16; False where torch is too old to tell."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


def uses_bfloat16(device: str = "cpu") -> bool:
    """Return whether autocast asks for products in bfloat16."""
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16


def product(a_nk: Tensor, b_mk: Tensor, bias_m: Tensor | None = None, *, bfloat16: bool = False) -> Tensor:
    """Return a bᵀ + bias, (n, m), without gradients. Either factor may be a transposed view."""
    if bfloat16:
        product_nm = torch.mm(a_nk.bfloat16(), b_mk.bfloat16().t()).float()
        return product_nm if bias_m is None else product_nm.add_(bias_m)
    if ONEDNN and a_nk.dtype == torch.float32 and a_nk.device.type == "cpu":
        return torch.ops.mkldnn._linear_pointwise(a_nk, b_mk, bias_m, "none", [], "")  # type: ignore[no-any-return]
    return linear(a_nk, b_mk, bias_m)
