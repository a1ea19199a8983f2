"""Ctrl-C is not lost, wherever Python happens to be when it comes."""

import gc
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from rich.console import Console

from toeplitz_core import conv2d
from toeplitz_core.testing import interrupts
from toeplitz_core.testing.case import Case
from toeplitz_core.testing.check import carry_out
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.outputs import Asked, Outputs
from toeplitz_core.testing.profiles import PROFILES
from toeplitz_core.testing.replay import replay_all
from toeplitz_core.testing.run import Plan
from toeplitz_core.testing.subjects import TorchSubject


def interrupt(*_: object) -> None:
    """What Ctrl-C does in the middle of any function."""
    raise KeyboardInterrupt


@contextmanager
def in_the_collector() -> Iterator[None]:
    """Every callback of the garbage collector is interrupted."""
    gc.callbacks.append(interrupt)
    try:
        yield
    finally:
        gc.callbacks.remove(interrupt)


def interrupted_at_call(number: int) -> tuple[Callable[..., torch.Tensor], list[object]]:
    """A convolution, one call of which is interrupted where Python drops that; and its calls."""
    calls: list[object] = []

    def convolution(*args: object) -> torch.Tensor:
        calls.append(args)
        if len(calls) == number:
            with in_the_collector():
                gc.collect()
        return conv2d(*args)

    return convolution, calls


def test_a_check_ends_at_the_next_case():
    """An interrupt within the garbage collector ends a check with 130, and what was found before it is printed."""
    convolution, calls = interrupted_at_call(7)
    console = Console(file=io.StringIO(), width=200)
    plan = Plan(
        subjects=[TorchSubject("ours", convolution)],
        laws=[LAWS["forward-exact"]],
        dtypes=["float32", "float64"],
        devices=["cpu"],
        profile=PROFILES["gate"],
        examples=5,
    )
    assert carry_out(Asked(plan), console, console, Outputs()) == 130
    assert len(calls) == 7
    assert "1 of 2 (each law with each dtype): interrupted" in console.file.getvalue()


def test_a_replay_ends_at_the_next_case():
    """The same for cases that are run again."""
    convolution, calls = interrupted_at_call(2)
    console = Console(file=io.StringIO(), width=200)
    case = Case.parse("input=1x1x3x3 weight=1x1x2x2 law=forward-exact")
    assert replay_all(console, [case] * 4, TorchSubject("ours", convolution), runs=1) == 130
    assert len(calls) == 2
    assert "interrupted after 2 cases: 2 pass" in console.file.getvalue()


def test_what_else_python_drops_is_reported_as_before():
    """Only interrupts are remembered, and a hook that was there gets everything else, then and afterwards."""
    reported = []
    before, sys.unraisablehook = sys.unraisablehook, reported.append

    class Broken:
        def __del__(self) -> None:
            raise ZeroDivisionError

    try:
        with interrupts.kept():
            Broken()
            interrupts.raise_lost()
            assert [unraisable.exc_type for unraisable in reported] == [ZeroDivisionError]
            with in_the_collector():
                gc.collect()
            assert len(reported) == 1
            with pytest.raises(KeyboardInterrupt):
                interrupts.raise_lost()
            interrupts.raise_lost()  # once is enough
        Broken()
        assert len(reported) == 2
    finally:
        sys.unraisablehook = before
