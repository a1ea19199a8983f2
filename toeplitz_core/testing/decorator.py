"""The laws in anyone's own test file, with one decorator.

.. code-block:: python

    from mypkg.kernels import conv2d
    from toeplitz_core.testing import parametrize_with_laws


    @parametrize_with_laws(conv2d, dtypes=["float32", "bfloat16"])
    def test_conv2d(law):
        law()
"""

from __future__ import annotations

import atexit
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.isolation.sandbox import TIMEOUT, Isolation
from toeplitz_core.testing.reports.pytest_outcome import conclude, reported, searched
from toeplitz_core.testing.run.battery import Battery, Step
from toeplitz_core.testing.subjects import Subject, as_subject
from toeplitz_core.testing.support.importable import importable_name

if TYPE_CHECKING:
    from toeplitz_core.testing.search.search import Result

_NO_REPLAY = "none: this implementation ran in the test's own process, since no other could import it by a name"


@dataclass(frozen=True, slots=True)
class LawTest:
    """A law held against one subject for one dtype on one device: what a decorated test is given, and calls."""

    step: Step
    battery: Battery

    def __call__(self) -> None:
        """Search for a case that breaks the law, and end the test as the result demands: passed, failed, skipped ..."""
        item = _running_test()
        result = searched(self.search) if item is None else reported(item, self.search)
        replay = None if self.battery.subjects[self.step.subject] is None else _NO_REPLAY
        conclude(result, known=self.battery.known, required_devices=self.battery.required_devices, replay=replay)

    def search(self) -> Result:
        """The result itself."""
        return self.battery.result(self.step)


def parametrize_with_laws(
    subjects: Callable[..., Any] | Subject | str | Sequence[Callable[..., Any] | Subject | str],
    *,
    laws: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
    profile: str = "gate",
    examples: int | None = None,
    seed: int | None = None,
    timeout: float = TIMEOUT,
    known: str | Path | Sequence[str | Path] | KnownFailures | None = None,
    inline: bool = False,
) -> pytest.MarkDecorator:
    """Parametrise a test with the laws: it has the one argument ``law``, and calls it.

    Nothing else is needed, neither the plugin nor an option; neither the environment nor ``pyproject.toml`` is asked.

    A subject runs in a process of its own, which may crash and hang, if another process can import it: if it is given
    as a name, or if some module has it under a name. A lambda, a local function, and what is defined in a test file
    that ``--import-mode=importlib`` keeps off the path run in the process of the test. There a crash ends everything;
    memory layouts on which torch itself may crash are left out, and a failure has a case, but no command that runs it.

    Parameters
    ----------
    subjects : callable, Subject, str, or a sequence of them
        A callable with the signature of ``torch.nn.functional.conv2d`` on tensors; a ``Subject`` or a class of them; or
        a name, as for ``toeplitz-core check``.
    laws, dtypes, devices : sequence of str, optional
        Only these. A device that is absent skips its tests, but fails them if it is given here.
    profile : str
        ``smoke``, ``gate`` or ``nightly``.
    examples : int, optional
        Cases per law and dtype, instead of the profile's.
    seed : int, optional
        Of the search.
    timeout : float
        Seconds that one call may take, in a process of its own.
    known : path, sequence of paths or KnownFailures, optional
        The list of known failures, which are xfailed.
    inline : bool
        Run every subject in the process of the test: for debuggers and coverage.

    Raises
    ------
    ValueError
        With the value and the rule, or the nearest legal name.

    Examples
    --------
    >>> import torch
    >>> @parametrize_with_laws(torch.conv2d, dtypes=["float32"], laws=["forward-exact"], devices=["cpu"])
    ... def test_conv2d(law):
    ...     law()
    >>> [param.id for param in test_conv2d.pytestmark[0].args[1]]
    ['forward-exact-float32-cpu']
    """
    listed = [subjects] if callable(subjects) or isinstance(subjects, str | Subject) else list(subjects)
    found: dict[str, Subject | None] = {}
    for one in listed:
        name = one if isinstance(one, str) else importable_name(one)
        if name is not None:
            found[name] = None
        else:
            name = _free_name(_own_name(one), found)
            found[name] = as_subject(one, name)
    battery = Battery(
        found,
        laws=laws,
        dtypes=dtypes,
        devices=devices,
        profile=profile,
        examples=examples,
        seed=seed,
        known=known,
        inline=inline,
        isolation=partial(_isolation, timeout),
    )
    params = [
        pytest.param(
            LawTest(step, battery), id=str(step) if len(found) > 1 else f"{step.law}-{step.dtype}-{step.device}"
        )
        for step in battery.steps
    ]
    return pytest.mark.parametrize("law", params)


def _running_test() -> pytest.Function | None:
    """The test that calls us, whose report is to say what we found; None where no test does.

    A mark brings no fixture that could be told, and without a plugin there is no hook: but a test is always called by
    some implementation of pytest's hook ``pytest_pyfunc_call``, whose argument has a fixed name.
    """
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        item = caller.f_locals.get("pyfuncitem")
        if isinstance(item, pytest.Function):
            return item
        frame = caller
    return None


@functools.cache
def _isolation(timeout: float) -> Isolation:
    """What owns the workers of this process: however many tests are decorated, there is one."""
    isolation = Isolation(timeout=timeout)
    atexit.register(isolation.close)
    return isolation


def _own_name(subject: object) -> str:
    name = getattr(subject, "__qualname__", None) or getattr(subject, "name", None) or type(subject).__qualname__
    return str(name).rpartition("<locals>.")[2]


def _free_name(name: str, taken: dict[str, Subject | None]) -> str:
    return (
        name
        if name not in taken
        else next(f"{name}-{n}" for n in range(2, len(taken) + 3) if f"{name}-{n}" not in taken)
    )
