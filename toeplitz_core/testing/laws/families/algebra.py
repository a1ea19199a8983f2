"""Algebraic laws: exact relations on integers between several results of one implementation.

Each law derives further convolutions from a case. Each of their results must be right. The law then states how they are
related. This needs no matrix, so it would be valid even if the oracle were wrong. The exception is the composition,
which is compared with the product of two matrices and the image.
"""

from __future__ import annotations

from typing import Any

import torch

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.products import by_image, forward
from toeplitz_core.testing.data.operands import wide
from toeplitz_core.testing.laws import suitable_cases as sharpening
from toeplitz_core.testing.laws.relation import Convolution, Sides, Unanswered, relation_law
from toeplitz_core.testing.laws.verdict import Status


def _additive_in_input(c: Convolution) -> Sides:
    """``f(x1) + f(x2) = f(x1 + x2) + b``; no element of ``x1`` or ``x2`` is larger than that of ``x``."""
    one, other = _parts(c, c.x)
    return c.of(one) + c.of(other), c.result() + c.offset


def _additive_in_weight(c: Convolution) -> Sides:
    one, other = _parts(c, c.weight)
    return c.of(weight=one) + c.of(weight=other), c.result() + c.offset


def _parts(c: Convolution, whole: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tensors that add up to ``whole``: each element goes to one of them or is split in half."""
    numbers = torch.view_as_real(whole) if whole.is_complex() else whole
    halves = torch.div(numbers, 2, rounding_mode="trunc")
    first = halves.where(c.mask("halved", numbers), numbers.where(c.mask("split", numbers), 0))
    rest = numbers - first
    return (torch.view_as_complex(first), torch.view_as_complex(rest)) if whole.is_complex() else (first, rest)


def _homogeneous(c: Convolution) -> Sides:
    """A factor of -2 in input or weight scales the result by -2. A power of two, so no digit is lost."""
    bias = None if c.bias is None else -2 * c.bias
    scaled = torch.stack((c.of(-2 * c.x, bias=bias), c.of(weight=-2 * c.weight, bias=bias)))
    return scaled, torch.stack((-2 * c.result(),) * 2)


def _shift_equivariant(c: Convolution) -> Sides:
    """Prepending ``n * stride`` zeros to the image shifts the result by ``n`` pixels."""
    g, sides = c.geometry, []
    result, strides = c.result(), 1 + c.choice("strides", 3)
    for axis in range(g.rank):
        at = axis - g.rank
        shape = list(c.x.shape)
        shape[at] = strides * g.stride[axis]
        moved = c.of(torch.cat((c.x.new_zeros(shape), c.x), dim=at))
        sides.append(moved.narrow(at, strides, moved.shape[at] - strides))
    return torch.stack(sides), torch.stack((result,) * g.rank)


def _batch_independent(c: Convolution) -> Sides:
    """An image has the same result alone, at any position in a batch, and without a batch axis."""
    if c.case.batch is None:
        both = c.of(torch.stack((-c.x, c.x)))
        return both[1], c.result()
    if c.case.batch == 0:
        return c.result(), c.result()
    result, order = c.result(), c.permutation("order", c.case.batch)
    alone = c.choice("image", c.case.batch)
    one = c.of(c.x[alone : alone + 1])
    try:
        none = c.of(c.x[alone])
    except Unanswered as refused:
        if refused.verdict.status is not Status.UNSUPPORTED:
            raise
        none = one[0]  # the subject does not support an input without a batch
    return torch.cat((c.of(c.x[order]), one, none[None])), torch.cat(
        (result[order], result[alone][None].repeat_interleave(2, 0))
    )


def _output_channels_permute(c: Convolution) -> Sides:
    """Permuting the groups, or the output channels within each group, permutes the result alike."""
    g = c.geometry
    groups = c.permutation("groups", g.groups)
    order = _by_groups(groups, c.permutation("order", g.out_channels // g.groups))
    x = c.x.index_select(-g.rank - 1, _by_groups(groups, torch.arange(g.group_channels)))
    bias = None if c.bias is None else c.bias[order]
    return c.of(x, c.weight[order], bias), c.result().index_select(-g.rank - 1, order)


def _input_channels_permute(c: Convolution) -> Sides:
    """Permuting the input channels within each group leaves the result unchanged."""
    g = c.geometry
    within = c.permutation("order", g.group_channels)
    x = c.x.index_select(-g.rank - 1, _by_groups(torch.arange(g.groups), within))
    return c.of(x, c.weight[:, within]), c.result()


def _groups_are_blocks(c: Convolution) -> Sides:
    """A grouped convolution equals a dense one whose weight is block diagonal."""
    g = c.geometry
    full = c.weight.new_zeros(g.out_channels, g.in_channels, *g.kernel_size)
    each, inputs = g.out_channels // g.groups, g.group_channels
    for group in range(g.groups):
        rows = slice(group * each, (group + 1) * each)
        full[rows, group * inputs : (group + 1) * inputs] = c.weight[rows]
    return c.of(weight=full, groups=1), c.result()


def _dilation_stuffs_zeros(c: Convolution) -> Sides:
    """A dilated kernel equals a kernel with zeros between its taps."""
    g = c.geometry
    stuffed = c.weight.new_zeros(*c.weight.shape[:2], *g.kernel_extent)
    stuffed[_pixels(*(slice(None, None, d) for d in g.dilation))] = c.weight
    return c.of(weight=stuffed, dilation=(1,) * g.rank), c.result()


def _stride_subsamples(c: Convolution) -> Sides:
    """With stride ``s``, the result is every ``s``-th output of the stride-1 convolution."""
    g = c.geometry
    dense = c.of(stride=(1,) * g.rank)
    return dense[_pixels(*(slice(None, None, s) for s in g.stride))], c.result()


def _padding_embeds(c: Convolution) -> Sides:
    """Convolving with padding equals convolving the image with zeros around it."""
    g = c.geometry
    return c.of(_embedded(c), padding=(0,) * g.rank), c.result()


def _channels_add_up(c: Convolution) -> Sides:
    """The results of separate input channels add up; a channel of zeros adds nothing."""
    g = c.geometry
    x = c.x.unflatten(-g.rank - 1, (g.groups, g.group_channels))
    if g.group_channels == 1:
        more = torch.cat((x, torch.zeros_like(x)), dim=-g.rank - 1).flatten(-g.rank - 2, -g.rank - 1)
        return c.of(more, c.weight.repeat(1, 2, *(1,) * g.rank)), c.result()
    at = 1 + c.choice("split", g.group_channels - 1)
    parts = [
        c.of(
            x.narrow(-g.rank - 1, begin, count).flatten(-g.rank - 2, -g.rank - 1),
            c.weight[:, begin : begin + count],
            bias=begin == 0,
        )
        for begin, count in ((0, at), (at, g.group_channels - at))
    ]
    return parts[0] + parts[1], c.result()


def _pointwise_is_a_matrix_product(c: Convolution) -> Sides:
    """A kernel of one tap multiplies the channels of each pixel by a matrix, in an image or in a row of pixels."""
    g = c.geometry
    tap = c.tap(g.kernel_size)
    weight = c.weight[_pixels(*(slice(t, t + 1) for t in tap))]
    # Only the pixels that the tap reads: the case multiplies no other pixel by it, and their products may be too large.
    read = (
        slice(t * d, t * d + s * (n - 1) + 1)
        for t, d, s, n in zip(tap, g.dilation, g.stride, g.output_size, strict=True)
    )
    image = _embedded(c)[_pixels(*read)]
    pixels = image[_pixels(*(slice(None, None, s) for s in g.stride))].flatten(-g.rank)
    row = pixels.view(*pixels.shape[:-1], *(1,) * (g.rank - 1), pixels.shape[-1])
    once = (1,) * g.rank
    result = c.of(image, weight, padding=(0,) * g.rank)
    in_a_row = (
        result if row.shape == image.shape else c.of(row, weight, stride=once, padding=(0,) * g.rank, dilation=once)
    )
    matrix = wide(weight).flatten(1).unflatten(0, (g.groups, -1))
    product = torch.einsum("goc,...gcp->...gop", matrix, wide(pixels).unflatten(-2, (g.groups, -1))).flatten(-3, -2)
    product = product if c.bias is None else product + wide(c.bias)[:, None]
    return torch.stack((result.flatten(-g.rank), in_a_row.flatten(-g.rank))), torch.stack((product, product))


def _delta_kernel_shifts(c: Convolution) -> Sides:
    """A kernel that is 1 at one tap and 0 elsewhere copies the pixels that the tap reads, and adds the bias."""
    g = c.geometry
    tap = c.tap(g.kernel_size)
    channel = torch.arange(g.out_channels) % max(1, g.group_channels)
    delta = torch.zeros_like(c.weight)
    delta[(torch.arange(g.out_channels), channel, *tap)] = 1
    first = torch.arange(g.out_channels) // (g.out_channels // g.groups) * g.group_channels
    copied = wide(_embedded(c)).index_select(-g.rank - 1, first + channel)
    for axis in range(g.rank):
        begin = tap[axis] * g.dilation[axis]
        pixels = begin + g.stride[axis] * torch.arange(g.output_size[axis])
        copied = copied.index_select(axis - g.rank, pixels)
    return c.of(weight=delta), copied + c.offset


def _composition_multiplies(c: Convolution) -> Sides:
    """Convolving the result a second time equals multiplying by the product of the two matrices."""
    g = c.geometry
    result = c.result()
    taps = tuple(min(2, n) for n in g.output_size)
    second = c.weight.new_zeros(g.out_channels, g.out_channels, *taps)
    # One tap per filter, so that sums do not grow.
    channels = torch.arange(g.out_channels)
    second[(channels, c.permutation("order", g.out_channels), *c.tap(taps))] = 1
    twice = c.of(result.to(c.x.dtype), second, None, **_plain(g.rank), groups=1)
    after = ConvGeometry(g.out_channels, g.out_channels, g.output_size, taps)
    exact = forward(g, wide(c.weight), by_image(g, wide(c.x)))
    exact = exact if c.bias is None else exact + wide(c.bias)[:, None]
    return twice, forward(after, wide(second), exact).view(twice.shape)


def _embedded(c: Convolution) -> torch.Tensor:
    """The image with its padding of zeros."""
    g = c.geometry
    embedded = c.x.new_zeros(*c.x.shape[: -g.rank], *g.padded_size)
    inside = [slice(low, low + size) for (low, _), size in zip(g.pads, g.input_size, strict=True)]
    embedded[_pixels(*inside)] = c.x
    return embedded


def _plain(rank: int) -> dict[str, Any]:
    """The parameters of a convolution without stride, padding and dilation."""
    return {"stride": (1,) * rank, "padding": (0,) * rank, "dilation": (1,) * rank}


def _pixels(*slices: slice) -> tuple[Any, ...]:
    """An index that slices the last axes."""
    return (..., *slices)


def _by_groups(groups: torch.Tensor, within: torch.Tensor) -> torch.Tensor:
    """The order of all channels, from the order of the groups and the order of channels within each group."""
    return (groups[:, None] * len(within) + within).flatten()


ALGEBRA = (
    relation_law(
        "additive-in-input",
        "Apart from the bias, the results of two inputs add up to the result of their sum.",
        "results that depend on the magnitude of the input or on an earlier call",
        _additive_in_input,
    ),
    relation_law(
        "additive-in-weight",
        "Apart from the bias, the results of two weights add up to the result of their sum.",
        "a result cached for an input and returned although the weight has changed",
        _additive_in_weight,
    ),
    relation_law(
        "homogeneous",
        "Scaling the bias and either the input or the weight scales the result.",
        "memory that is not written; saturation; results that depend on the sign of the input",
        _homogeneous,
    ),
    relation_law(
        "shift-equivariant",
        "Prepending n * stride zeros to the image shifts its result by n pixels.",
        "a first or last tile that is computed differently from the others",
        _shift_equivariant,
    ),
    relation_law(
        "batch-independent",
        "An image has the same result alone, at any position in any batch, and without a batch axis.",
        "wrong images after the last full block; a batch that is normalised or mixed",
        _batch_independent,
    ),
    relation_law(
        "output-channels",
        "Permuting output channels or groups in the operands permutes the result in the same way.",
        "output channels that are swapped between groups, or dropped at the end of a block",
        _output_channels_permute,
        sharpen=sharpening.with_output_channels,
    ),
    relation_law(
        "input-channels",
        "Permuting the input channels within each group, in input and weight alike, leaves the result unchanged.",
        "input channels that are dropped after the last full vector",
        _input_channels_permute,
        sharpen=sharpening.with_input_channels,
    ),
    relation_law(
        "groups",
        "A grouped convolution equals a dense one whose weight is block diagonal.",
        "a code path for groups that differs from the dense one",
        _groups_are_blocks,
        sharpen=sharpening.with_groups,
    ),
    relation_law(
        "dilation",
        "A dilated kernel gives the same result as a kernel with zeros between its taps.",
        "a code path for dilation that differs from the dense one",
        _dilation_stuffs_zeros,
        sharpen=sharpening.dilated,
    ),
    relation_law(
        "stride",
        "With stride s, the result is every s-th output of the stride-1 convolution.",
        "a code path for strides that differs from the dense one",
        _stride_subsamples,
        sharpen=sharpening.strided,
    ),
    relation_law(
        "padding",
        "Convolving with padding gives the same result as putting zeros around the image first.",
        "padding on the wrong side, or with values other than zero",
        _padding_embeds,
        sharpen=sharpening.padded,
    ),
    relation_law(
        "channels-add-up",
        "Splitting the input channels into two parts and adding the two results gives the whole result.",
        "partial sums over channels that are not added up",
        _channels_add_up,
    ),
    relation_law(
        "pointwise",
        "A kernel of one tap multiplies the channels of each pixel by the same matrix, wherever the pixel lies.",
        "errors in specialised code for 1x1 kernels",
        _pointwise_is_a_matrix_product,
    ),
    relation_law(
        "delta-kernel",
        "A kernel that is 1 at one tap and 0 elsewhere copies the pixels that this tap reads.",
        "taps that are swapped, flipped or transposed",
        _delta_kernel_shifts,
    ),
    relation_law(
        "composition",
        "Convolving twice equals multiplying by the product of the two matrices.",
        "errors that cancel within a single convolution",
        _composition_multiplies,
    ),
)
