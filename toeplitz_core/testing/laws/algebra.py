"""What holds between results of one implementation, whatever it computes: exactly, on integers.

Each law derives further convolutions from a case and says how their results belong together. No matrix is needed for
that, so these laws stand even if the oracle were wrong: all but the composition, whose other side is the product of two
matrices with the image.
"""

from __future__ import annotations

from typing import Any

import torch

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.operator import by_image, forward
from toeplitz_core.testing.data.operands import wide
from toeplitz_core.testing.laws import sharpening
from toeplitz_core.testing.laws.relation import Convolution, Sides, Unanswered, relation_law
from toeplitz_core.testing.laws.verdict import Status


def _additive_in_input(c: Convolution) -> Sides:
    """``f(x1) + f(x2) = f(x1 + x2) + b``, where no element of ``x1`` and ``x2`` is larger than that of ``x``."""
    one, other = _parts(c, c.x)
    return c.of(one) + c.of(other), c.result() + c.offset


def _additive_in_weight(c: Convolution) -> Sides:
    one, other = _parts(c, c.weight)
    return c.of(weight=one) + c.of(weight=other), c.result() + c.offset


def _parts(c: Convolution, whole: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two that add up to ``whole``: each of its elements goes to one of them, or is halved between them."""
    numbers = torch.view_as_real(whole) if whole.is_complex() else whole
    halves = torch.div(numbers, 2, rounding_mode="trunc")
    first = halves.where(c.mask("halved", numbers), numbers.where(c.mask("split", numbers), 0))
    rest = numbers - first
    return (torch.view_as_complex(first), torch.view_as_complex(rest)) if whole.is_complex() else (first, rest)


def _homogeneous(c: Convolution) -> Sides:
    """A factor of -2 comes out of input and weight: a power of two, so that no digit is lost."""
    bias = None if c.bias is None else -2 * c.bias
    scaled = torch.stack((c.of(-2 * c.x, bias=bias), c.of(weight=-2 * c.weight, bias=bias)))
    return scaled, torch.stack((-2 * c.result(),) * 2)


def _shift_equivariant(c: Convolution) -> Sides:
    """Some strides' zeros before an image move the result by as many."""
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
    """An image gives the same alone, in any place of a batch, and without a batch."""
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
        none = one[0]  # an input without a batch is not what it claims
    return torch.cat((c.of(c.x[order]), one, none[None])), torch.cat(
        (result[order], result[alone][None].repeat_interleave(2, 0))
    )


def _output_channels_permute(c: Convolution) -> Sides:
    """The order of output channels, within their group and of the groups, is that of the weight and the bias."""
    g = c.geometry
    groups = c.permutation("groups", g.groups)
    order = _by_groups(groups, c.permutation("order", g.out_channels // g.groups))
    x = c.x.index_select(-g.rank - 1, _by_groups(groups, torch.arange(g.group_channels)))
    bias = None if c.bias is None else c.bias[order]
    return c.of(x, c.weight[order], bias), c.result().index_select(-g.rank - 1, order)


def _input_channels_permute(c: Convolution) -> Sides:
    """The order of input channels within their group does not matter."""
    g = c.geometry
    within = c.permutation("order", g.group_channels)
    x = c.x.index_select(-g.rank - 1, _by_groups(torch.arange(g.groups), within))
    return c.of(x, c.weight[:, within]), c.result()


def _groups_are_blocks(c: Convolution) -> Sides:
    """Groups are the blocks on the diagonal of one dense weight."""
    g = c.geometry
    full = c.weight.new_zeros(g.out_channels, g.in_channels, *g.kernel_size)
    each, inputs = g.out_channels // g.groups, g.group_channels
    for group in range(g.groups):
        rows = slice(group * each, (group + 1) * each)
        full[rows, group * inputs : (group + 1) * inputs] = c.weight[rows]
    return c.of(weight=full, groups=1), c.result()


def _dilation_stuffs_zeros(c: Convolution) -> Sides:
    """A dilated kernel is one with zeros between its taps."""
    g = c.geometry
    stuffed = c.weight.new_zeros(*c.weight.shape[:2], *g.kernel_extent)
    stuffed[_pixels(*(slice(None, None, d) for d in g.dilation))] = c.weight
    return c.of(weight=stuffed, dilation=(1,) * g.rank), c.result()


def _stride_subsamples(c: Convolution) -> Sides:
    """A stride takes every so manieth result of stride 1."""
    g = c.geometry
    dense = c.of(stride=(1,) * g.rank)
    return dense[_pixels(*(slice(None, None, s) for s in g.stride))], c.result()


def _padding_embeds(c: Convolution) -> Sides:
    """Padding is an image embedded in zeros."""
    g = c.geometry
    return c.of(_embedded(c), padding=(0,) * g.rank), c.result()


def _channels_add_up(c: Convolution) -> Sides:
    """Input channels contribute each on its own; a channel of zeros contributes nothing."""
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
    """A kernel of one tap multiplies the channels of each pixel by a matrix, in a row of pixels as in an image."""
    g = c.geometry
    tap = c.tap(g.kernel_size)
    weight = c.weight[_pixels(*(slice(t, t + 1) for t in tap))]
    # What the tap reads: other pixels would meet it in no sum of the case, and may be too large for it.
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
    """A kernel of a single 1 copies the pixels that its tap reads, and adds the bias to them."""
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
    """A second convolution of the result is the product of the two matrices."""
    g = c.geometry
    result = c.result()
    taps = tuple(min(2, n) for n in g.output_size)
    second = c.weight.new_zeros(g.out_channels, g.out_channels, *taps)
    # One tap each: sums stay as large as they were.
    channels = torch.arange(g.out_channels)
    second[(channels, c.permutation("order", g.out_channels), *c.tap(taps))] = 1
    twice = c.of(result.to(c.x.dtype), second, None, **_plain(g.rank), groups=1)
    after = ConvGeometry(g.out_channels, g.out_channels, g.output_size, taps)
    exact = forward(g, wide(c.weight), by_image(g, wide(c.x)))
    exact = exact if c.bias is None else exact + wide(c.bias)[:, None]
    return twice, forward(after, wide(second), exact).view(twice.shape)


def _embedded(c: Convolution) -> torch.Tensor:
    """The image in its zeros."""
    g = c.geometry
    embedded = c.x.new_zeros(*c.x.shape[: -g.rank], *g.padded_size)
    inside = [slice(low, low + size) for (low, _), size in zip(g.pads, g.input_size, strict=True)]
    embedded[_pixels(*inside)] = c.x
    return embedded


def _plain(rank: int) -> dict[str, Any]:
    """Neither stride, nor padding, nor dilation."""
    return {"stride": (1,) * rank, "padding": (0,) * rank, "dilation": (1,) * rank}


def _pixels(*slices: slice) -> tuple[Any, ...]:
    """An index of the last axes."""
    return (..., *slices)


def _by_groups(groups: torch.Tensor, within: torch.Tensor) -> torch.Tensor:
    """The order of all channels, from that of the groups and that of the channels of each."""
    return (groups[:, None] * len(within) + within).flatten()


ALGEBRA = (
    relation_law(
        "additive-in-input",
        "The results of two inputs add up to that of their sum.",
        "results that depend on the size of an input, or on an earlier call",
        _additive_in_input,
    ),
    relation_law(
        "additive-in-weight",
        "The results of two weights add up to that of their sum.",
        "results that are kept for an input, whatever the weight is now",
        _additive_in_weight,
    ),
    relation_law(
        "homogeneous",
        "A factor in the input or in the weight, and in the bias, is one in the result.",
        "memory that is not written; saturation; results that depend on the sign of an input",
        _homogeneous,
    ),
    relation_law(
        "shift-equivariant",
        "So many strides' zeros before an image move its result by so many pixels.",
        "the first or last tile treated unlike the others",
        _shift_equivariant,
    ),
    relation_law(
        "batch-independent",
        "An image has the same result alone, at any place in any batch, and without a batch.",
        "images behind a block size; a batch that is normalised or mixed",
        _batch_independent,
    ),
    relation_law(
        "output-channels",
        "Output channels, and groups, come in the order of the weight, the bias and the input.",
        "output channels that are permuted between groups, or dropped at a block's end",
        _output_channels_permute,
        sharpen=sharpening.with_output_channels,
    ),
    relation_law(
        "input-channels",
        "The order in which input channels are summed does not matter.",
        "input channels behind the last full vector",
        _input_channels_permute,
        sharpen=sharpening.with_input_channels,
    ),
    relation_law(
        "groups",
        "Groups are the blocks on the diagonal of a weight without groups.",
        "a grouped kernel that differs from the dense one",
        _groups_are_blocks,
        sharpen=sharpening.with_groups,
    ),
    relation_law(
        "dilation",
        "A dilated kernel is a kernel with zeros between its taps.",
        "a dilated kernel that differs from the dense one",
        _dilation_stuffs_zeros,
        sharpen=sharpening.dilated,
    ),
    relation_law(
        "stride",
        "A stride keeps every so manieth result of stride 1.",
        "a strided kernel that differs from the dense one",
        _stride_subsamples,
        sharpen=sharpening.strided,
    ),
    relation_law(
        "padding",
        "Padding is an image in a frame of zeros.",
        "padding on the wrong side, or of something else than zeros",
        _padding_embeds,
        sharpen=sharpening.padded,
    ),
    relation_law(
        "channels-add-up",
        "The results of some input channels and of the others add up.",
        "sums that are split over channels and not added up",
        _channels_add_up,
    ),
    relation_law(
        "pointwise",
        "A kernel of one tap is a matrix product for each pixel, wherever that lies.",
        "the special kernels for 1x1",
        _pointwise_is_a_matrix_product,
    ),
    relation_law(
        "delta-kernel",
        "A kernel that is 1 at one tap copies the pixels which that tap reads.",
        "taps that are swapped, flipped or transposed",
        _delta_kernel_shifts,
    ),
    relation_law(
        "composition",
        "A convolution of a convolution is the product of their matrices.",
        "errors that cancel in a single convolution",
        _composition_multiplies,
    ),
)
