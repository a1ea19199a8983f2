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
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws.result import Step
from toeplitz_core.testing.reports.in_pytest import conclude, reported
from toeplitz_core.testing.run.configuration import project
from toeplitz_core.testing.run.options import OPTIONS, Options, by_key, merged
from toeplitz_core.testing.run.session import Session
from toeplitz_core.testing.subjects import Subject, named_subjects

_NO_REPLAY = "none: this implementation ran in the test's own process, since no other could import it by a name"


# What pytest's own command line says, by the keys of the options: the plugin puts it here, if it is loaded.
COMMAND_LINE: ContextVar[Mapping[str, Any]] = ContextVar("COMMAND_LINE", default={})  # noqa: B039  # never changed
# Options that restrict: of what a test asks for, what the command line names too is run.
_RESTRICTING = ("law", "dtype", "device")
# What of the options is no argument of the decorator, though pytest takes it, and what is in its place.
_ELSEWHERE = {"subject": "the first argument", "fail_stale": "toeplitz-core check --fail-stale"}


@dataclass(frozen=True, slots=True)
class LawTest:
    """A law checked on one subject for one dtype on one device: what a decorated test is given, and calls.

    Parameters
    ----------
    step : Step
    session : Session
    """

    step: Step
    session: Session

    def __call__(self) -> None:
        """Search for a case that breaks the law, and end the test as the result demands: passed, failed, skipped ..."""
        result = reported(_running_test(), self.session, self.step)
        replay = None if self.session.subjects[self.step.subject] is None else _NO_REPLAY
        conclude(result, known=self.session.plan.known, required_devices=self.session.options.device, replay=replay)


def parametrize_with_laws(
    subjects: Callable[..., Any] | Subject | str | Sequence[Callable[..., Any] | Subject | str], **options: Any
) -> pytest.MarkDecorator:
    """Parametrise a test with the laws: it has the one argument ``law``, and calls it.

    Nothing else is needed, neither the plugin nor an option. Where the plugin is loaded, its options hold for decorated
    tests too: ``--law``, ``--dtype`` and ``--device`` run only those tests, and all others win over what is said here.
    What neither says has the value of ``[tool.toeplitz_core]`` in ``pyproject.toml``.

    A subject runs in a separate process, which may crash and hang, if another process can import it: if it is given
    as a name, or if some module has it under a name. A lambda, a local function, and what is defined in a test file
    that ``--import-mode=importlib`` keeps off the path run in the process of the test. There a crash ends everything;
    memory layouts on which torch itself may crash are left out, and a failure has a case, but no command that runs it.

    Parameters
    ----------
    subjects : callable, Subject, str, or a sequence of them
        A callable with the signature of ``torch.nn.functional.conv2d`` on tensors; a ``Subject`` or a class of them; or
        a name, as for ``toeplitz-core check``.
    **options
        Those of ``toeplitz-core check``, by their names with underscores, such as ``laws``, ``dtypes``, ``devices``,
        ``profile``, ``examples``, ``seed``, ``timeout``, ``known`` and ``inline``. A device that is missing skips its
        tests, but fails them if it is given here; known failures are xfailed.

    Raises
    ------
    ValueError
        With the option, its value and the rule, or the nearest legal name.

    Examples
    --------
    >>> import torch
    >>> @parametrize_with_laws(torch.conv2d, dtypes=["float32"], laws=["forward-exact"], devices=["cpu"])
    ... def test_conv2d(law):
    ...     law()
    >>> [param.id for param in test_conv2d.pytestmark[0].args[1]]
    ['forward-exact-float32-cpu']
    """
    given = by_key(options)
    for option in OPTIONS.values():
        if option.key in given and (instead := _ELSEWHERE.get(option.key, option.pytest)):
            raise ValueError(f"{option.key}={given[option.key]!r} is not for tests: use {instead}")
    found = named_subjects(subjects)
    own: Sequence[Mapping[str, Any]] = ({"subject": tuple(found)}, given, _of_tests(project()))
    session = _session(merged(*own), found)  # what is wrong is wrong whatever the command line says
    if command_line := COMMAND_LINE.get():
        try:
            session = _session(_restricted(command_line, *own), found)
        except ValueError as error:
            skip = pytest.mark.skip(reason=f"not run, for the options of the command line: {error}")
            return pytest.mark.parametrize("law", [pytest.param(None, id="none", marks=skip)])
    params = [
        pytest.param(
            LawTest(step, session), id=str(step) if len(found) > 1 else f"{step.law}-{step.dtype}-{step.device}"
        )
        for step in session.steps
    ]
    return pytest.mark.parametrize("law", params)


def _of_tests(table: Mapping[str, Any]) -> dict[str, Any]:
    """What the table says of options that tests take."""
    return {key: value for key, value in table.items() if not OPTIONS[key.replace("_", "-")].pytest}


def _session(options: Options, subjects: Mapping[str, Subject | None]) -> Session:
    return Session(options, subjects, sandbox=partial(_sandbox, options.timeout))


def _restricted(command_line: Mapping[str, Any], *own: Mapping[str, Any]) -> Options:
    """The options of a test with those of the command line; a ``ValueError`` if they have nothing in common."""
    stronger = {key: value for key, value in command_line.items() if key != "subject"}
    mine = merged(*own)
    for key in _RESTRICTING:
        wanted, named = stronger.get(key), getattr(mine, key)
        if wanted and named:
            stronger[key] = tuple(name for name in wanted if name in named)
            if not stronger[key]:
                raise ValueError(f"{key}={', '.join(wanted)} is none of {', '.join(named)}")
    # A test that sweeps goes on doing so: what is said of searches is not for it.
    sweep = stronger.get("sweep", mine.sweep)
    return merged({"sweep": sweep}, stronger, *own)


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
def _sandbox(timeout: float) -> Sandbox:
    """What owns the workers of this process: however many tests are decorated, there is one."""
    sandbox = Sandbox(timeout=timeout)
    atexit.register(sandbox.close)
    return sandbox
