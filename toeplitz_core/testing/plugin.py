"""The pytest plugin: the options of ``toeplitz-core check``, and its table at the end.

``-p toeplitz_core.testing.plugin`` loads it, or ``pytest_plugins`` in a conftest.py at the root. Installing the package
does not load it.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from toeplitz_core.testing import suite
from toeplitz_core.testing.decorator import COMMAND_LINE
from toeplitz_core.testing.findings.known_failures.staleness import Stale
from toeplitz_core.testing.isolation.isolated_subject import SubjectError
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.reports.pytest_result import PROPERTY
from toeplitz_core.testing.reports.remarks import print_known, print_remarks
from toeplitz_core.testing.reports.table import print_summary, print_tables
from toeplitz_core.testing.reports.terminal import header, options_line
from toeplitz_core.testing.reports.text import plain
from toeplitz_core.testing.run.exit_code import ExitCode, exit_code
from toeplitz_core.testing.run.options import OPTIONS, merged_options
from toeplitz_core.testing.run.pyproject import project
from toeplitz_core.testing.run.record import Record, read_result
from toeplitz_core.testing.run.session import Session
from toeplitz_core.testing.search.tally import merged_results
from toeplitz_core.testing.support.option import Option

# The session of this pytest run.
SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options, unless plugins with the same option names may still be loaded."""
    # With -p, pytest calls this before it loads installed plugins. It sets confcutdir after those, and before a
    # conftest.py can name this plugin.
    known = getattr(pluginmanager.get_plugin("pytestconfig"), "known_args_namespace", None)
    if getattr(known, "confcutdir", None) is not None:
        _add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(parser: pytest.Parser) -> None:
    """Add the options if that was postponed."""
    _add_options(parser)


def _add_options(parser: pytest.Parser) -> None:
    # pytest has no public API to list options, and older versions report duplicates too late.
    there = [option for group in (parser._anonymous, *parser._groups) for option in group.options]
    if any(option.dest == _dest(OPTIONS["subject"]) for option in there):
        return
    taken = {name for option in there for name in option.names()}
    group = parser.getgroup("toeplitz_core", "toeplitz_core: convolutions checked against their matrix")
    for option in OPTIONS.values():
        word = f"toeplitz-{option.name}" if {f"--{option.name}", f"--no-{option.name}"} & taken else option.name
        more: dict[str, Any] = {"action": "append" if option.repeatable else "store"}
        if option.kind is bool:
            more = {"action": "store_true"}
        elif not option.repeatable:
            more["type"] = option.kind
        if option.metavar:
            more["metavar"] = option.metavar
        said = f"Not for pytest: use {option.pytest}." if option.pytest else option.help
        group.addoption(f"--{word}", dest=_dest(option), default=None, help=said.replace("%", "%%"), **more)
        if option.kind is bool:
            said = f"Switch off --{word} of pyproject.toml." if not option.pytest else said
            group.addoption(f"--no-{word}", dest=_dest(option), default=None, help=said, action="store_false")


def _dest(option: Option) -> str:
    return f"toeplitz_{option.key}"


def pytest_configure(config: pytest.Config) -> None:
    """Read the options. A wrong option ends pytest before anything runs."""
    try:
        given = _given(config)
        session = _session(config, given)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[SESSION] = session
    # Decorators run when test files are imported, where there is no config object.
    before = COMMAND_LINE.set(given)
    config.add_cleanup(lambda: COMMAND_LINE.reset(before))
    driver = Driver(config, session, explicit="subject" in given)
    config.pluginmanager.register(driver, "toeplitz_core driver")


def _given(config: pytest.Config) -> dict[str, Any]:
    """The options of the command line, by their keys."""
    given = {}
    for option in OPTIONS.values():
        value = getattr(config.option, _dest(option), None)
        if value is None:
            continue
        if option.pytest:
            raise ValueError(f"--{option.name} is not for pytest: use {option.pytest}")
        given[option.key] = option.checked(value)
    return given


def _session(config: pytest.Config, given: Mapping[str, Any]) -> Session:
    table = {
        key: value
        for key, value in project(config.invocation_params.dir).items()
        if not OPTIONS[key.replace("_", "-")].pytest
    }
    if "subject" not in {*given, *table}:
        # torch declares its own arithmetic; an option or a key without a subject is for decorated tests.
        own = [{key: value for key, value in source.items() if key != "arithmetic"} for source in (given, table)]
        return Session(merged_options(*own, {"subject": ("torch",)}))
    return Session(merged_options(given, table))


