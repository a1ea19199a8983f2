"""The smallest call that still fails: fewer arguments, and operands with fewer elements."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields, replace
from functools import partial

from toeplitz_core.testing.case.call import Call, TensorSpec
from toeplitz_core.testing.case.case import OPERANDS
from toeplitz_core.testing.search.changes import Asked, OutOfCallsError

# The values of the arguments that may be left out.
_DEFAULTS = {field.name: field.default for field in fields(Call) if field.default is not MISSING}
# An axis of an operand.
_Axis = tuple[str, int]


def smallest_call(call: Call, fails: Callable[[Call], bool | None], *, calls: int) -> Call:
    """The smallest call found that fails as this one does.

    Each argument that may be left out is left out, and each size becomes 1, if the call still fails. Sizes that must
    agree, such as the channels of input and weight, become 1 together. This is repeated until nothing changes.

    Parameters
    ----------
    call : Call
        A call that fails.
    fails : callable
        Whether a call fails in the same way. It is called at most once for each call.
    calls : int
        The limit on the calls of ``fails``.

    Examples
    --------
    >>> call = Call.parse("input=float32[2x3x5x5] weight=float32[4x3x3x3] bias=float32[4] stride=(1,2) groups=True")
    >>> print(smallest_call(call, lambda call: call.groups == "True", calls=100))
    call input=float32[1x1x1x1] weight=float32[1x1x1x1] groups=True
    """
    asked = Asked(fails, calls)
    best, before = call, None
    with contextlib.suppress(OutOfCallsError):
        while best != before:
            before = best
            for change in _changes(call):
                simpler = change(best)
                if simpler != best and asked(simpler):
                    best = simpler
    return best


def _changes(call: Call) -> Iterator[Callable[[Call], Call]]:
    axes = [
        (name, axis)
        for name in OPERANDS
        if isinstance(operand := call[name], TensorSpec)
        for axis in range(len(operand.shape))
    ]
    yield partial(_with_ones, axes=axes)
    yield partial(_with_ones, axes=axes, groups="1")
    for name, default in _DEFAULTS.items():
        yield partial(replace, **{name: default})
    for number in (1, 2):
        for chosen in itertools.combinations(axes, number):
            yield partial(_with_ones, axes=chosen)
            yield partial(_with_ones, axes=chosen, groups="1")


def _with_ones(call: Call, axes: Sequence[_Axis], groups: str | None = None) -> Call:
    """The call with size 1 on these axes, and perhaps with other groups; sizes of 0 stay."""
    call = call if groups is None else replace(call, groups=groups)
    for name, axis in axes:
        operand = call[name]
        if isinstance(operand, TensorSpec) and operand.shape[axis] > 1:
            shape = (*operand.shape[:axis], 1, *operand.shape[axis + 1 :])
            call = replace(call, **{name: str(replace(operand, shape=shape))})
    return call
