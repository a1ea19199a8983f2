"""Change the parameters of a case and keep the rest: the number of its outputs above all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import layouts_of


def reshaped(case: Case, **parameters: Any) -> Case:
    """The case with other parameters. The image grows or shrinks, so that the number of outputs stays where it can.

    Parameters
    ----------
    **parameters
        ``kernel_size``, ``stride``, ``padding`` and ``dilation`` as for :class:`ConvGeometry`; ``groups``,
        ``group_channels`` and ``out_channels``; ``batch`` (None for no batch axis); ``bias``; ``layouts``.

    Raises
    ------
    ValueError
        If no case has these parameters.

    Examples
    --------
    >>> str(reshaped(Case.parse("input=1x4x9x9 weight=4x2x3x3 groups=2 stride=2"), groups=1, stride=(1, 1)))
    'input=1x2x6x6 weight=4x2x3x3'
    """
    g = case.geometry
    batch = parameters.get("batch", case.batch)
    groups = parameters.get("groups", g.groups)
    channels = groups * parameters.get("group_channels", g.group_channels)
    outputs = parameters.get("out_channels", g.out_channels)
    if "out_channels" not in parameters and outputs % groups:
        outputs = groups * max(1, g.out_channels // g.groups)
    changed = {name: tuple(parameters[name]) for name in ("kernel_size", "stride", "dilation") if name in parameters}
    sizes: dict[str, Any] = {"kernel_size": g.kernel_size, "stride": g.stride, "dilation": g.dilation} | changed
    padding = parameters.get("padding", g.padding)
    if padding == "same" and max(sizes["stride"]) > 1:
        padding = tuple((k - 1) * d // 2 for k, d in zip(sizes["kernel_size"], sizes["dilation"], strict=True))
    image = _image(g, padding, sizes) if changed or padding != g.padding else g.input_size
    geometry = ConvGeometry(channels, outputs, image, padding=padding, groups=groups, **sizes)
    bias = parameters.get("bias", case.bias)
    return Case.of(
        geometry,
        batch,
        bias=bias,
        dtype=case.dtype,
        layouts=legal_layouts(geometry, batch, bias, dict(parameters.get("layouts", case.layouts))),
        device=case.device,
        data=case.data,
        seed=case.seed,
        law=case.law,
    )


def _image(g: ConvGeometry, padding: Any, sizes: Mapping[str, Any]) -> tuple[int, ...]:
    """The size of an image that has as many outputs, and as many pixels after the last window."""
    if g.pixels == 0:
        return g.input_size
    image = []
    for axis in range(g.rank):
        kernel, stride, dilation = (sizes[name][axis] for name in ("kernel_size", "stride", "dilation"))
        extent = (kernel - 1) * dilation + 1
        pads = {"same": extent - 1, "valid": 0}.get(padding) if isinstance(padding, str) else 2 * padding[axis]
        needed = (g.output_size[axis] - 1) * g.stride[axis] + g.kernel_extent[axis]
        slack = min(g.padded_size[axis] - needed, stride - 1)
        image.append(max(1, (g.output_size[axis] - 1) * stride + extent + slack - (pads or 0)))
    return tuple(image)


def legal_layouts(
    g: ConvGeometry, batch: int | None, bias: bool, layouts: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """The layouts that operands of these shapes can have."""
    axes = g.rank + (1 if batch is None else 2)
    of = {"input": axes, "weight": g.rank + 2, "bias": 1 if bias else 0, "grad": axes}
    return tuple((name, layout) for name, layout in layouts.items() if of[name] in layouts_of(name)[layout][2])
