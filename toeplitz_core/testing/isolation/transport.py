"""Messages between two processes: pickled, with tensors as bytes; large tensors go through a shared file."""

from __future__ import annotations

import dataclasses
import functools
import io
import pickle  # between a process and its own child
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

# A pipe carries this much in one piece. Larger data is faster to copy through a file in shared memory.
_INLINE_BYTES = 2**16
# NumPy has no bfloat16, so its bits are sent as integers.
_BITS = {torch.bfloat16: torch.int16}
# The shared files of this process by their paths, which messages name.
_OPEN: dict[str, SharedFile] = {}


class Packed(NamedTuple):
    """A tensor in a message.

    Parameters
    ----------
    dtype : str
        The name of the type of its elements, as in ``torch.float32``.
    shape : tuple of int
        Size of each axis.
    data : bytes, optional
        The values; None if they are in the shared file or if there are none.
    offset : int
        The position of the values in the shared file.
    meta : bool
        Whether the tensor is on meta and has no values.
    """

    dtype: str
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
        return pickle.loads(self._connection.recv_bytes())

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

    def reducer_override(self, obj: object) -> Any:
        """A tensor packed; a dataclass as its class and the values of its fields, much faster than pickle's own way."""
        if isinstance(obj, torch.Tensor):
            return _unpacked, (self._shared.path, *self._shared.pack(obj))
        kind: type[Any] = type(obj)
        fields = _fields(kind)  # type: ignore[arg-type]  # a class has a hash
        return (_made, (kind, [getattr(obj, name) for name in fields])) if fields else NotImplemented


def _unpacked(path: str, *packed: Any) -> torch.Tensor:
    return _OPEN[path].unpack(Packed(*packed))


@functools.cache
def _fields(cls: type[Any]) -> tuple[str, ...]:
    """The names of the fields of a dataclass; empty for other classes."""
    return tuple(field.name for field in dataclasses.fields(cls)) if dataclasses.is_dataclass(cls) else ()


def _made(cls: type[Any], values: list[object]) -> object:
    """A dataclass with these values; like pickle, without its ``__init__``, because they were valid before."""
    made = object.__new__(cls)
    for name, value in zip(_fields(cls), values, strict=True):  # type: ignore[arg-type]  # as above
        object.__setattr__(made, name, value)
    return made


class SharedFile:
    """A file that two processes read and write in turn."""

    def __init__(self, path: str) -> None:
        self.path = path
        _OPEN[path] = self
        self._file = Path(path).open("r+b", buffering=0)  # noqa: SIM115  # open as long as this object
        self._end = 0

    def rewind(self) -> None:
        """Start over: the next tensors overwrite the packed ones."""
        self._end = 0

    def pack(self, tensor: torch.Tensor) -> Packed:
        """Pack a tensor: its values only, contiguous."""
        dtype, shape = str(tensor.dtype), tuple(tensor.shape)
        if tensor.is_meta:
            return Packed(dtype, shape, None, meta=True)
        flat = tensor.detach().cpu().contiguous()
        flat = flat.view(_BITS.get(flat.dtype, flat.dtype)).resolve_conj().resolve_neg()
        data = flat.numpy()
        if data.nbytes <= _INLINE_BYTES:
            return Packed(dtype, shape, data.tobytes())
        offset = self._end
        self._file.seek(offset)
        view = memoryview(data.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # an array is a buffer
        while view:  # an unbuffered write may stop after 2 GiB
            view = view[self._file.write(view) :]
        self._end += data.nbytes
        return Packed(dtype, shape, None, offset)

    def unpack(self, packed: Packed) -> torch.Tensor:
        """Unpack a tensor into new memory."""
        true_dtype = getattr(torch, packed.dtype.removeprefix("torch."))
        if packed.meta:
            return torch.empty(packed.shape, dtype=true_dtype, device="meta")
        tensor = torch.empty(packed.shape, dtype=_BITS.get(true_dtype, true_dtype))
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
        return tensor.view(true_dtype)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if _OPEN.get(self.path) is self:
            del _OPEN[self.path]
