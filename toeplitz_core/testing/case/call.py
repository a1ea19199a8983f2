"""A call of conv2d as a value with a one-line text form: any call, valid or not.

A line has everything that is needed to repeat the call on any machine::

    call input=float32[2x3x5x5] weight=float32[4x3x3x3] bias=float32[4] stride=(1,0) padding='same'

Every word after the first is ``name=value``. A tensor is ``dtype[shape]``, followed by ``@device`` if it is not on the
CPU. Every other value is a Python literal without blanks, or one of the objects of :data:`NAMED`, such as
``torch.tensor(2)``. The line of a case does not begin with ``call``: see :mod:`toeplitz_core.testing.case.case`.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import torch

from toeplitz_core.testing.case.case import DEVICES, OPERANDS, Case
from toeplitz_core.testing.case.dtypes import DTYPES
from toeplitz_core.testing.support.spelling import legal_words

# The first word of a call's line; the line of a case has no such word.
WORD = "call"
# The law that is checked on calls.
LAW = "errors"

# A tensor on ``meta`` has a shape and a dtype, but no values. ``cuda`` may be followed by a number: cuda:1.
TENSOR_DEVICES = (*DEVICES, "meta")

# Objects other than literals that people pass as a number or as a tuple of numbers.
NAMED: dict[str, Callable[..., object]] = {
    "numpy.array": np.array,
    "numpy.bool": np.bool_,
    "numpy.float64": np.float64,
    "numpy.int32": np.int32,
    "numpy.int64": np.int64,
    "numpy.uint8": np.uint8,
    "range": range,
    "torch.Size": torch.Size,
    "torch.tensor": torch.tensor,
}

_REQUIRED = ("input", "weight")
_TENSOR = re.compile(r"(?P<dtype>[a-z]\w*)\[(?P<shape>(?:\d+(?:x\d+)*)?)\](?:@(?P<device>\w+(?::\d+)?))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor operand. Its values follow from the operand's name.

    Parameters
    ----------
    dtype : str
        One of ``DTYPES``.
    shape : tuple of int
        Size of each axis; empty for a tensor with one element and no axes.
    device : str
        A device of torch: ``cpu``, ``meta``, ``cuda``, ``cuda:1``, ...

    Examples
    --------
    >>> str(TensorSpec("float32", (2, 3, 5, 5))), str(TensorSpec("int64", (), "meta"))
    ('float32[2x3x5x5]', 'int64[]@meta')
    """

    dtype: str
    shape: tuple[int, ...]
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype!r} must be one of {', '.join(DTYPES)}")
        if self.device.partition(":")[0] not in TENSOR_DEVICES:
            raise ValueError(f"device={self.device!r} must be one of {', '.join(TENSOR_DEVICES)}")

    def __str__(self) -> str:
        device = "" if self.device == "cpu" else f"@{self.device}"
        return f"{self.dtype}[{'x'.join(map(str, self.shape))}]{device}"

    @property
    def kind(self) -> str:
        """The kind of device, without its number."""
        return self.device.partition(":")[0]

    def tensor(self, seed: int) -> torch.Tensor:
        """The tensor, with integers -1, 0 and 1 drawn from the seed (unsigned: 0, 1 and 2; bool: True if not 0).

        The numbers are so small that for the shapes in use every sum is exact in any order, even in float16 and
        bfloat16.
        """
        dtype = DTYPES[self.dtype].torch
        bits = np.random.PCG64(seed).random_raw(math.prod(self.shape)) % np.uint64(3)
        values = torch.from_numpy(bits.astype(np.int64)).reshape(self.shape)
        if dtype.is_signed:
            values = values - 1
        if dtype.is_complex:
            values = values + 1j * values.flip(tuple(range(values.ndim)))
        return values.to(dtype).to(self.device)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Whether a function accepted a call, with its result or its error.

    Parameters
    ----------
    accepted : bool
        True if the function returned, False if it raised an error.
    shape, dtype : tuple of int, torch.dtype, optional
        Shape and dtype of the result.
    error : type of Exception, optional
        The type of the error that the function raised.
    message : str
        The message of that error.
    value : tensor, optional
        The result; it is not compared.
    """

    accepted: bool
    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None
    error: type[Exception] | None = None
    message: str = ""
    value: torch.Tensor | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        if self.error is None:
            return f"accepted: {self.dtype} of shape {self.shape}"
        return f"refused: {self.error.__name__}: {self.message}"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of conv2d, valid or not.

    The fields are the arguments as text, and each value has exactly one spelling. So ``1``, ``True`` and ``1.0`` are
    three different values, and arrays and tensors can be compared.

    Parameters
    ----------
    input, weight, bias : str
        A tensor such as ``float32[2x3x5x5]`` or ``float32[4]@meta``, or any value that ``stride`` may have.
    stride, padding, dilation, groups : str
        A Python literal or an object of :data:`NAMED`. The defaults are those of conv2d; they are not passed to the
        function.

    Raises
    ------
    ValueError
        If the text of a field is malformed.

    Examples
    --------
    >>> call = Call.parse("input=float32[2x3x5x5] weight=float32[4x3x3x3] stride=(2,1) groups=1")
    >>> print(call)
    call input=float32[2x3x5x5] weight=float32[4x3x3x3] stride=(2,1)
    >>> call == Call("float32[2x3x5x5]", "float32[4x3x3x3]", stride="(2, 1)")
    True
    >>> print(call.accepted_by(torch.nn.functional.conv2d))
    accepted: torch.float32 of shape (2, 4, 2, 3)
    """

    input: str
    weight: str
    bias: str = "None"
    stride: str = "1"
    padding: str = "0"
    dilation: str = "1"
    groups: str = "1"

    def __post_init__(self) -> None:
        for name in NAMES:
            object.__setattr__(self, name, _canonical(name, getattr(self, name)))

    @classmethod
    def parse(cls, line: str) -> Call:
        """The call that a line describes; the first word ``call`` may be missing.

        Examples
        --------
        >>> Call.parse("input=float32[1x5x5] bias=float32[1]")
        Traceback (most recent call last):
            ...
        ValueError: 'input=float32[1x5x5] bias=float32[1]' must give weight
        """
        values: dict[str, str] = {}
        for word in line.split()[line.split()[:1] == [WORD] :]:
            name, equals, value = word.partition("=")
            if not equals:
                raise ValueError(f"{word!r} must be name=value, where name is one of {', '.join(NAMES)}")
            if name not in NAMES:
                raise ValueError(f"{word!r}: {legal_words(name, NAMES)}")
            if name in values:
                raise ValueError(f"{word!r}: {name} is already given as {values[name]}")
            values[name] = value
        missing = [name for name in _REQUIRED if name not in values]
        if missing:
            raise ValueError(f"{line!r} must give {' and '.join(missing)}")
        return cls(**values)

    def __str__(self) -> str:
        words = [(f.name, getattr(self, f.name), f.default) for f in fields(self)]
        return " ".join((WORD, *(f"{name}={text}" for name, text, default in words if text != default)))

    def replace(self, *, law: str | None) -> Self:
        """The call itself: a call does not name a law, because only one law is checked on calls."""
        if law not in (None, LAW):
            raise ValueError(f"law={law} must be {LAW} for a call")
        return self

    @property
    def law(self) -> str:
        """The law that is checked on calls."""
        return LAW

    @property
    def operands(self) -> tuple[TensorSpec, ...]:
        """The operands among input, weight and bias that are tensors."""
        return tuple(value for name in OPERANDS if isinstance(value := self[name], TensorSpec))

    @property
    def dtype(self) -> str:
        """The dtype of the first tensor; float32 if there is no tensor."""
        return next((operand.dtype for operand in self.operands), "float32")

    @property
    def device(self) -> str:
        """The accelerator that the call needs, or cpu."""
        return next((operand.device for operand in self.operands if operand.kind == "cuda"), "cpu")

    @property
    def layouts(self) -> tuple[tuple[str, str], ...]:
        """Always empty: the tensors of a call are contiguous."""
        return ()

    @property
    def nbytes(self) -> int:
        """Bytes of the operands."""
        return sum(math.prod(operand.shape) * DTYPES[operand.dtype].torch.itemsize for operand in self.operands)

    def __getitem__(self, name: str) -> Any:  # an argument can be anything
        """The value of an argument; a tensor operand is given as its :class:`TensorSpec`.

        Examples
        --------
        >>> Call("float32[1x5x5]", "float32[1x1x3x3]", stride="(2,True)")["stride"]
        (2, True)
        """
        if name not in NAMES:
            raise KeyError(f"{name!r} must be one of {', '.join(NAMES)}")
        return _value(getattr(self, name))

    def arguments(self) -> tuple[tuple[object, ...], dict[str, object]]:
        """Positional arguments (input and weight) and keyword arguments (all that are not default), tensors built."""
        values: dict[str, object] = {}
        for f in fields(self):
            if getattr(self, f.name) != f.default:
                value = self[f.name]
                values[f.name] = value.tensor(NAMES.index(f.name)) if isinstance(value, TensorSpec) else value
        return tuple(values.pop(name) for name in _REQUIRED), values

    def accepted_by(self, function: Callable[..., torch.Tensor]) -> Acceptance:
        """The outcome of calling a function with conv2d's signature; every ordinary exception is an outcome."""
        args, kwargs = self.arguments()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                value = function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  # any error is the outcome
                return Acceptance(accepted=False, error=type(error), message=str(error))
        return Acceptance(accepted=True, shape=tuple(value.shape), dtype=value.dtype, value=value)


