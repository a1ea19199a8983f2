"""Tensors as Python text: their values, and the strides of a layout."""

from __future__ import annotations

import base64
import math
import zlib

import torch

# Up to this many numbers are written out as a list; a reader can still look at them.
WRITTEN_OUT = 400
# The characters of a line of packed bytes.
_LINE = 100


def values(tensor: torch.Tensor) -> str:
    """An expression for a contiguous tensor on the CPU: a list of its numbers, or the packed bytes of a large one.

    The expression needs the names ``torch``, ``nan`` and ``inf``, and ``packed`` of :data:`PACKED` for a large tensor.

    Examples
    --------
    >>> values(torch.tensor([[1.0, float("nan")]]))
    'torch.tensor([1.0, nan], dtype=torch.float32).reshape(1, 2)'
    >>> values(torch.zeros(2, 3, dtype=torch.int64)), values(torch.zeros(0, 3))
    ('torch.full((2, 3), 0, dtype=torch.int64)', 'torch.zeros((0, 3), dtype=torch.float32)')
    """
    shape = tuple(tensor.shape)
    if not tensor.numel():
        return f"torch.zeros({shape}, dtype={tensor.dtype})"
    flat = tensor.contiguous().view(-1)
    if len(flat) > 1 and bool((flat == flat[0]).all()):
        return f"torch.full({shape}, {flat[0].item()!r}, dtype={tensor.dtype})"
    if len(flat) <= WRITTEN_OUT:
        return f"torch.tensor({flat.tolist()!r}, dtype={tensor.dtype}).reshape{shape}"
    text = base64.b85encode(zlib.compress(flat.view(torch.uint8).numpy().tobytes(), 9)).decode("ascii")
    lines = "\n".join(f'    "{text[at : at + _LINE]}"' for at in range(0, len(text), _LINE))
    return f"packed({tensor.dtype}, {shape},\n{lines}\n)"


# Makes a tensor from the bytes of its numbers, which ``values`` has written in base 85.
PACKED = '''
def packed(dtype, shape, text):
    """The tensor whose bytes are compressed in the text."""
    numbers = bytearray(zlib.decompress(base64.b85decode(text)))
    return torch.frombuffer(numbers, dtype=dtype).reshape(shape)
'''


def laid_out(name: str, layout: str | None, tensor: torch.Tensor) -> list[str]:
    """Lines that give the tensor of this name the strides of a layout; the gaps between its numbers hold NaN."""
    shape, axes = tuple(tensor.shape), tensor.ndim
    rounded = tensor.is_floating_point() or tensor.is_complex()
    gap = "nan" if rounded else str(torch.iinfo(tensor.dtype).max // 3)

    def into(larger: tuple[int, ...], window: str) -> list[str]:
        return [f"{name} = torch.full({larger}, {gap}, dtype={tensor.dtype}){window}.copy_({name})"]

    match layout:
        case None | "contiguous":
            return []
        case "channels_last":
            return [f"{name} = {name}.contiguous(memory_format=torch.channels_last)"]
        case "transposed":
            return [f"{name} = {name}.mT.contiguous().mT"]
        case "permuted":
            order = tuple(reversed(range(axes)))
            return [f"{name} = {name}.permute({order}).contiguous().permute({order})"]
        case "offset":
            count = math.prod(shape)
            return into((count + 8,), f"[3:{3 + count}].view({shape})")
        case "sliced":
            return into((*shape[:-1], 2 * shape[-1] + 1), f"[..., 1:{1 + 2 * shape[-1]}:2]")
        case "cropped":
            front = min(2, axes - 1)
            window = ", ".join(f"1:{1 + size}" for size in shape[front:])
            return into((*shape[:front], *(size + 3 for size in shape[front:])), f"[..., {window}]")
        case "channel_slice":
            n, c, h, w = shape
            return into((n, h, w, c + 3), f".permute(0, 3, 1, 2)[:, 1:{1 + c}]")
        case "expanded":
            return [f"{name} = {name}[:1].expand({shape})"]
        case "repeated":
            return [f"{name} = {name}[{', '.join([':1'] * axes)}].clone().expand({shape})"]
        case "odd_strides":
            plain = torch.empty(shape, device="meta").stride()
            strides = tuple(7 if size == 1 else step for size, step in zip(shape, plain, strict=True))
            return [f"{name} = {name}.as_strided({shape}, {strides})"]
    raise ValueError(f"layout={layout} cannot be written in a script")
