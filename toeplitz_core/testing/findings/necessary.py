"""Derive the condition of a failure from its shrunk case."""

from __future__ import annotations

from toeplitz_core.testing.case.attributes import ATTRIBUTES, is_all_padding
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.conditions import Condition


def necessary(case: Case | Call) -> Condition:
    """The condition of the failure that a shrunk case shows: every attribute that is not at its simplest is needed.

    A size must be at least the value of the case; a choice must be the same. Attributes that shrinking made simplest
    are left open. The condition of a call matches that call only.
    """
    if isinstance(case, Call):
        return Condition(f"call == {str(case)!r}")
    geometry = case.geometry
    parts = [f"dtype == '{case.dtype}'", f"device == '{ATTRIBUTES['device'].of(case)}'"]
    # These are the recipes that searches start with.
    if case.data not in ("integers", "normal"):
        parts.append(f"data == '{case.data}'")
    if case.batch is None:
        parts.append("not batched")
    sizes = {"batch": 1 if case.batch is None else case.batch, "groups": case.groups, "group_channels": case.weight[1]}
    if geometry.out_channels > case.groups:
        sizes["out_channels"] = geometry.out_channels
    for name, values in (
        ("input_size", geometry.input_size),
        ("kernel_size", geometry.kernel_size),
        ("stride", geometry.stride),
        ("dilation", geometry.dilation),
    ):
        sizes |= {f"{name}[{axis}]": value for axis, value in enumerate(values)}
    parts += [f"{name} {'==' if value == 0 else '>='} {value}" for name, value in sizes.items() if value != 1]
    for axis, pads in enumerate(geometry.pads):
        parts += [f"padding[{axis}][{side}] >= {pad}" for side, pad in enumerate(pads) if pad]
    if isinstance(case.padding, str):
        parts.append(f"padding_name == '{case.padding}'")
    if is_all_padding(case):
        parts.append("all_padding")
    if case.bias:
        parts.append("bias")
    parts += [f"layout_{operand} == '{layout}'" for operand, layout in case.layouts]
    return Condition(" and ".join(parts))
