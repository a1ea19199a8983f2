"""JAX on the CPU: ``jax.lax.conv_general_dilated``, compiled for each geometry."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from toeplitz_core.bound import FLOAT16
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.subjects.arrays import to_numpy, to_tensor
from toeplitz_core.testing.subjects.interface import Claims, Environment, Subject
from toeplitz_core.testing.subjects.placement import placed

if TYPE_CHECKING:
    import torch

    from toeplitz_core.bound import Arithmetic
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.data.operands import Operands

PACKAGES = ("jax", "jaxlib")
# Otherwise JAX would use a GPU if there is one, and reserve most of its memory.
ENVIRONMENT = Environment((("JAX_PLATFORMS", "cpu"),))
# How many compiled convolutions are kept. The draws of a geometry follow each other, and shrinking returns to earlier
# geometries. JAX itself keeps about 30 kB for each (30 MB for 1,000), with or without jax.clear_caches().
_KEPT = 64


class JaxSubject(Subject):
    """``jax.lax.conv_general_dilated`` and the addition of a bias, jitted together.

    XLA's convolution supports unequal padding on the two sides, so ``"same"`` is passed as numbers. It does not
    support unbatched input, which is passed as a batch of one.

    Parameters
    ----------
    name : str
    channels_last : bool
        Whether JAX gets images as NHWC and weights as HWIO, instead of NCHW and OIHW. The arrays are then views of
        those that the case describes; JAX copies arrays that are not contiguous.
    """

    # Compiling takes 80 to 200 ms, everything else 5 to 10 ms. One geometry therefore serves each recipe of a law once
    # (six recipes at most, for real data). More draws would be cheaper still, but convolutions differ by geometry.
    claims = Claims(devices=("cpu",), draws=6)

    def __init__(self, name: str, *, channels_last: bool = False) -> None:
        self.name = name
        self.channels_last = channels_last
        self._jax = importlib.import_module("jax")
        self._compiled = lru_cache(maxsize=_KEPT)(self._compile)
        self.compilations = 0

    def supports(self, case: Case) -> bool:
        if case.geometry.rank > 3:
            raise NotImplementedError(f"supports 1 to 3 axes, not {case.geometry.rank}")
        if case.torch_dtype.is_complex and RECIPES[case.data].kind == "real":
            # The products are (xr + xi) wr, xr (wi - wr) and xi (wr + wi), and even the real part is a difference of
            # two of them. The oracle's bound sums the magnitudes of other products. On integers all of them are exact.
            raise NotImplementedError(f"no bound is derived for the three real products that JAX makes of {case.dtype}")
        return True

    def arithmetic(self, case: Case) -> Arithmetic:
        """Direct sums, in float32 for half precision; XLA flushes subnormals and may add the bias after rounding.

        XLA's runtime sets the processor to treat subnormal operands as zero and to flush subnormal results. Its
        developers intend this (issue 16200 of jax-ml/jax, "working as intended"). float16 is not affected: its
        convolution is computed in float32 (the compiled modules say so), where its smallest product is a normal number,
        and the conversion back keeps subnormals. bfloat16 has the exponents of float32, so it is affected.

        To XLA the bias is a separate operation on the rounded result. If it fuses the two, it may skip that rounding.
        """
        declared = strictest(case)
        if case.dtype == "int64":
            return declared
        half = declared.output != declared.accumulator
        return replace(declared, bias_after_rounding=half and case.bias, flushes=declared.output != FLOAT16)

    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        arrays = [to_numpy(t) for t in placed(case, operands) if t is not None]
        if case.batch is None:
            arrays[0] = arrays[0][None]
        if self.channels_last:
            arrays[0] = np.moveaxis(arrays[0], 1, -1)
            arrays[1] = np.moveaxis(arrays[1], (0, 1), (-1, -2))
        with warnings.catch_warnings(), self._context():
            warnings.simplefilter("ignore")
            key = case.replace(layouts=(), data="integers", seed=0, law=None)
            y = np.asarray(self._compiled(key)(*arrays))
        y = np.moveaxis(y, -1, 1) if self.channels_last else y
        return to_tensor(y if case.batch is not None else y[0])

    def _context(self) -> contextlib.AbstractContextManager[None]:
        """Enable 64 bits for this call only, because other code in this process may use JAX too."""
        context: contextlib.AbstractContextManager[None] = self._jax.enable_x64(True)
        return context

    def _compile(self, case: Case) -> Callable[..., Any]:
        """Compile the convolution for a geometry and dtype ahead of time."""
        self.compilations += 1
        geometry, lax = case.geometry, self._jax.lax
        axes = "DHW"[-geometry.rank :]
        names = (
            (f"N{axes}C", f"{axes}IO", f"N{axes}C") if self.channels_last else (f"NC{axes}", f"OI{axes}", f"NC{axes}")
        )
        column = (-1,) if self.channels_last else (-1,) + (1,) * geometry.rank

        def convolution(x: Any, weight: Any, bias: Any = None) -> Any:
            y = lax.conv_general_dilated(
                x,
                weight,
                window_strides=geometry.stride,
                padding=geometry.pads,
                rhs_dilation=geometry.dilation,
                dimension_numbers=names,
                feature_group_count=geometry.groups,
            )
            return y if bias is None else y + bias.reshape(column)

        dtype = self._jax.numpy.dtype(case.dtype)
        image = (1, *case.input) if case.batch is None else case.input
        weight = case.weight
        if self.channels_last:
            image = (image[0], *image[2:], image[1])
            weight = (*weight[2:], weight[1], weight[0])
        shapes = [image, weight, *([case.weight[:1]] if case.bias else [])]
        compiled: Callable[..., Any] = (
            self._jax.jit(convolution).lower(*(self._jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)).compile()
        )
        return compiled


def jax() -> Subject:
    """JAX with images in NCHW and weights in OIHW."""
    return JaxSubject("jax")


def jax_nhwc() -> Subject:
    """JAX with images in NHWC and weights in HWIO."""
    return JaxSubject("jax-nhwc", channels_last=True)
