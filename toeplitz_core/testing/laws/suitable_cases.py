"""Turn any case into one that a law says something about; on others the law would compare a call with itself.

Each function keeps everything in a case that the law can use, so that cases stay varied and shrink as usual.
"""

from __future__ import annotations

from toeplitz_core.testing.case.case import Case


def without_channels(case: Case) -> Case:
    """The case without input channels, with the same number of groups."""
    return case.replace(
        input=(*case.input[: -case.geometry.rank - 1], 0, *case.geometry.input_size),
        weight=(case.geometry.out_channels, 0, *case.geometry.kernel_size),
    )


def with_groups(case: Case) -> Case:
    """The case with two groups, if it has one."""
    return case if case.groups > 1 else _more_channels(case, groups=2)


def with_output_channels(case: Case) -> Case:
    """The case with two output channels, if it has one."""
    return case if case.geometry.out_channels > 1 else case.replace(weight=(2, *case.weight[1:]))


def with_input_channels(case: Case) -> Case:
    """The case with two input channels in each group, if it has one."""
    return case if case.geometry.group_channels > 1 else _more_channels(case, channels=2)


def _more_channels(case: Case, *, groups: int = 1, channels: int = 1) -> Case:
    """The case with its groups, and the input channels of each, multiplied by these factors."""
    g = case.geometry
    front = case.input[: -g.rank - 1]
    return case.replace(
        input=(*front, groups * channels * g.in_channels, *g.input_size),
        weight=(groups * g.out_channels, channels * g.group_channels, *g.kernel_size),
        groups=groups * g.groups,
    )


def dilated(case: Case) -> Case:
    """The case with a dilation of 2, if it has none; the image grows by as much as the kernel."""
    g = case.geometry
    if max(g.dilation) > 1:
        return case
    sizes = tuple(size + taps - 1 for size, taps in zip(g.input_size, g.kernel_size, strict=True))
    return case.replace(input=(*case.input[: -g.rank], *sizes), dilation=(2,) * g.rank)


def strided(case: Case) -> Case:
    """The case with a stride of 2, if it has none; padding ``same`` is replaced, because it excludes strides."""
    g = case.geometry
    if max(g.stride) > 1:
        return case
    half = tuple(extent // 2 for extent in g.kernel_extent)
    return case.replace(stride=(2,) * g.rank, padding=half if case.padding == "same" else case.padding)


def padded(case: Case) -> Case:
    """The case with a padding of 1, if it has none."""
    none = not any(low or high for low, high in case.geometry.pads)
    return case.replace(padding=(1,) * case.geometry.rank) if none else case
