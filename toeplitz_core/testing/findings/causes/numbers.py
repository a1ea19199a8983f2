"""Mistakes in numbers and in memory: special values, limits, narrow formats, and strides that are not followed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch

from toeplitz_core.testing.data.operands import wide
from toeplitz_core.testing.findings.causes.hypothesis import Hypothesis, computing
from toeplitz_core.testing.findings.causes.trial import Trial

Tensor = torch.Tensor
# Limits that operands may be clamped to.
_LIMITS = (0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 16.0, 127.0, 128.0, 255.0, 65504.0)


def hypotheses(trial: Trial) -> Iterator[Hypothesis]:
    """The mistakes of this kind that may explain a trial."""
    yield from _misread(trial)
    yield from _special(trial)
    yield from _limits(trial)
    yield from _formats(trial)


def _misread(trial: Trial) -> Iterator[Hypothesis]:
    for operand in ("input", "weight", "bias"):
        if trial.case.layout(operand) in (None, "contiguous"):
            continue
        for meets_padding in (False, True):  # what is read instead of finite numbers may be infinite
            yield _misread_as(operand, "contiguous", lambda values: values, meets_padding=meets_padding)
            if operand != "bias":
                yield _misread_as(operand, "channels_last", _as_channels_last, meets_padding=meets_padding)
    if trial.case.layout("grad") not in (None, "contiguous") and trial.grad is not None:

        def of_gradient(t: Trial) -> Tensor | None:
            read = _in_memory_order(t, "grad")
            assert t.grad is not None
            if read is None:
                return None
            other = Trial(
                t.case,
                t.quantity,
                t.input,
                t.weight,
                t.bias,
                read.view(t.grad.shape),
                t.exact,
                t.truth,
                t.actual,
                t.bound,
                t.operands,
            )
            return computing("", "", lambda t, x, w, b: t.reading(x, w, b)).predict(other)

        yield Hypothesis("layout-misread", "the incoming gradient is read as if it were contiguous", of_gradient)


def _misread_as(operand: str, name: str, order: Callable[[Tensor], Tensor], *, meets_padding: bool) -> Hypothesis:
    """An operand's memory is read in the order of another layout."""

    def compute(t: Trial, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor | None:
        read = _in_memory_order(t, operand)
        if read is None:
            return None
        read = order(read)
        if operand == "input":
            x = read.view(x.shape)
        elif operand == "weight":
            w = read
        else:
            b = read
        return t.reading.replace(meets_padding=meets_padding)(x, w, b)

    return computing("layout-misread", f"the {operand} is read as if it were {name}", compute)


def _as_channels_last(values: Tensor) -> Tensor:
    front, (c, h, w) = values.shape[:-3], values.shape[-3:]
    return values.reshape(*front, h, w, c).movedim(-1, -3)


def _in_memory_order(trial: Trial, operand: str) -> Tensor | None:
    """The numbers in memory from an operand's first element on, in its shape; the last one again where memory ends."""
    if getattr(trial.operands, operand) is None:
        return None
    placed = trial.placed(operand)
    if not placed.numel():
        return None
    storage = placed.untyped_storage().nbytes() // placed.element_size() - int(placed.storage_offset())
    flat = placed.as_strided((storage,), (1,), placed.storage_offset())
    index = torch.arange(placed.numel()).clamp(max=storage - 1)
    return wide(flat[index].view(placed.shape))


def _special(trial: Trial) -> Iterator[Hypothesis]:
    operands = [t for t in (trial.input, trial.weight, trial.bias) if t is not None]
    if all(bool(t.isfinite().all()) for t in operands) or trial.input.is_complex():
        return
    changes: tuple[tuple[str, str, Callable[[Tensor], Tensor]], ...] = (
        ("nan-dropped", "NaN is taken for 0", lambda v: v.where(~v.isnan(), 0)),
        ("infinity-dropped", "infinities are taken for 0", lambda v: v.where(~v.isinf(), 0)),
        ("nan-dropped", "NaN and infinities are taken for 0", lambda v: v.where(v.isfinite(), 0)),
    )
    for cause, words, change in changes:
        for which in ("input", "weight", "all operands"):

            def compute(
                t: Trial,
                x: Tensor,
                w: Tensor,
                b: Tensor | None,
                which: str = which,
                change: Callable[[Tensor], Tensor] = change,
            ) -> Tensor | None:
                x = change(x) if which != "weight" else x
                w = change(w) if which != "input" else w
                b = change(b) if b is not None and which == "all operands" else b
                return t.reading(x, w, b)

            yield computing(cause, f"{words}, in {which}", compute)

    def skipped(t: Trial, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor | None:
        """Products with a zero weight are left out, whatever the other factor is."""
        right = t.reading
        finite, met = right(x.where(x.isfinite(), 0), w, b), right((~x.isfinite()).double(), (w != 0).double(), None)
        whole = right(x, w, b)
        return None if finite is None or met is None or whole is None else torch.where(met > 0, whole, finite)

    yield computing("nan-dropped", "products with a zero weight are skipped", skipped)
    yield Hypothesis("nan-spread", "NaN where no operand is NaN", _spread)


def _spread(trial: Trial) -> Tensor | None:
    """NaN reaches results that do not depend on it; all others are right."""
    spread = trial.actual.isnan() & ~trial.truth.isnan()
    return torch.where(spread, trial.actual, trial.truth) if spread.any() else None


def _limits(trial: Trial) -> Iterator[Hypothesis]:
    if trial.truth.is_complex() or not trial.truth.is_floating_point():
        return
    largest = float(torch.finfo(trial.case.torch_dtype).max)
    if bool(trial.truth.isinf().any()):
        yield Hypothesis(
            "clamped", "the largest number in place of an infinity", lambda t: t.truth.clamp(-largest, largest)
        )
    if not bool(trial.truth.isfinite().all()):
        for sign in (1, -1):  # what a maximum and a minimum make of NaN depends on their order
            limits = {"nan": sign * largest, "posinf": largest, "neginf": -largest}
            words = (
                f"the {'largest' if sign > 0 else 'least'} number in place of NaN, and limits in place of infinities"
            )
            yield Hypothesis("clamped", words, partial(lambda limits, t: t.truth.nan_to_num(**limits), limits))
    early = trial.actual.isinf() & trial.truth.isfinite()
    if early.any() and float(trial.truth.abs().nan_to_num(posinf=0).max()) > largest / 2**12:
        yield Hypothesis("overflow-early", "an infinity in place of a number", _early)
    if bool(trial.actual.isnan().any()) and trial.case.data == "overflow":
        yield Hypothesis("overflow-early", "NaN in place of a number, as after an overflow", _spread)
    found = trial.actual[trial.wrong]
    if found.numel() and bool((found == found[0]).all()) and math.isfinite(float(found[0])):
        at = float(found[0])
        yield Hypothesis("clamped", f"results to at most {at:g}", lambda t: t.truth.clamp(max=at))
        yield Hypothesis("clamped", f"results to at least {at:g}", lambda t: t.truth.clamp(min=at))
    for operand in ("input", "weight"):
        for limit in _LIMITS:
            yield _clamped(operand, f"{operand} to at most {limit:g}", None, limit)
            yield _clamped(operand, f"{operand} to at least {limit:g}", limit, None)
            if limit > 0:
                yield _clamped(operand, f"{operand} to {-limit:g} .. {limit:g}", -limit, limit)


def _clamped(operand: str, words: str, low: float | None, high: float | None) -> Hypothesis:
    def compute(t: Trial, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor | None:
        right = t.reading
        return right(x.clamp(low, high), w, b) if operand == "input" else right(x, w.clamp(low, high), b)

    return computing("clamped", words, compute)


def _early(trial: Trial) -> Tensor | None:
    early = trial.actual.isinf() & trial.truth.isfinite()
    return torch.where(early, trial.actual, trial.truth)


def _formats(trial: Trial) -> Iterator[Hypothesis]:
    """Operands rounded to a format, and sums of integers that wrap around in a narrower one."""
    if trial.truth.dtype == torch.int64:
        for dtype in (torch.int32, torch.int16, torch.int8, torch.uint8):
            name = str(dtype).removeprefix("torch.")
            yield Hypothesis(
                "narrow-accumulator", f"{name}, which wraps around", partial(lambda d, t: t.truth.to(d).long(), dtype)
            )
            for which in ("input", "weight", "both operands"):
                yield _rounded(which, name, partial(lambda d, v: v.to(d).long(), dtype))
        for dtype in (torch.float64, torch.float32):
            name = str(dtype).removeprefix("torch.")
            yield Hypothesis("narrow-accumulator", name, partial(lambda d, t: _summed(t, d), dtype))
        return
    formats: dict[str, Callable[[Tensor], Tensor]] = {
        "TF32": tf32,
        "TF32 by truncation": lambda v: _cut(v, 13),
        "bfloat16": lambda v: v.bfloat16().double(),
        "bfloat16 by truncation": lambda v: _cut(v, 16),
        "float16": lambda v: v.half().double(),
        "float32": lambda v: v.float().double(),
        "an integer": lambda v: v.round(),
        "int8": lambda v: v.to(torch.int8).double(),
    }
    for name, of_reals in formats.items():
        change = partial(_by_parts, of_reals)
        for which in ("both operands", "weight", "input"):
            yield _rounded(which, name, change)
        if trial.quantity == "output":
            yield Hypothesis(
                "narrow-accumulator", f"the result is rounded to {name}", partial(lambda c, t: c(t.exact), change)
            )
        else:
            yield Hypothesis("narrow-accumulator", f"rounded to {name}", partial(lambda c, t: c(t.truth), change))
    if not trial.truth.is_complex():
        yield Hypothesis("narrow-accumulator", "the result is rounded towards zero", _towards_zero)
    for step in (2.0**-20, 2.0**-16, 2.0**-10, 2.0**-8):
        yield Hypothesis(
            "narrow-accumulator",
            f"rounded to multiples of {step:g}",
            partial(lambda s, t: _by_parts(lambda v: (v / s).round() * s, t.truth), step),
        )


def _rounded(which: str, name: str, change: Callable[[Tensor], Tensor]) -> Hypothesis:
    def compute(t: Trial, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor | None:
        x = change(x) if which != "weight" else x
        w = change(w) if which != "input" else w
        return t.reading(x, w, b)

    return computing("inputs-rounded", f"{which} to {name}", compute)


def _by_parts(change: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """A change of real numbers, applied to real and imaginary parts."""
    return torch.view_as_complex(change(torch.view_as_real(values))) if values.is_complex() else change(values)


def tf32(values: Tensor) -> Tensor:
    """The values rounded to TF32: to nearest, ties to even."""
    bits = values.float().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32).double()


def _cut(values: Tensor, bits: int) -> Tensor:
    """The values without the last bits of their float32."""
    return (values.float().view(torch.int32) & ~((1 << bits) - 1)).view(torch.float32).double()


def _summed(trial: Trial, dtype: torch.dtype) -> Tensor | None:
    """Sums of integers kept in a floating-point format, one term after another."""
    bias = None if trial.bias is None else trial.bias.to(dtype)
    y = trial.reading(trial.input.to(dtype), trial.weight.to(dtype), bias)
    return None if y is None else y.long()


def _towards_zero(trial: Trial) -> Tensor | None:
    """The largest number of the format that is not larger than the exact result in magnitude."""
    rounded = trial.truth.to(trial.case.torch_dtype)
    too_large = rounded.double().abs() > trial.exact.abs()
    return wide(torch.where(too_large, torch.nextafter(rounded, torch.zeros_like(rounded)), rounded))
