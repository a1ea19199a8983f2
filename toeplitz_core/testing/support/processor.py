"""What the processor can do. Libraries choose their kernels by it, so that some defects are on some processors only."""

from __future__ import annotations

import torch


def has(feature: str) -> bool:
    """Whether the processor has a feature, such as ``"avx512_fp16"`` or ``"amx_bf16"``: torch's names.

    It is False if the installed torch cannot tell.
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get(feature, False))
