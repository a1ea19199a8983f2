"""What is computed from a case, kept for the next subject, law or call that asks for it again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

# The bytes that each kind of value may take.
KEPT_BYTES = 2**25
V = TypeVar("V")


class Kept(Generic[V]):
    """The latest values by key. Nobody may change them.

    The same cases are judged again: a failure is confirmed, shrunk and explained, and subjects that are checked in one
    process get the same draws.

    Parameters
    ----------
    limit : int
        The bytes that all values together may take. A value of more than an eighth of it is not kept.
    size : callable
        The bytes of a value.
    """

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        self._limit = limit
        self._size = size
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key, made if it is not there."""
        found = self._values.pop(key, None)
        if found is None:
            value = make()
            if torch.is_inference_mode_enabled() or (size := self._size(value)) > self._limit // 8:
                return value  # autograd could not use tensors of that mode
            found = value, size
            self.bytes += size
        self._values[key] = found  # the latest
        while self.bytes > self._limit:
            self.bytes -= self._values.popitem(last=False)[1][1]
        return found[0]


def bytes_of(*values: torch.Tensor | None) -> int:
    """The bytes of tensors."""
    return sum(value.numel() * value.itemsize for value in values if value is not None)