NAMES = tuple(f.name for f in fields(Call))


def parse_line(line: str) -> Case | Call:
    """The case or the call that a line describes; the first word decides which.

    Raises
    ------
    ValueError
        If the line is malformed. The message names the wrong word and what is legal.
    """
    return Call.parse(line) if line.split()[:1] == [WORD] else Case.parse(line)


def _canonical(name: str, text: str) -> str:
    try:
        value = _value(text)
        if not isinstance(value, TensorSpec):
            return _spelling(ast.parse(text, mode="eval").body)
        if name not in OPERANDS:
            raise ValueError(f"only {', '.join(OPERANDS)} can be given as dtype[shape]")  # noqa: TRY301  # caught below
    except (ValueError, TypeError, SyntaxError, ArithmeticError, RuntimeError, MemoryError) as error:
        legal = "a Python literal without blanks"
        if name in OPERANDS:
            legal += ", a tensor such as float32[2x3x5x5] or float32[4]@meta"
        raise ValueError(
            f"{f'{name}={text}'!r} must be {legal}, or one of {', '.join(NAMED)} of literals: {error}"
        ) from None
    return str(value)


def _value(text: str) -> object:
    tensor = _TENSOR.fullmatch(text)
    if tensor is None:
        return _evaluate(ast.parse(text, mode="eval").body)
    shape = tuple(int(size) for size in tensor["shape"].split("x") if size)
    return TensorSpec(tensor["dtype"], shape, tensor["device"] or "cpu")


