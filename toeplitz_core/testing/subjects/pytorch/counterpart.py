"""A subject next to torch: whether it calls torch's own convolution, and torch's, or a right one, in its place."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from toeplitz_core.operator import conv2d
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.subjects.interface import Claims, Implementation, Procedure, Subject
from toeplitz_core.testing.subjects.outcome import Answer, Outcome
from toeplitz_core.testing.subjects.pytorch.subject import TorchSubject

# What a worker runs: the subject; the subject while torch's convolution is watched, or while a right one takes its
# place; or torch's convolution instead of the subject.
Role = Literal["subject", "watched", "corrected", "torch"]

# The names of torch's operators that convolve, forward and backward, in all of its libraries; none that converts.
_CONVOLUTION = re.compile(r"conv(?!ert)")


class _Mode(TorchDispatchMode):
    """A mode whose first operator does not import torch's compiler, which takes seconds."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class ConvolutionWatch(_Mode):
    """A mode that notes when torch's own convolution is called, also by autograd and by ``torch.func``.

    Parameters
    ----------
    note : callable
        Called with the dtype just before each convolution, so that one that ends the process is noted too.
    operands : Operands, optional
        Only convolutions of these numbers, or of what another dtype keeps of them, are noted; of any if not given.
    """

    def __init__(self, note: Callable[[torch.dtype], object], operands: Operands | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotation there
        self._note = note
        given = () if operands is None else (operands.input, operands.weight, operands.grad)
        self._operands = None if operands is None else [values for values in given if values is not None]
        self._numbers: dict[torch.dtype, list[torch.Tensor]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],  # torch passes it
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator, unchanged."""
        if _CONVOLUTION.search(func.overloadpacket.__name__) and self._is_of_the_case(args):
            self._note(next(each.dtype for each in args if isinstance(each, torch.Tensor)))
        return func(*args, **kwargs or {})

    def _is_of_the_case(self, args: Sequence[Any]) -> bool:
        """Whether the numbers of some argument are those of an operand, but for zeros: it may be padded or a part."""
        if self._operands is None:
            return True
        with _disable_current_modes():
            return any(
                bool(one.numel()) == bool(other.numel()) and bool(torch.isin(one, other).all())
                for each in args
                if isinstance(each, torch.Tensor)
                for one in [_numbers(each)]
                for other in self._numbers_in(each.dtype)
            )

    def _numbers_in(self, dtype: torch.dtype) -> list[torch.Tensor]:
        """The different numbers in each operand, once it is converted to a dtype."""
        if dtype not in self._numbers:
            self._numbers[dtype] = [_numbers(values, dtype) for values in self._operands or ()]
        return self._numbers[dtype]


class RightConvolution(_Mode):
    """A mode that computes forward convolutions by :func:`toeplitz_core.conv2d` in place of torch's own."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],  # torch passes it
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator, or the convolution that stands for it."""
        if func is torch.ops.aten.convolution.default and not kwargs:
            x, weight, bias, stride, padding, dilation, transposed, _, groups = args
            if not transposed and x.dim() == weight.dim() == 4:
                return conv2d(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)
        return func(*args, **kwargs or {})


def _numbers(values: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The different numbers in a tensor, without zeros; of each part of a complex one. Converted first, if asked."""
    real = torch.view_as_real(values.detach().resolve_conj()) if values.is_complex() else values.detach()
    if dtype is not None:
        real = real.to(dtype.to_real())
    wide = real if real.dtype == torch.int64 else real.double()
    numbers: torch.Tensor = torch.unique(torch.nan_to_num(wide[wide != 0]).cpu())
    return numbers


# The procedures whose operands are the case's own. Others stack or replace them.
_OF_OWN_OPERANDS: tuple[Procedure, ...] = ("forward", "contract", "gradients")


class SubjectInMode:
    """A subject in this process that is called in a mode, which sees or replaces torch's own convolution.

    Parameters
    ----------
    subject : Subject
    mode : callable
        Makes the mode of a call, from its operands if they are the case's own, or else from None.
    """

    isolated: ClassVar[bool] = False

    def __init__(self, subject: Subject, mode: Callable[[Operands | None], TorchDispatchMode]) -> None:
        self._subject = subject
        self._mode = mode

    @property
    def name(self) -> str:
        return self._subject.name

    @property
    def claims(self) -> Claims:
        return self._subject.claims

    def run(self, case: Case, operands: Operands, procedure: Procedure = "forward") -> Outcome:
        """Call the subject, as it does itself."""
        with self._mode(operands if procedure in _OF_OWN_OPERANDS else None):
            return self._subject.run(case, operands, procedure)

    def answer(self, call: Call) -> Answer:
        """Call the subject, as it does itself."""
        with self._mode(None):
            return self._subject.answer(call)

    def restart(self) -> None:
        """Do nothing, as every subject in this process."""

    def poisoned(self) -> Sequence[Implementation]:
        """Return nothing, as every subject in this process."""
        return ()


def named(dtype: torch.dtype) -> str:
    """The name of a dtype, as cases have it."""
    return str(dtype).removeprefix("torch.")


def watched(subject: Subject, note: Callable[[torch.dtype], object]) -> SubjectInMode:
    """The subject, with its calls of torch's own convolution noted as :class:`ConvolutionWatch` does."""
    return SubjectInMode(subject, partial(ConvolutionWatch, note))


def corrected(subject: Subject) -> SubjectInMode:
    """The subject, with each forward convolution of torch replaced by a right one."""
    return SubjectInMode(subject, lambda _: RightConvolution())  # type: ignore[no-untyped-call]  # torch's is not


def torch_instead_of(subject: Subject) -> TorchSubject:
    """Torch's own convolution as a subject that is called, and judged, exactly as another subject is.

    It has the claims, arithmetic, layout and context of the subject.
    """
    torch_subject = TorchSubject(
        subject.name,
        torch.nn.functional.conv2d,
        layout=getattr(subject, "layout", "contiguous"),
        context=getattr(subject, "context", contextlib.nullcontext),
        arithmetic=subject.arithmetic,
        gradient_arithmetic=subject.gradient_arithmetic,
        memory_format=subject.memory_format,
        transposed=torch.nn.functional.conv_transpose2d,
        differentiable=True,
    )
    torch_subject.claims = subject.claims
    torch_subject.declared = subject.declared
    return torch_subject


def in_role(subject: Subject, role: Role, witness: str) -> Subject | SubjectInMode:
    """The subject in a role. If it is watched, each call of torch's own convolution adds its dtype to a file.

    Parameters
    ----------
    witness : str
        Path of the file.
    """
    if role == "torch":
        return torch_instead_of(subject)
    if role == "watched":
        file = os.open(witness, os.O_WRONLY | os.O_APPEND)
        return watched(subject, lambda dtype: os.write(file, f"{named(dtype)}\n".encode()))
    return corrected(subject) if role == "corrected" else subject
