"""A decorator that runs the laws in any test file.

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
from toeplitz_core.testing.reports.pytest_result import conclude, reported, stopped, told_by
from toeplitz_core.testing.run.options import OPTIONS, Options, by_key, merged_options
from toeplitz_core.testing.run.pyproject import project
from toeplitz_core.testing.run.session import Session
from toeplitz_core.testing.subjects import Subject, named_subjects

_NO_REPLAY = "none: this implementation ran in the test's process, because no other process can import it by a name"


# The options of pytest's command line, by their keys. The plugin sets them, if it is loaded.
COMMAND_LINE: ContextVar[Mapping[str, Any]] = ContextVar("COMMAND_LINE", default={})  # noqa: B039  # never changed
# Options of the command line that restrict: a test runs only what both name.
_RESTRICTING = ("law", "dtype", "device")
# Options that pytest takes but the decorator does not, with their replacements.
_ELSEWHERE = {"subject": "the first argument", "fail_stale": "toeplitz-core check --fail-stale"}


@dataclass(frozen=True, slots=True)
class LawTest:
    """One law for one subject, dtype and device. A decorated test is given one, and calls it.

    Parameters
    ----------
    step : Step
        The names of the subject, law, dtype and device to test.
    session : Session
        The run that the test belongs to.
    """

    step: Step
    session: Session

    def __call__(self) -> None:
        """Search for a case that breaks the law, and end the test as passed, failed, skipped or xfailed."""
        item = _running_test()
        replay = None if self.session.subjects[self.step.subject] is None else _NO_REPLAY
        result = reported(item, self.session, self.step, replay)
        conclude(
            result,
            known=self.session.plan.known,
            required_devices=self.session.options.device,
            replay=replay,
            stopped=stopped(item, self.session, result),
            session=self.session,
            told=told_by(item),
        )


def parametrize_with_laws(
    subjects: Callable[..., Any] | Subject | str | Sequence[Callable[..., Any] | Subject | str], **options: Any
) -> pytest.MarkDecorator:
    """Parametrise a test with the laws. The test takes the one argument ``law``, and calls it.

    Neither the plugin nor an option is needed. If the plugin is loaded, its options apply to decorated tests too:
    ``--law``, ``--dtype`` and ``--device`` select among the tests, and all other options override those given here.
    Options that neither gives are read from ``[tool.toeplitz_core]`` in ``pyproject.toml``.

    A subject that another process can import runs in a separate process, where it may crash and hang. These are names,
    and objects that a module holds under a name. Lambdas, local functions, and objects of a test file that
    ``--import-mode=importlib`` keeps off the path run in the process of the test. There a crash ends the test run,
    memory layouts on which torch can crash are left out, and a failure has a case but no command that replays it.

    Parameters
    ----------
    subjects : callable, Subject, str, or a sequence of them
        A callable with the signature of ``torch.nn.functional.conv2d``; a ``Subject`` or a subclass of it; or a name,
        as for ``toeplitz-core check``.
    **options
        The options of ``toeplitz-core check``, with underscores, such as ``laws``, ``dtypes``, ``devices``,
        ``profile``, ``examples``, ``seed``, ``timeout``, ``known``, ``strict`` and ``inline``. Tests of a missing
        device are skipped, or fail if the device is given here. Known and shared failures are xfailed.

    Raises
    ------
    ValueError
        If an option is wrong; the message has its value and the rule, or the nearest legal name.

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
    session = _session(merged_options(*own), found)  # raises for a wrong option, whatever the command line has
    if command_line := COMMAND_LINE.get():
        try:
            session = _session(_restricted(command_line, *own), found)
        except ValueError as error:
            skip = pytest.mark.skip(reason=f"not run because of the command line: {error}")
            return pytest.mark.parametrize("law", [pytest.param(None, id="none", marks=skip)])
    params = [
        pytest.param(
            LawTest(step, session), id=str(step) if len(found) > 1 else f"{step.law}-{step.dtype}-{step.device}"
        )
        for step in session.steps
    ]
    return pytest.mark.parametrize("law", params)


def _of_tests(table: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the table that tests take."""
    return {key: value for key, value in table.items() if not OPTIONS[key.replace("_", "-")].pytest}


def _session(options: Options, subjects: Mapping[str, Subject | None]) -> Session:
    return Session(options, subjects, sandbox=partial(_sandbox, options.timeout))


def _restricted(command_line: Mapping[str, Any], *own: Mapping[str, Any]) -> Options:
    """Combine the options of a test with those of the command line; ``ValueError`` if no step is left."""
    stronger = {key: value for key, value in command_line.items() if key != "subject"}
    mine = merged_options(*own)
    for key in _RESTRICTING:
        wanted, named = stronger.get(key), getattr(mine, key)
        if wanted and named:
            stronger[key] = tuple(name for name in wanted if name in named)
            if not stronger[key]:
                raise ValueError(f"{key}={', '.join(wanted)} is not among {', '.join(named)}")
    # A test that sweeps keeps its sweep: options of a search on the command line do not apply to it.
    sweep = stronger.get("sweep", mine.sweep)
    return merged_options({"sweep": sweep}, stronger, *own)


def _running_test() -> pytest.Function | None:
    """The running test, whose report gets the result; None outside of a test.

    A mark has no fixture, and without the plugin there is no hook. But every test is called by an implementation of
    pytest's hook ``pytest_pyfunc_call``, whose argument has a fixed name.
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
    """The owner of this process's workers, shared by all decorated tests."""
    sandbox = Sandbox(timeout=timeout)
    atexit.register(sandbox.close)
    return sandbox