def _evaluate(node: ast.expr) -> object:
    """``ast.literal_eval`` with the objects of ``NAMED``."""
    match node:
        case ast.Call(func=function, args=arguments, keywords=[]):
            name = ast.unparse(function)
            if name not in NAMED:
                raise ValueError(f"{name} is not known")
            return NAMED[name](*map(_evaluate, arguments))
        case ast.Tuple(elts=elements):
            return tuple(map(_evaluate, elements))
        case ast.List(elts=elements):
            return list(map(_evaluate, elements))
        case ast.Constant() | ast.UnaryOp() | ast.BinOp():
            return ast.literal_eval(node)
        case _:
            raise ValueError(f"{ast.unparse(node)} is not a literal")


def _spelling(node: ast.expr) -> str:
    """The unique spelling of a value that ``_evaluate`` accepts: without blanks, only ASCII."""
    match node:
        case ast.Call(func=function, args=arguments):
            return f"{ast.unparse(function)}({','.join(map(_spelling, arguments))})"
        case ast.Tuple(elts=[element]):
            return f"({_spelling(element)},)"
        case ast.Tuple(elts=elements):
            return f"({','.join(map(_spelling, elements))})"
        case ast.List(elts=elements):
            return f"[{','.join(map(_spelling, elements))}]"
        case ast.Constant(value=str() | bytes() as value):
            return ascii(value).replace(" ", r"\x20")
        case _:
            return ast.unparse(node).replace(" ", "")
