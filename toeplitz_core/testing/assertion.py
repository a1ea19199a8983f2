"""``assert_conv2d``: judge one result that a test already has."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.geometry import IntOrInts, Padding
from toeplitz_core.testing.case.case import OPERANDS, Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES, DTYPES
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.findings.causes.diagnosis import PREDICTED, of_one_result, tells_by_one_result
from toeplitz_core.testing.findings.causes.trial import trial_of
from toeplitz_core.testing.laws.given_result import are_finite, gradient_verdicts, result_verdict
from toeplitz_core.testing.laws.judging import in_words
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.oracle.arithmetics import arithmetic_for
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.subjects.arrays import to_tensor
from toeplitz_core.testing.subjects.outcome import OUTPUT, Outcome
from toeplitz_core.testing.support.spelling import legal_words, listed

_DTYPES = {DTYPES[name].torch: name for name in CASE_DTYPES}
_GRAD_OUTPUT = "grad_output"
# Number of axes of conv2d's weight.
_AXES = 4


def assert_conv2d(
    actual: Any,
    input: Any,  # noqa: A002  # the name that F.conv2d has
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    *,
    arithmetic: str | Arithmetic | None = None,
    gradients: Mapping[str, Any] | None = None,
) -> None:
    """Assert that ``actual`` is a correct result of ``conv2d(input, weight, bias, ...)``, and correct gradients too.

    There is no tolerance. If the operands are whole numbers whose sums are exact, each element must equal the exact
    result, rounded once. Otherwise it must lie within the error bound that follows from the arithmetic. An element with
    NaN or infinities in its window must be what they add up to; an element that they do not reach must be right.
    Complex operands must be finite.

    Every element is judged if the result has up to 2^20 elements and 2^27 multiplications; for float64 and complex128
    operands that are not whole numbers, up to 2^17 and 2^24; for a gradient, up to a quarter of these numbers. Of a
    larger result, 512 elements are judged: the first, the last, and one from each of 510 equal parts, the same ones in
    each call. Of a larger gradient, it is 512 elements too, or fewer, but at least 16, if they depend on more than 2^24
    numbers. The message of a failure then says how many were judged.

    The assertion passes if the bound is too wide to tell a right result from a wrong one, as it is for long sums in
    bfloat16.

    Parameters
    ----------
    actual : tensor or array of shape ([batch,] out_channels, *output_size)
        The result to judge. Tensors may be on any device, in any memory layout, and may require gradients.
    input : tensor or array of shape ([batch,] in_channels, height, width)
        In one of the dtypes float64, float32, float16, bfloat16, complex128, complex64 and int64. The other operands
        have the same dtype.
    weight : tensor or array of shape (out_channels, in_channels / groups, kernel height, kernel width)
    bias : tensor or array of shape (out_channels,), optional
    stride, padding, dilation, groups
        As for ``torch.nn.functional.conv2d``.
    arithmetic : str or Arithmetic, optional
        How ``actual`` was computed: a name that ``toeplitz-core arithmetics`` lists, such as ``"tf32"``, or an
        :class:`~toeplitz_core.bound.Arithmetic`. The default is the strictest arithmetic of the dtype: half precision
        is summed in float32, everything else in its own format, and results are rounded once.
    gradients : mapping of str to tensor or array, optional
        The gradient of the result under ``"grad_output"``, in the result's shape and dtype, and gradients to judge
        under ``"input"``, ``"weight"`` or ``"bias"``. Each is judged like the result, with its own bound. Only finite
        operands have gradients that can be judged.

    Raises
    ------
    AssertionError
        If the result or a gradient is wrong, also if it has a wrong shape or dtype, or if a gradient is None. The
        message has the index of an element, its value, the right value, and the error in units of the bound.
    TypeError, ValueError
        If an argument is wrong; the message has its name, its value and the rule.

    Examples
    --------
    >>> import torch
    >>> x, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    >>> y = torch.nn.functional.conv2d(x, weight, stride=2)
    >>> assert_conv2d(y, x, weight, stride=2)
    >>> y[1, 2, 0, 1] = 100.0
    >>> assert_conv2d(y, x, weight, stride=2)
    Traceback (most recent call last):
        ...
    AssertionError: out[1, 2, 0, 1]=100, but should be ..., an error of ... times the bound (1 of 72 elements wrong)
      conv2d: input=2x3x8x8 weight=4x3x3x3 stride=2
      judged: by sums in float32
    """
    __tracebackhide__ = True  # pytest then shows the line of the test
    result = _tensor("actual", actual)
    operands = Operands(_tensor("input", input), _tensor("weight", weight), None, miss_probability=0.0)
    if bias is not None:
        operands = replace(operands, bias=_tensor("bias", bias))
    case = _case(operands, stride, padding, dilation, groups, result.device)
    how = _arithmetic(case, arithmetic)
    operands, given, missing = _gradients(case, operands, {} if gradients is None else gradients)
    operands = _on_cpu(operands)
    if case.torch_dtype.is_complex and not are_finite(operands):
        # Libraries define infinity times a complex number differently.
        raise ValueError(f"complex operands must be finite, but an operand of dtype {case.dtype} has NaN or infinities")
    verdicts = [result_verdict(case, operands, how, result.cpu())]
    if given:
        verdicts += gradient_verdicts(case, operands, how, {name: t.cpu() for name, t in given.items()})
    if unsupported := [verdict.message for verdict in verdicts if verdict.status is Status.UNSUPPORTED]:
        raise ValueError(f"arithmetic={arithmetic!r}: {unsupported[0]}")
    wrong = [line for verdict in verdicts if verdict.status.is_failure for line in _said(verdict)]
    judged = verdicts[0].case
    if verdicts[0].symptom in PREDICTED and isinstance(judged, Case) and tells_by_one_result(judged):
        trial = trial_of(judged, operands, Outcome("returned", how, {OUTPUT: result.cpu()}), of_any_shape=True)
        cause = "" if trial is None or not are_finite(operands) else of_one_result(trial)
        wrong += [f"  cause:  {cause}"] * bool(cause)
    wrong += [f"the {name} gradient is None: no gradient has reached the {name}" for name in missing]
    if wrong:
        raise AssertionError("\n".join([*wrong, f"  conv2d: {case}", f"  judged: by {in_words(case, how)}"]))


def _said(verdict: Verdict) -> list[str]:
    """What is wrong, and where."""
    where = "" if verdict.difference is None else verdict.difference.where
    return [verdict.message] + [f"  where:  {where}"] * bool(where)


def _tensor(name: str, value: Any) -> torch.Tensor:
    """A tensor or an array as a dense tensor without a graph, on the device where it is."""
    if isinstance(value, torch.Tensor):
        if value.is_meta:
            raise ValueError(f"{name} is on device meta, which has no values")
        if value.is_quantized:
            raise TypeError(f"{name} is quantized, with dtype {value.dtype}: dequantize it first")
        value = value.detach()
        dense: torch.Tensor = value if value.layout == torch.strided else value.to_dense()
        return dense.resolve_conj().resolve_neg()
    if not hasattr(value, "__array__"):
        raise TypeError(f"{name}={reprlib.repr(value)} must be a torch.Tensor or a NumPy array")
    array = np.asarray(value, order="C")
    try:
        return to_tensor(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))
    except TypeError:
        raise TypeError(f"{name} has dtype {array.dtype}, which torch does not have") from None


def _case(
    operands: Operands,
    stride: IntOrInts,
    padding: Padding,
    dilation: IntOrInts,
    groups: int,
    device: torch.device,
) -> Case:
    """The case of these arguments, on the device of the result."""
    x, weight, bias = operands.input, operands.weight, operands.bias
    if x.dtype not in _DTYPES:
        raise ValueError(f"input has dtype {x.dtype}, but must have one of {', '.join(CASE_DTYPES)}")
    for name, other in (("weight", weight), ("bias", bias)):
        if other is not None and other.dtype != x.dtype:
            raise ValueError(f"{name} has dtype {other.dtype}, but must have that of the input, {x.dtype}")
    if weight.ndim != _AXES:
        said = f"but must have {_AXES} axes: (out_channels, in_channels / groups, kernel height, kernel width)"
        raise ValueError(f"weight has shape {tuple(weight.shape)}, {said}")
    shapes = tuple(x.shape), tuple(weight.shape)
    # The case checks these arguments and normalises them.
    arguments: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    case = Case(*shapes, **arguments, bias=bias is not None, dtype=_DTYPES[x.dtype], device=str(device))
    if bias is not None and tuple(bias.shape) != shapes[1][:1]:
        raise ValueError(f"bias has shape {tuple(bias.shape)}, but must have {shapes[1][:1]}: one number per channel")
    return case


def _arithmetic(case: Case, arithmetic: str | Arithmetic | None) -> Arithmetic:
    if arithmetic is None:
        return strictest(case)
    if isinstance(arithmetic, str):
        return arithmetic_for(case, arithmetic)
    if not isinstance(arithmetic, Arithmetic):
        raise TypeError(f"arithmetic={reprlib.repr(arithmetic)} must be a name, an Arithmetic or None")
    return arithmetic


def _gradients(
    case: Case, operands: Operands, gradients: Mapping[str, Any]
) -> tuple[Operands, dict[str, torch.Tensor], list[str]]:
    """The operands with the gradient of the result, the gradients to judge, and the names of those that are None."""
    if not isinstance(gradients, Mapping):
        raise TypeError(f"gradients={reprlib.repr(gradients)} must be a mapping from names to tensors")
    if not gradients:
        return operands, {}, []
    if case.dtype == "int64":
        raise ValueError("gradients: there are none of int64 operands")
    for name in gradients:
        if name not in (_GRAD_OUTPUT, *OPERANDS):
            raise ValueError(f"gradients has the key {name!r}; {legal_words(str(name), (_GRAD_OUTPUT, *OPERANDS))}")
    if gradients.get(_GRAD_OUTPUT) is None or len(gradients) == 1:
        raise ValueError(
            f"gradients={list(gradients)} must have {_GRAD_OUTPUT!r}, the gradient of the result, and a gradient to "
            f"judge: {listed(OPERANDS)}"
        )
    if "bias" in gradients and operands.bias is None:
        raise ValueError("gradients has the key 'bias', but bias=None")
    grad = _tensor(f"gradients[{_GRAD_OUTPUT!r}]", gradients[_GRAD_OUTPUT])
    for what, own, right in (
        ("shape", tuple(grad.shape), case.output_shape),
        ("dtype", grad.dtype, case.torch_dtype),
    ):
        if own != right:
            raise ValueError(f"gradients[{_GRAD_OUTPUT!r}] has {what} {own}, but must have that of the result, {right}")
    operands = replace(operands, grad=grad)
    if not are_finite(operands):
        raise ValueError("gradients cannot be judged, because an operand or grad_output has NaN or infinities")
    there = {name: gradients[name] for name in OPERANDS if name in gradients}
    given = {name: _tensor(f"gradients[{name!r}]", value) for name, value in there.items() if value is not None}
    return operands, given, [name for name, value in there.items() if value is None]


def _on_cpu(operands: Operands) -> Operands:
    x, weight, bias, grad = (
        None if t is None else t.cpu().contiguous()
        for t in (operands.input, operands.weight, operands.bias, operands.grad)
    )
    assert x is not None
    assert weight is not None
    return replace(operands, input=x, weight=weight, bias=bias, grad=grad)