@pytest.fixture(scope="session")
def toeplitz_session(request: pytest.FixtureRequest) -> Session:
    """The session that judges the steps in this process."""
    return request.config.stash[SESSION]


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Name the suite's module if it is installed outside of the root, where pytest would give it an empty name.

    With ``--pyargs``, the printed test id then runs the test again: ``toeplitz_core.testing.suite::test_law[...]``.
    """
    if module_path != Path(suite.__file__) or module_path.is_relative_to(parent.config.rootpath):
        return None
    module: pytest.Module = pytest.Module.from_parent(parent, path=module_path, nodeid=suite.__name__)
    return module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test for each step."""
    if "toeplitz_step" in metafunc.fixturenames:
        metafunc.parametrize("toeplitz_step", metafunc.config.stash[SESSION].steps, ids=str)


class Driver:
    """The hooks that need the options: header, session start, summary and session end."""

    def __init__(self, config: pytest.Config, session: Session, *, explicit: bool) -> None:
        self.config = config
        self.session = session
        self.explicit = explicit
        self.reported: dict[str, Result] = {}
        self.stale: list[Stale] = []

    def pytest_report_header(self) -> list[str]:
        """Echo the options, so that a typo shows."""
        lines = header(self.session.plan).splitlines()
        return [*lines, *filter(None, [options_line(self.session.options)])]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Import the subjects of the command line. A missing one ends pytest before anything runs."""
        if not self.explicit or hasattr(self.config, "workerinput") or self.config.option.collectonly:
            return
        try:
            self.session.start()
        except SubjectError as error:
            self.session.close()
            raise pytest.UsageError(str(error)) from None
        if self.config.pluginmanager.hasplugin("dsession"):
            self.session.close()  # under xdist, tests run in other processes with their own workers

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the result in the report of a test."""
        if report.when == "call":
            for name, value in report.user_properties:
                if name == PROPERTY:
                    self.reported[report.nodeid] = read_result(json.loads(str(value)))

    @property
    def results(self) -> dict[Step, Result]:
        """One result per step, steps of the options first. Decorated tests may add steps, or results for these."""
        found: dict[Step, list[Result]] = {}
        for result in self.reported.values():
            found.setdefault(result.step, []).append(result)
        ran = {step: [r for r in results if r.cases] or results[-1:] for step, results in found.items()}
        order = [step for step in self.session.steps if step in ran]
        return {step: merged_results(ran[step]) for step in dict.fromkeys([*order, *ran])}

    @property
    def asked_for(self) -> list[Result]:
        """The results of the steps that the options name."""
        results, steps = self.results, set(self.session.steps)
        return [result for step, result in results.items() if step in steps]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Look for stale entries. Fail the session if nothing is proven, or if stale entries are refused."""
        asked_for = self.asked_for
        if hasattr(self.config, "workerinput") or not asked_for:
            return
        with contextlib.suppress(SubjectError):  # the tests of the missing subject have failed already
            self.stale = self.session.stale(asked_for)
        refused = self.stale and self.session.options.fail_stale
        if session.exitstatus == pytest.ExitCode.OK and (self._proved_nothing or refused):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table of the command line."""
        if self.reported:
            terminalreporter.section("toeplitz_core")
            terminalreporter.write(self._summary())

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        """End the workers."""
        self.session.close()

    @property
    def _proved_nothing(self) -> bool:
        """Whether a subject was named, and the command ``check`` would exit with 3."""
        asked_for = self.asked_for
        return self.explicit and bool(asked_for) and exit_code(asked_for) is ExitCode.NOTHING_PROVEN

    def _summary(self) -> str:
        results, asked_for = list(self.results.values()), self.asked_for
        writer = self.config.get_terminal_writer()
        # Rich reads from the file which characters can be printed.
        file = io.TextIOWrapper(io.BytesIO(), encoding=getattr(sys.__stdout__, "encoding", None) or "utf-8")
        # In a log, 160 columns keep the table unfolded.
        width = writer.fullwidth if writer.hasmarkup else 160
        console = Console(file=file, force_terminal=writer.hasmarkup, width=width, emoji=False)
        print_tables(console, Record(results, 0))
        print_remarks(console, results, self.session.left_out if asked_for else ())
        record = Record(asked_for, 0, known=self.session.plan.known, stale=self.stale)
        print_known(console, record)
        print_summary(console, results)
        if self._proved_nothing:
            plain(console, "nothing proven: no law could be checked on a subject that the command line names")
        file.seek(0)
        return file.read()
