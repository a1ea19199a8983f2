"""The derivatives that a function has for ordinary convolutions. A kind that none of them has is not claimed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from toeplitz_core.testing.case.case import OPERANDS
from toeplitz_core.testing.subjects.interface import Procedure
from toeplitz_core.testing.subjects.outcome import BrokenContract, described
from toeplitz_core.testing.subjects.pytorch.derivatives import (
    DERIVATIVES,
    DetachedError,
    PartlyDetachedError,
    direction,
    leaves_of,
)
from toeplitz_core.testing.subjects.pytorch.memory_contract import ConvFunction, Tensors, arguments

# Part of the error of a torch.library operator that has no derivative.
_NO_FORMULA = "no autograd formula was registered"
# A function with derivatives has them for at least one of these pixels per axis, kernel sizes, paddings and biases. The
# first have two of everything, so that a vmap over the wrong axis gives wrong numbers and not an exception.
_ORDINARY = tuple((*sizes, bias) for sizes in ((2, 1, 0), (4, 3, 1)) for bias in (True, False))


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a function has a kind of derivative for no ordinary convolution.

    Parameters
    ----------
    reason : str
        What is missing, or the exception that was raised.
    detached : bool
        Whether a result lacks its link to autograd, or its tangent. Otherwise an exception was raised.
    has_result : bool
        Whether the function has a result if no operand requires a gradient.
    """

    reason: str
    detached: bool
    has_result: bool


def missing(
    procedure: Procedure, function: Callable[..., torch.Tensor], dtype: torch.dtype, device: str
) -> Missing | None:
    """Why a procedure of :data:`DERIVATIVES` fails for every ordinary convolution; None if it works for one.

    A wrong derivative counts as working. So does a recorded backward pass that fails, unless it fails with
    ``NotImplementedError`` or because a custom operator has no formula.

    Tangents along some operands only count as working too, unless the function has no gradients. A kernel that refuses
    operands that require gradients cannot tell operands with tangents from others. If torch adds its bias, the result
    has the tangent of the bias alone.
    """
    found: Missing | None = None
    for pixels, size, padding, with_bias in _ORDINARY:

        def call(
            x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: int = padding
        ) -> torch.Tensor:
            return function(x, weight, bias, (1, 1), (padding, padding), (1, 1), 1)

        image = (2, 2, pixels, pixels)
        shapes = {"input": image, "weight": (2, 2, size, size)} | ({"bias": (2,)} if with_bias else {})
        given = {name: torch.ones(shape, dtype=dtype, device=device) for name, shape in shapes.items()}
        given |= {direction(name): values for name, values in given.items()}
        given["grad"] = torch.ones(image, dtype=dtype, device=device)
        try:
            with torch.enable_grad():
                DERIVATIVES[procedure](call, given)
        except PartlyDetachedError as error:
            if missing("gradients", function, dtype, device) is None:
                return None
            now = Missing(str(error), detached=True, has_result=True)
        except BrokenContract:
            return None
        except DetachedError as error:
            now = Missing(str(error), detached=True, has_result=True)
        except Exception as error:  # noqa: BLE001  # any exception may mean that it has no derivatives
            implemented = not isinstance(error, NotImplementedError) and _NO_FORMULA not in str(error)
            if procedure == "gradients" and implemented and _is_recorded(call, given):
                return None
            now = Missing(described(error), detached=False, has_result=has_result(call, given))
        else:
            return None
        if found is None or (now.has_result and not found.has_result):
            found = now
    return found


def _is_recorded(call: ConvFunction, given: Tensors) -> bool:
    """Whether a result is attached to autograd."""
    with contextlib.suppress(Exception), torch.enable_grad():
        return call(*arguments(leaves_of(given, OPERANDS))).requires_grad
    return False


def has_result(call: ConvFunction, given: Tensors) -> bool:
    """Whether there is a result if no operand requires a gradient."""
    with contextlib.suppress(Exception):
        call(*arguments(leaves_of(given, ())))
        return True
    return False
