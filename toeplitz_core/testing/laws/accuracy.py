"""How accurate a subject is: errors on the same operands in every run, so that two runs can be compared.

The largest error of a search cannot be compared: the search climbs towards the bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from toeplitz_core.bound import format_of
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.subjects.interface import Implementation

# The geometries: short and long sums, strides, dilations, groups and paddings of usual layers.
_LINES = (
    "input=1x16x12x12 weight=16x16x3x3 padding=1 bias",
    "input=2x64x8x8 weight=32x64x1x1",
    "input=1x256x5x5 weight=16x256x1x1 bias",
    "input=1x64x8x8 weight=16x64x3x3 padding=1",
    "input=1x3x30x30 weight=16x3x7x7 stride=2 padding=3",
    "input=1x32x12x12 weight=32x1x3x3 padding=1 groups=32",
    "input=1x32x12x12 weight=32x1x5x5 stride=2 padding=2 groups=32 bias",
    "input=1x24x10x10 weight=24x8x3x3 padding=1 groups=3",
    "input=1x16x14x14 weight=16x16x3x3 padding=2 dilation=2",
    "input=2x8x16x16 weight=8x8x5x5 padding=2",
    "input=1x512x3x3 weight=8x512x3x3 padding=1",
    "input=1x12x9x17 weight=10x12x1x7 padding=0x3",
)
# After a call of more seconds than this, the rest is left out: the subject is slow.
_SLOW = 1.0


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of all elements.

    Parameters
    ----------
    median, most, largest : float
        Half of the errors, 99 percent of them, and all of them are not larger.
    """

    median: float
    most: float
    largest: float

    @classmethod
    def of(cls, values: torch.Tensor) -> Errors:
        """Those of a tensor that is not empty. An error that is not a number counts as infinite."""
        numbers = np.nan_to_num(values.double().numpy(), nan=math.inf, posinf=math.inf)
        ordered = np.sort(numbers)
        # The quantile is one of the errors, without interpolation, so that infinities do no harm.
        at = [ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99, 1.0)]
        return cls(*(float(f"{value:.4g}") for value in at))


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The accuracy of one subject in one dtype.

    Parameters
    ----------
    subject, dtype, device : str
    geometries : int
        Number of geometries on which it was measured.
    elements : int
        Number of elements of all results.
    of_bound : Errors
        Errors in units of the error bound of each element.
    ulps : Errors
        Errors in units in the last place of the exact value, in the format of the output.
    """

    subject: str
    dtype: str
    device: str
    geometries: int
    elements: int
    of_bound: Errors
    ulps: Errors


def accuracy(
    subject: Implementation, dtype: str, device: str, takes: Callable[[Case], bool] = lambda _: True
) -> Accuracy | None:
    """Measure the errors of a subject on fixed operands; None if it takes none of the geometries.

    Parameters
    ----------
    takes : callable
        Whether a case is among those to try.
    """
    measured = list(_measured(subject, [case for case in _cases(dtype, device) if takes(case)]))
    if not measured:
        return None
    of_bound, ulps = (torch.cat(values) for values in zip(*measured, strict=True))
    return Accuracy(subject.name, dtype, device, len(measured), len(ulps), Errors.of(of_bound), Errors.of(ulps))


def _cases(dtype: str, device: str) -> list[Case]:
    return [Case.parse(f"{line} dtype={dtype} data=normal").replace(device=device) for line in _LINES]


def _measured(subject: Implementation, cases: list[Case]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The errors in units of the bound and in ulps for each case that the subject takes."""
    for case in cases:
        operands = draw(case)
        begin = time.monotonic()
        outcome = subject.run(case, operands)
        seconds = time.monotonic() - begin
        y = outcome.output if outcome.status == "returned" else None
        if y is None or tuple(y.shape) != case.output_shape or y.dtype != case.torch_dtype:
            continue  # a law says more about it
        arithmetic = outcome.arithmetic
        reference = expected(
            case.geometry, operands.input, operands.weight, operands.bias, algorithms=arithmetic.algorithms
        )
        values = y.detach().cpu().resolve_conj()
        values = torch.view_as_real(values) if reference.is_complex else values
        error = reference.in_units(values) - reference.value
        error = (error if reference.residual is None else error - reference.residual).abs()
        bound = reference.bound(arithmetic, has_bias=case.bias).expand(error.shape)
        unit = _unit(reference.value, case)
        yield torch.where(error == 0, 0, error / bound).flatten(), (error / unit).flatten()
        if seconds > _SLOW:
            return


def _unit(values: torch.Tensor, case: Case) -> torch.Tensor:
    """A unit in the last place of each value; of the smallest normal number for smaller ones."""
    output = format_of(case.torch_dtype)
    exponents = torch.frexp(values.abs().clamp(min=output.smallest_normal))[1] - 1
    return torch.ldexp(torch.ones_like(values), exponents - (output.precision - 1))
