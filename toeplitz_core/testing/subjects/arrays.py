"""Implementations that take arrays instead of tensors: NumPy's, or arrays of a library that converts them."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.subjects.interface import Claims, Procedure, Subject
from toeplitz_core.testing.subjects.outcome import Results
from toeplitz_core.testing.subjects.placement import placed
from toeplitz_core.testing.subjects.pytorch.memory_contract import contract


def to_numpy(values: torch.Tensor) -> np.ndarray[Any, Any]:
    """The tensor as a NumPy array with the same strides; bfloat16 becomes the dtype of ``ml_dtypes``.

    Raises
    ------
    NotImplementedError
        For bfloat16, if ``ml_dtypes`` is not installed.
    """
    if values.dtype != torch.bfloat16:
        return values.numpy()
    try:
        bfloat16 = importlib.import_module("ml_dtypes").bfloat16
    except ImportError:
        raise NotImplementedError("NumPy has no bfloat16 without the package ml_dtypes") from None
    array: np.ndarray[Any, Any] = values.view(torch.int16).numpy().view(bfloat16)
    return array


def to_tensor(values: Any) -> torch.Tensor:
    """A tensor from a NumPy array, or from anything that ``numpy.asarray`` accepts."""
    array = np.asarray(values)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16)
    # torch takes neither read-only arrays, nor negative strides, nor another byte order.
    usable = array.flags.writeable and min(array.strides, default=0) >= 0 and array.dtype.isnative
    return torch.from_numpy(array if usable else array.astype(array.dtype.newbyteorder("="), order="C", copy=True))


class ArraySubject(Subject):
    """A function with the parameters of ``F.conv2d``, for arrays instead of tensors.

    The operands have the layout that the case names. As for ``F.conv2d``, an unbatched input has three axes and
    ``padding`` may be a string. The function raises ``NotImplementedError`` for a case that it does not support, unless
    ``supports`` already returns False for it.

    Parameters
    ----------
    name : str
    function : callable
        ``function(input, weight, bias, stride, padding, dilation, groups)``; stride, dilation and a padding of numbers
        are tuples.
    to_array : callable
        Makes an operand from a tensor on the CPU: ``to_numpy``, or for instance ``lambda t: mylib.array(to_numpy(t))``.
    to_tensor : callable
        Makes a tensor from the result.
    supports : callable, optional
        Takes a case and returns whether the function claims to support it. By default it supports every case.
    arithmetic : callable, optional
        Takes a case and returns how the function computes. The default is what ``--arithmetic`` chooses, or else the
        strictest arithmetic of the dtype.
    dtypes, draws, repeatable
        As in :class:`Claims`.

    Examples
    --------
    >>> import numpy as np
    >>> def conv2d(x, weight, bias, stride, padding, dilation, groups):
    ...     if weight.shape[2:] != (1, 1) or groups > 1 or padding != (0, 0) or stride != (1, 1) or x.ndim == 3:
    ...         raise NotImplementedError("pointwise only")
    ...     y = np.einsum("nchw,oc->nohw", x, weight[:, :, 0, 0])
    ...     return y if bias is None else y + bias[:, None, None]
    >>> subject = ArraySubject("pointwise", conv2d, supports=lambda case: case.dtype in ("float32", "float64"))
    >>> from toeplitz_core.testing.case.case import Case
    >>> from toeplitz_core.testing.laws import LAWS
    >>> LAWS["forward-exact"](subject, Case.parse("input=2x3x5x5 weight=4x3x1x1 bias")).status
    <Status.PASS: 'pass'>
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        to_array: Callable[[torch.Tensor], Any] = to_numpy,
        to_tensor: Callable[[Any], torch.Tensor] = to_tensor,
        supports: Callable[[Case], bool] | None = None,
        arithmetic: Callable[[Case], Arithmetic] | None = None,
        dtypes: tuple[str, ...] | None = None,
        draws: int = 1,
        repeatable: bool = False,
    ) -> None:
        self.name = name
        self.function = function
        self.to_array = to_array
        self.to_tensor = to_tensor
        self.claims = Claims(("cpu",), dtypes, ("forward", "contract"), draws, repeatable)
        self._supports = supports
        self._arithmetic = arithmetic

    def supports(self, case: Case) -> bool:
        if case.geometry.rank != 2:
            raise NotImplementedError(f"conv2d takes 2 axes, not {case.geometry.rank}")
        return True if self._supports is None else self._supports(case)

    @property
    def declares_arithmetic(self) -> bool:
        return self._arithmetic is not None

    def arithmetic(self, case: Case) -> Arithmetic:
        return super().arithmetic(case) if self._arithmetic is None else self._arithmetic(case)

    def perform(self, procedure: Procedure, case: Case, operands: Operands) -> Results:
        if procedure != "contract":
            return super().perform(procedure, case, operands)
        x, weight, bias = placed(case, operands)
        given = {"input": x, "weight": weight} | ({} if bias is None else {"bias": bias})
        return contract(partial(self._call, case), given, self.memory_format(case))

    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        return self._call(case, *placed(case, operands))

    def _call(self, case: Case, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        # The arrays share the tensors' memory if the library can do that.
        arrays = [None if t is None else self.to_array(t) for t in (x, weight, bias)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.to_tensor(self.function(*arrays, case.stride, case.padding, case.dilation, case.groups))
