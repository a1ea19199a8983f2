"""Small implementations that are right, wrong, slow or deadly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import time
from pathlib import Path

from torch import Tensor

from toeplitz_core import conv2d


def right(*args: Tensor) -> Tensor:
    """A correct convolution: the matrix itself."""
    return conv2d(*args)


def no_groups(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """Returns zeros if there is more than one group."""
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y.zero_() if groups > 1 else y


def slow_int64(x: Tensor, *args: Tensor) -> Tensor:
    """Returns zeros if there is more than one group, and sleeps in int64."""
    time.sleep(5 if "int64" in str(x.dtype) else 0)
    return no_groups(x, *args)


def kills_its_judge(x: Tensor, *args: Tensor) -> Tensor:
    """Kills the judge in int64: the process that made the socket of this worker."""
    if "int64" in str(x.dtype):
        _kill_judge()
    return conv2d(x, *args)


def kills_its_judge_once(x: Tensor, *args: Tensor) -> Tensor:
    """No groups; the first call in int64 kills the judge, and leaves the file that the variable names."""
    mark = Path(os.environ["TOEPLITZ_TEST_MARK"])
    if "int64" in str(x.dtype) and not mark.exists():
        mark.touch()
        _kill_judge()
    return no_groups(x, *args)


def _kill_judge() -> None:
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as end:
            (judge, _, _) = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            os.kill(judge, signal.SIGKILL)
