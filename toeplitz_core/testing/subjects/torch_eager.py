"""Callables with the signature of ``torch.nn.functional.conv2d`` on torch tensors: torch itself, anyone's kernel."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.layouts import apply_layout
from toeplitz_core.testing.subjects.base import Subject

if TYPE_CHECKING:
    from toeplitz_core.testing.case import Case
    from toeplitz_core.testing.data import Operands


# Operands of up to this many numbers are copied for the subject.
_COPIED_NUMBERS = 2**24


class TorchSubject(Subject):
    """A callable with ``F.conv2d``'s signature.

    Parameters
    ----------
    name : str
    function : callable
    layout : str
        The layout of input and weight where a case names none.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., torch.Tensor] = torch.nn.functional.conv2d,
        *,
        layout: str = "contiguous",
    ) -> None:
        self.name = name
        self.function = function
        self.layout = layout

    def arithmetic(self, case: Case) -> Arithmetic:
        declared = super().arithmetic(case)
        # oneDNN's bfloat16 kernels flush subnormals (measured); it is what torch runs on a CPU unless switched off.
        onednn: bool = torch.backends.mkldnn.enabled  # type: ignore[assignment]  # a bool at run time
        if case.dtype == "bfloat16" and case.device == "cpu" and onednn:
            return declared.flushing()
        return declared

    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        def place(name: str, values: torch.Tensor, default: str) -> torch.Tensor:
            # A copy: a kernel that writes to its operands must not write to those it is judged by. Of a layer's weight
            # that is hundreds of megabytes there is only one.
            copied = values.to(case.device, copy=values.numel() <= _COPIED_NUMBERS)
            return apply_layout(copied, case.layout(name) or default)

        x = place("input", operands.input, self.layout)
        weight = place("weight", operands.weight, self.layout)
        bias = None if operands.bias is None else place("bias", operands.bias, "contiguous")
        # What a library warns of is not what is judged, and a warning turned into an error would be blamed on it.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return self.function(x, weight, bias, case.stride, case.padding, case.dilation, case.groups)
