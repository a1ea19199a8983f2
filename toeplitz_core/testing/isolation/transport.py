"""Messages between two processes: pickled, with tensors as bytes; large tensors go through a shared file."""

from __future__ import annotations

import io
import pickle  # between a process and its own child
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

# A pipe carries this much in one piece. Larger data is faster to copy through a file in shared memory.
_INLINE_BYTES = 2**16
# NumPy has no bfloat16, so its bits are sent as integers.
_BITS = {torch.bfloat16: torch.int16}


@dataclass(frozen=True, slots=True)
class Packed:
    """A tensor in a message.

    Parameters
    ----------
    dtype : torch.dtype
        The type of its elements.
    shape : tuple of int
        Size of each axis.
    data : bytes, optional
        The values; None if they are in the shared file or if there are none.
    offset : int
        The position of the values in the shared file.
    meta : bool
        Whether the tensor is on meta and has no values.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    data: bytes | None
    offset: int = 0
    meta: bool = False


class Channel:
    """One end of a connection for messages with tensors. The two ends send in turn.

    Parameters
    ----------
    connection : Connection
    path : str
        The file that both ends share. Its creator removes it.
    """

    def __init__(self, connection: Connection, path: str) -> None:
        self._connection = connection
        self._shared = SharedFile(path)

    def send(self, message: object) -> None:
        """Send a message; its tensors arrive contiguous. This overwrites the tensors of the previous message."""
        self._shared.rewind()
        buffer = io.BytesIO()
        _Pickler(buffer, self._shared).dump(message)
        self._connection.send_bytes(buffer.getbuffer())

    def recv(self) -> Any:
        """The next message, with its tensors copied. ``EOFError`` if the other end has closed the connection."""
        return _Unpickler(io.BytesIO(self._connection.recv_bytes()), self._shared).load()

    def poll(self, timeout: float) -> bool:
        """Whether a message arrives within the timeout, in seconds."""
        return self._connection.poll(timeout)

    def close(self) -> None:
        """Close the connection and the shared file."""
        self._connection.close()
        self._shared.close()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, shared: SharedFile) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._shared = shared

    def persistent_id(self, obj: object) -> Packed | None:
        return self._shared.pack(obj) if isinstance(obj, torch.Tensor) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: SharedFile) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, pid: Packed) -> torch.Tensor:
        return self._shared.unpack(pid)


class SharedFile:
    """A file that two processes read and write in turn."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = Path(path).open("r+b", buffering=0)  # noqa: SIM115  # open as long as this object
        self._end = 0

    def rewind(self) -> None:
        """Start over: the next tensors overwrite the packed ones."""
        self._end = 0

    def pack(self, tensor: torch.Tensor) -> Packed:
        """Pack a tensor: its values only, contiguous."""
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
        """Unpack a tensor into new memory."""
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
