"""Tensors between processes: small ones inside a message, large ones through a file that both sides have open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

# Pipes carry this much in one piece; beyond, copying through memory that both processes see is faster.
_INLINE_BYTES = 2**16
# NumPy has no bfloat16: its bits travel as integers.
_BITS = {torch.bfloat16: torch.int16}


@dataclass(frozen=True, slots=True)
class Packed:
    """A tensor as it travels: its bytes, or where in the shared file they are; one on meta has none."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    data: bytes | None
    offset: int = 0
    meta: bool = False


class SharedFile:
    """A file that two processes read and write in turn; whoever made it removes it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = Path(path).open("r+b", buffering=0)  # noqa: SIM115  # open as long as its owner
        self._end = 0

    def rewind(self) -> None:
        """Forget what was packed: the next tensors take its place."""
        self._end = 0

    def pack(self, tensor: torch.Tensor) -> Packed:
        """A tensor ready to travel; values only, contiguous."""
        if tensor.is_meta:
            return Packed(tensor.dtype, tuple(tensor.shape), None, meta=True)
        flat = tensor.detach().cpu().contiguous()
        flat = flat.view(_BITS.get(flat.dtype, flat.dtype)).resolve_conj().resolve_neg()
        data = flat.numpy().reshape(-1).view(np.uint8)
        if data.nbytes <= _INLINE_BYTES:
            return Packed(tensor.dtype, tuple(tensor.shape), data.tobytes())
        offset = self._end
        self._file.seek(offset)
        view = memoryview(data)  # type: ignore[arg-type]  # an array is a buffer
        while view:  # an unbuffered write may stop after 2 GiB
            view = view[self._file.write(view) :]
        self._end += data.nbytes
        return Packed(tensor.dtype, tuple(tensor.shape), None, offset)

    def unpack(self, packed: Packed) -> torch.Tensor:
        """The tensor, in memory of its own."""
        if packed.meta:
            return torch.empty(packed.shape, dtype=packed.dtype, device="meta")
        dtype = _BITS.get(packed.dtype, packed.dtype)
        tensor = torch.empty(packed.shape, dtype=dtype)
        target = memoryview(tensor.numpy().reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # as above
        if packed.data is not None:
            target[:] = packed.data
        else:
            self._file.seek(packed.offset)
            while target:
                read = self._file.readinto(target)
                if not read:
                    raise EOFError(f"{self.path} ends before the tensor at {packed.offset} does")
                target = target[read:]
        return tensor.view(packed.dtype)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
