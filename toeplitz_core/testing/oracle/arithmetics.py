"""The arithmetics that have a name: what ``--arithmetic`` and ``assert_conv2d`` can choose.

They are for implementations that declare nothing. An implementation that computes in yet another way declares an
:class:`~toeplitz_core.bound.Arithmetic` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from toeplitz_core.bound import BFLOAT16, FLOAT16, FLOAT32, Algorithm, Arithmetic
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import ALIASES, CASE_DTYPES, ROUNDED_DTYPES
from toeplitz_core.testing.oracle.algorithms import Fft, MatrixUnits, Winograd
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.support.spelling import listed, named

# "The first 10 bits of the mantissa are read" (torch's CUDA notes): TF32 inputs are truncated.
TF32_ROUNDING = 2.0**-10
# Largest relative change of a float32 rounded to the nearest bfloat16: 2^-8 / (1 + 2^-8) = 1/257. It occurs at
# 1 + 2^-8, half way between two bfloat16 numbers.
BFLOAT16_ROUNDING = BFLOAT16.unit_roundoff / (1 + BFLOAT16.unit_roundoff)

_SINGLE = ("float32", "complex64")
_HALF = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class NamedArithmetic:
    """An arithmetic that users choose by its name.

    Parameters
    ----------
    name : str
        What ``--arithmetic`` calls it.
    statement : str
        How an implementation computes, in one sentence.
    dtypes : tuple of str
        The dtypes of the operands that it is for.
    of : callable
        Takes a case of these dtypes and returns the arithmetic.
    explains : bool
        Whether the report of a failure may name it. Not if it only widens the bound a little, so that it would seem to
        explain any small error.
    """

    name: str
    statement: str
    dtypes: tuple[str, ...]
    of: Callable[[Case], Arithmetic]
    explains: bool = True


def _flush(case: Case) -> Arithmetic:
    return strictest(case).flushing()


def _compensated(case: Case) -> Arithmetic:
    return replace(strictest(case), compensates=True)


def _matrix_units(case: Case) -> Arithmetic:
    return replace(strictest(case), algorithms=(MatrixUnits(),), flushes=True)


def _tf32(case: Case) -> Arithmetic:
    return replace(_matrix_units(case), input_rounding=TF32_ROUNDING)


def _bfloat16_operands(case: Case) -> Arithmetic:
    return replace(strictest(case), input_rounding=BFLOAT16_ROUNDING)


def _autocast(case: Case) -> Arithmetic:
    return replace(_bfloat16_operands(case), bias_rounding=BFLOAT16_ROUNDING, output=BFLOAT16)


def _late_bias(case: Case) -> Arithmetic:
    return replace(strictest(case), bias_after_rounding=case.bias)


def _narrow(case: Case) -> Arithmetic:
    output = FLOAT16 if case.dtype == "float16" else BFLOAT16
    return Arithmetic(accumulator=output, output=output)


def _single_sums(case: Case) -> Arithmetic:
    rounding = FLOAT32.unit_roundoff
    return replace(strictest(case), accumulator=FLOAT32, input_rounding=rounding, bias_rounding=rounding)


def _by(*algorithms: Algorithm) -> Callable[[Case], Arithmetic]:
    return lambda case: replace(strictest(case), algorithms=algorithms)


def _whole_fft(case: Case) -> Arithmetic:
    sizes = (2, *case.geometry.padded_size, *case.geometry.kernel_extent)
    return replace(strictest(case), algorithms=(Fft(1 << (max(sizes) - 1).bit_length()),))


# Narrower bounds first: the first one that explains a failure is named.
ARITHMETICS: Mapping[str, NamedArithmetic] = {
    entry.name: entry
    for entry in (
        NamedArithmetic(
            "strict",
            "Sums are kept in the dtype itself, those of half precision in float32, and are rounded once. This is the "
            "default.",
            CASE_DTYPES,
            strictest,
            explains=False,
        ),
        NamedArithmetic(
            "compensated",
            "Each sum is corrected by what its roundings lost (Kahan), so an infinity may become NaN.",
            ROUNDED_DTYPES,
            _compensated,
            explains=False,
        ),
        NamedArithmetic("flush", "Subnormal operands and results may become zero.", ROUNDED_DTYPES, _flush),
        NamedArithmetic(
            "matrix-units",
            "Blocks of exact products are aligned, truncated and added at once, as on tensor cores; subnormals may "
            "become zero.",
            ("float32", "float16", "bfloat16", "complex64"),
            _matrix_units,
            explains=False,
        ),
        NamedArithmetic(
            "tf32",
            "As matrix-units, with operands truncated to TF32 before they are multiplied.",
            _SINGLE,
            _tf32,
        ),
        NamedArithmetic(
            "bfloat16-operands",
            "Operands are rounded to bfloat16, their products are summed in float32.",
            _SINGLE,
            _bfloat16_operands,
        ),
        NamedArithmetic(
            "bfloat16-autocast",
            "Operands, bias and result are rounded to bfloat16, products are summed in float32.",
            ("float32",),
            _autocast,
        ),
        NamedArithmetic(
            "bias-after-rounding",
            "The result is rounded to the dtype first; then the bias is added, and the sum is rounded again.",
            _HALF,
            _late_bias,
        ),
        NamedArithmetic("float16-accumulator", "Sums are kept in float16.", ("float16",), _narrow),
        NamedArithmetic("bfloat16-accumulator", "Sums are kept in bfloat16.", ("bfloat16",), _narrow),
        NamedArithmetic(
            "float32-accumulator",
            "Operands are rounded to float32, and sums are kept in float32.",
            ("float64",),
            _single_sums,
        ),
        *(
            NamedArithmetic(
                f"winograd-{outputs}x{outputs}",
                f"Winograd's F({outputs}x{outputs}, 3x3) for kernels of 3x3 without stride and dilation; else, or "
                "instead, direct sums.",
                ROUNDED_DTYPES,
                _by(Winograd(outputs)),
            )
            for outputs in (2, 4, 6)
        ),
        NamedArithmetic(
            "fft",
            "An FFT of the whole padded image, filled up with zeros to a power of two, or direct sums.",
            ROUNDED_DTYPES,
            _whole_fft,
        ),
        *(
            NamedArithmetic(
                f"fft-{tile}",
                f"FFTs of tiles of {tile}x{tile} pixels, or direct sums.",
                ROUNDED_DTYPES,
                _by(Fft(tile)),
                explains=False,
            )
            for tile in (16, 32)
        ),
    )
}


def check_arithmetic(text: str) -> str:
    """The text itself, if it is ``NAME`` or ``DTYPE=NAME``.

    Raises
    ------
    ValueError
        If the name or the dtype is unknown, or if the arithmetic is not for the dtype.

    Examples
    --------
    >>> check_arithmetic("bfloat16=bfloat16-accumulator")
    'bfloat16=bfloat16-accumulator'
    >>> check_arithmetic("float64=tf32")
    Traceback (most recent call last):
        ...
    ValueError: arithmetic='float64=tf32': tf32 is for float32 and complex64
    """
    dtype, equals, name = text.rpartition("=")
    entry = named(f"arithmetic={name!r}", name, ARITHMETICS)
    if equals:
        named(f"arithmetic={text!r}: dtype {dtype!r}", dtype, dict.fromkeys(CASE_DTYPES), ALIASES)
        if dtype not in entry.dtypes:
            raise ValueError(f"arithmetic={text!r}: {name} is for {listed(entry.dtypes)}")
    return text


def by_dtype(chosen: Iterable[str]) -> dict[str, str]:
    """The name of the arithmetic that is chosen for each dtype; dtypes without a choice are left out.

    ``DTYPE=NAME`` wins over ``NAME``, which chooses for every dtype that the arithmetic is for.

    Raises
    ------
    ValueError
        If two choices are for the same dtype, or as in :func:`check_arithmetic`.

    Examples
    --------
    >>> by_dtype(["flush", "float32=tf32"])["float32"], by_dtype(["tf32"])
    ('tf32', {'float32': 'tf32', 'complex64': 'tf32'})
    """
    general: dict[str, str] = {}
    special: dict[str, str] = {}
    for text in map(check_arithmetic, chosen):
        dtype, equals, name = text.rpartition("=")
        found = special if equals else general
        for each in (dtype,) if equals else ARITHMETICS[name].dtypes:
            if found.setdefault(each, name) != name:
                said = f"{found[each]} and {name} are both for {each}"
                raise ValueError(f"arithmetic={text!r}: {said}; choose one with {each}=NAME")
    return general | special


def concerning(dtype: str, chosen: Iterable[str]) -> tuple[str, ...]:
    """The choices that decide the arithmetic of a dtype."""
    name = by_dtype(chosen).get(dtype)
    return () if name is None else tuple(text for text in chosen if text in (name, f"{dtype}={name}"))[-1:]


def chosen_arithmetic(chosen: Iterable[str], case: Case) -> Arithmetic:
    """The arithmetic that is chosen for a case, or the strictest of its dtype."""
    name = by_dtype(chosen).get(case.dtype)
    return strictest(case) if name is None else ARITHMETICS[name].of(case)


def arithmetic_for(case: Case, name: str) -> Arithmetic:
    """The arithmetic of this name for a case.

    Raises
    ------
    ValueError
        If the name is unknown, or if the arithmetic is not for the case's dtype.
    """
    entry = named(f"arithmetic={name!r}", name, ARITHMETICS)
    if case.dtype not in entry.dtypes:
        raise ValueError(f"arithmetic={name!r} is for {listed(entry.dtypes)}, not for {case.dtype}")
    return entry.of(case)
