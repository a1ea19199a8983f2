"""Another value for some parameters of a case, and a count of the calls that a search for such cases may make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws.registry import LAWS
from toeplitz_core.testing.strategies.reshaped import legal_layouts

_Tried = TypeVar("_Tried", Case, Call)

# The parameters with one value per axis of an image.
PER_AXIS = ("kernel_size", "stride", "dilation", "padding")


def changed(case: Case, *, same_outputs: bool = False, **parameters: Any) -> Case | None:
    """The case with other parameters, and with the layouts that its operands can still have.

    Parameters
    ----------
    same_outputs : bool
        Whether the image grows or shrinks, so that each axis has as many outputs as before and no pixel after the last
        window.
    **parameters
        ``batch`` (None for no batch axis), ``groups``, ``group_channels``, ``out_channels``, ``input_size``,
        ``kernel_size``, ``stride``, ``padding``, ``dilation``, and the other fields of a case.

    Returns
    -------
    Case or None
        None if no case has these parameters, or if its law is not checked on it.

    Examples
    --------
    >>> case = Case.parse("input=1x2x5x5 weight=4x2x3x3")
    >>> print(changed(case, kernel_size=(3, 1)), changed(case, groups=3))
    input=1x2x5x5 weight=4x2x3x1 None
    >>> print(changed(case, kernel_size=(3, 1), same_outputs=True))
    input=1x2x5x3 weight=4x2x3x1
    """
    g = case.geometry

    def value(name: str, now: Any) -> Any:
        return parameters.pop(name, now)

    groups, channels = value("groups", case.groups), value("group_channels", case.weight[1])
    outputs, batch = value("out_channels", g.out_channels), value("batch", case.batch)
    kernel, stride = value("kernel_size", g.kernel_size), value("stride", g.stride)
    dilation, padding = value("dilation", g.dilation), value("padding", g.padding)
    size = value("input_size", g.input_size)
    try:
        if same_outputs:
            image = ConvGeometry(1, 1, (2**40,) * g.rank, kernel, padding=padding, dilation=dilation)
            size = tuple(
                max(1, (count - 1) * step + extent - before - after)
                for count, step, extent, (before, after) in zip(
                    g.output_size, stride, image.kernel_extent, image.pads, strict=True
                )
            )
        geometry = ConvGeometry(groups * channels, outputs, size, kernel, stride, padding, dilation, groups)
        rest = {name: value(name, getattr(case, name)) for name in ("bias", "dtype", "device", "data", "seed", "law")}
        layouts = legal_layouts(geometry, batch, rest["bias"], dict(value("layouts", case.layouts)))
        found = Case.of(geometry, batch, layouts=layouts, **rest)
    except (ValueError, TypeError):
        return None
    law = LAWS.get(str(found.law))
    return found if law is None or law.takes(found) else None


class OutOfCallsError(Exception):
    """No call is left to ask about another case."""


class Asked(Generic[_Tried]):
    """A predicate on cases, or on calls, that is asked about each case once, and about a limited number of cases.

    Parameters
    ----------
    fails : callable
        Its answer is None if nothing is known of a case, such as one that the subject does not support.
    calls : int
        The limit on the calls of ``fails``.
    """

    def __init__(self, fails: Callable[[_Tried], bool | None], calls: int) -> None:
        self._fails: Callable[[_Tried], bool | None] = fails
        self.left = calls
        self.answers: dict[_Tried, bool | None] = {}

    def __call__(self, case: _Tried) -> bool | None:
        """Whether a case fails; ``OutOfCallsError`` if it has not been asked about and no call is left."""
        if case not in self.answers:
            if self.left <= 0:
                raise OutOfCallsError
            self.left -= 1
            self.answers[case] = self._fails(case)
        return self.answers[case]
