"""The dtypes: one table of their names and uses."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Dtype:
    """A dtype of torch.

    Parameters
    ----------
    torch : torch.dtype
        The object that represents it in torch.
    aliases : tuple of str
        Its names in other libraries. The first one is the shortest: it heads the dtype's column in tables.
    in_cases : bool
        Whether a :class:`Case` may have this dtype, so that values are judged in it. A :class:`Call` may have any.
    convolved : bool
        Whether ``F.conv2d`` supports it on a CPU.
    related_to : str
        The dtype of cases with which it is drawn when only arguments are judged.
    """

    torch: torch.dtype
    aliases: tuple[str, ...] = ()
    in_cases: bool = False
    convolved: bool = True
    related_to: str = ""

    @property
    def is_real(self) -> bool:
        """Whether its numbers have no imaginary part and may have a fraction."""
        return self.torch.is_floating_point

    @property
    def is_rounded(self) -> bool:
        """Whether sums of real numbers are rounded: true for every dtype except integers."""
        return self.torch.is_floating_point or self.torch.is_complex


# By torch's name, in the order of tables.
DTYPES: dict[str, Dtype] = {
    "float64": Dtype(torch.float64, ("f64", "fp64", "double"), in_cases=True),
    "float32": Dtype(torch.float32, ("f32", "fp32", "float", "single"), in_cases=True),
    "float16": Dtype(torch.float16, ("f16", "fp16", "half"), in_cases=True),
    "bfloat16": Dtype(torch.bfloat16, ("bf16",), in_cases=True),
    "complex128": Dtype(torch.complex128, ("c128", "cdouble"), in_cases=True),
    "complex64": Dtype(torch.complex64, ("c64", "cfloat"), in_cases=True),
    "int64": Dtype(torch.int64, ("i64", "int", "long"), in_cases=True),
    "int32": Dtype(torch.int32, related_to="int64"),
    "int16": Dtype(torch.int16, related_to="int64"),
    "int8": Dtype(torch.int8, related_to="int64"),
    "uint8": Dtype(torch.uint8, related_to="int64"),
    "bool": Dtype(torch.bool, convolved=False),
    "uint16": Dtype(torch.uint16, convolved=False),
    "uint32": Dtype(torch.uint32, convolved=False),
    "uint64": Dtype(torch.uint64, convolved=False),
}
CASE_DTYPES = tuple(name for name, dtype in DTYPES.items() if dtype.in_cases)
ROUNDED_DTYPES = tuple(name for name in CASE_DTYPES if DTYPES[name].is_rounded)
REAL_DTYPES = tuple(name for name in CASE_DTYPES if DTYPES[name].is_real)
# For suggestions in messages about a misspelt dtype.
ALIASES = {alias: name for name in CASE_DTYPES for alias in DTYPES[name].aliases}
