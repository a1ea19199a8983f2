"""The pytest plugin: the options of ``toeplitz-core check``, and its table at the end.

``-p toeplitz_core.testing.plugin`` loads it, or ``pytest_plugins`` in a conftest.py at the root. Installing the package
does not load it.
"""

from __future__ import annotations

import contextlib
import io
import queue
import shlex
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from toeplitz_core.testing import suite
from toeplitz_core.testing.decorator import COMMAND_LINE
from toeplitz_core.testing.findings.known_failures.staleness import Stale
from toeplitz_core.testing.isolation.isolated_subject import SubjectError
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.reports.finding_text import print_findings
from toeplitz_core.testing.reports.pytest_session import FILES, SessionRecord
from toeplitz_core.testing.reports.remarks import print_known, print_remarks
from toeplitz_core.testing.reports.table import print_summary, print_tables
from toeplitz_core.testing.reports.terminal import header, options_line
from toeplitz_core.testing.reports.text import plain
from toeplitz_core.testing.run.exit_code import ExitCode, exit_code
from toeplitz_core.testing.run.options import OPTIONS, merged_options
from toeplitz_core.testing.run.pyproject import project
from toeplitz_core.testing.run.record import Ending, Record
from toeplitz_core.testing.run.session import Session
from toeplitz_core.testing.support import interrupts
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
    for name in FILES:
        said = f"Write the results and findings of all tests, of all workers together, to this file as {name.upper()}."
        group.addoption(f"--toeplitz-{name}", dest=f"toeplitz_file_{name}", metavar="FILE", help=said)
    for option in OPTIONS.values():
        if option.name in FILES and f"--{option.name}" in taken:
            continue
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
        driver = Driver(config, session, explicit="subject" in given)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[SESSION] = session
    # Decorators run when test files are imported, where there is no config object.
    before = COMMAND_LINE.set(given)
    config.add_cleanup(lambda: COMMAND_LINE.reset(before))
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
        self.is_worker = hasattr(config, "workerinput")
        command = shlex.join(["pytest", *map(str, config.invocation_params.args)])
        self.tests = SessionRecord(session, command, {} if self.is_worker else _files(config))
        self.record = self.tests.record()
        self.is_complete = False

    def pytest_report_header(self) -> list[str]:
        """Echo the options, so that a typo shows."""
        # Decorated tests name subjects of their own.
        asked = self.explicit or any("toeplitz_core" in str(arg) for arg in self.config.args)
        lines = [line for line in header(self.session.plan).splitlines() if asked or not line.startswith("subjects ")]
        return [*lines, *filter(None, [options_line(self.session.options)])]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Import the subjects of the command line. A missing one ends pytest before anything runs."""
        if self.is_worker or self.config.option.collectonly:
            return
        self.config.add_cleanup(interrupts.raise_at_sigterm())
        if not self.explicit:
            return
        try:
            self.session.start()
        except SubjectError as error:
            self.session.close()
            raise pytest.UsageError(str(error)) from None
        if self.config.pluginmanager.hasplugin("dsession"):
            self.session.close()  # under xdist, tests run in other processes with their own workers

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, Any, Any]:
        """Note whether the tests ran to their end. A second interrupt may hide the first one from the exit status."""
        result = yield
        self.is_complete = True
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what the report of a test has for the record. An interrupt waits until that is done."""
        if not self.is_worker:
            with interrupts.noted():
                self.tests.add(report)

    def _add_waiting_reports(self) -> None:
        """Add the reports that workers of pytest-xdist had sent when the session ended, and that it has not read."""
        dsession = self.config.pluginmanager.getplugin("dsession")
        with contextlib.suppress(queue.Empty):
            while dsession is not None:
                event, found = dsession.queue.get_nowait()
                if event == "testreport":
                    found["rep"].node = found["node"]
                    self.tests.add(found["rep"])

    def _asked_for(self, record: Record) -> list[Result]:
        """The results of the steps that the options name."""
        steps = set(self.session.steps)
        return [result for result in record.results if result.step in steps]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Look for stale entries, and write the files. Fail if nothing is proven, or if stale entries are refused."""
        if self.is_worker:
            return
        self._add_waiting_reports()
        asked_for = self._asked_for(self.tests.record())
        stale: list[Stale] = []
        if asked_for and session.exitstatus != pytest.ExitCode.INTERRUPTED:
            with contextlib.suppress(SubjectError):  # the tests of the missing subject have failed already
                stale = self.session.stale(asked_for)
        refused = stale and self.session.options.fail_stale
        self.record = self.tests.record(self._ending(session), stale, _workers(self.config))
        if session.exitstatus == pytest.ExitCode.OK and (self._proved_nothing or refused):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if not self.config.option.collectonly:
            with interrupts.ignored():
                self.tests.write(self.record)

    def _ending(self, session: pytest.Session) -> Ending:
        """How the session ended, in the words of a record."""
        if session.exitstatus == pytest.ExitCode.INTERNAL_ERROR:
            return "error"
        if session.shouldfail:  # also the reason for an interrupt of pytest-xdist
            return "stopped at the first failure"
        return "completed" if self.is_complete else "interrupted"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the findings of all tests, each once, and the table of the command line. With -q, there is no table."""
        quiet = -self.config.get_verbosity()
        if self.tests and quiet < (2 if self.record.findings else 1):
            terminalreporter.section("toeplitz_core")
            terminalreporter.write(self._summary(table=quiet < 1))

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        """End the workers."""
        self.session.close()

    @property
    def _proved_nothing(self) -> bool:
        """Whether a subject was named, and the command ``check`` would exit with 3."""
        asked_for = self._asked_for(self.record)
        return self.explicit and bool(asked_for) and exit_code(asked_for) is ExitCode.NOTHING_PROVEN

    def _summary(self, *, table: bool) -> str:
        record = self.record
        writer = self.config.get_terminal_writer()
        # Rich reads from the file which characters can be printed.
        file = io.TextIOWrapper(io.BytesIO(), encoding=getattr(sys.__stdout__, "encoding", None) or "utf-8")
        # In a log, 160 columns keep the table unfolded.
        width = writer.fullwidth if writer.hasmarkup else 160
        console = Console(file=file, force_terminal=writer.hasmarkup, width=width, emoji=False)
        print_findings(console, record, self.tests.tests_of, self.tests.replay_of)
        if table:
            print_tables(console, record)
            print_remarks(console, record.results, self.session.left_out if self._asked_for(record) else ())
            print_known(console, record)
            print_summary(console, record.results)
        if self._proved_nothing:
            plain(console, "nothing proven: no law could be checked on a subject that the command line names")
        file.seek(0)
        return file.read()


def _files(config: pytest.Config) -> dict[str, str]:
    """The paths of the files to write, by the names of their reports."""
    given = {name: getattr(config.option, f"toeplitz_file_{name}", None) for name in FILES}
    if wrong := [name for name, path in given.items() if path == "-"]:
        raise ValueError(f"toeplitz-{wrong[0]}='-' must be a file")
    return {name: str(config.invocation_params.dir / path) for name, path in given.items() if path is not None}


def _workers(config: pytest.Config) -> int:
    """The number of processes that run tests."""
    dsession = config.pluginmanager.getplugin("dsession")  # of pytest-xdist
    return 1 if dsession is None else len(dsession.nodemanager.specs)
