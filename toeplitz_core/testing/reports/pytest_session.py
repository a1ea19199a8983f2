"""A pytest session as one run of the suite: its record, and the files in which it is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.known_failures.staleness import Stale
from toeplitz_core.testing.laws.result import Step
from toeplitz_core.testing.reports.files.json import to_json
from toeplitz_core.testing.reports.files.report_files import ReportFile, html_file
from toeplitz_core.testing.reports.pytest_result import UNENDED, contribution_in
from toeplitz_core.testing.run.contribution import Contribution, joined
from toeplitz_core.testing.run.events import Ended
from toeplitz_core.testing.run.exit_code import ExitCode, exit_code
from toeplitz_core.testing.run.record import Ending, Record, replay_command
from toeplitz_core.testing.run.session import Session
from toeplitz_core.testing.run.stopwatch import Stopwatch

# What writes the file of ``--toeplitz-NAME``, by NAME, the quickest first.
FILES: Mapping[str, Callable[[str], ReportFile]] = {
    "json": lambda path: ReportFile(path, lambda ended: to_json(ended.record)),
    "html": html_file,
}


class SessionRecord:
    """The record of a pytest session, made of the reports of its tests. With pytest-xdist, all workers send theirs.

    Parameters
    ----------
    session : Session
        That of the options of the command line.
    command : str
        The command line of pytest.
    files : mapping of str to str
        The paths of the files to write, by the names in ``FILES``. They are written at the end. The JSON is also
        written at each new bug, so that nothing is lost if the process is killed.

    Raises
    ------
    ValueError
        If a file cannot be written.
    """

    def __init__(self, session: Session, command: str, files: Mapping[str, str]) -> None:
        self._session = session
        self._command = command
        self._files = {name: FILES[name](path) for name, path in files.items()}
        # The last word of each test, by its id and its worker: --dist=each runs each test in every worker.
        self._tests: dict[tuple[str, str], Contribution] = {}
        self._seconds: dict[tuple[str, str], float] = {}
        self._bugs: set[tuple[str, str]] = set()
        self._stopwatch = Stopwatch()

    def __bool__(self) -> bool:
        """Whether a test had a result."""
        return any(test.result is not None for test in self._tests.values())

    def add(self, report: pytest.TestReport) -> None:
        """Add what the report of a test contributes."""
        found = contribution_in(report)
        if found is None:
            return
        node = getattr(report, "node", None)  # of pytest-xdist
        key = report.nodeid, "" if node is None else node.gateway.id
        self._tests[key], self._seconds[key] = found, report.duration
        bugs = {("finding", finding.id) for finding in found.findings}
        if found.result is not None and not found.findings:  # it goes on shrinking
            bugs = {(found.result.subject, failure.kind) for failure in found.result.failures}
        if bugs - self._bugs and "json" in self._files:
            self._files["json"](Ended(self.record("interrupted")))
        self._bugs |= bugs

    def write(self, record: Record) -> None:
        """Write the files."""
        for file in self._files.values():
            file(Ended(record))

    def record(self, ended: Ending = "completed", stale: Sequence[Stale] = (), workers: int = 1) -> Record:
        """The record of all tests so far, with the exit code that ``check`` would have."""
        record = joined((self._tests[key] for key in sorted(self._tests)), self._session.steps)
        error = "" if ended != "completed" and record.error.endswith(UNENDED) else record.error
        devices = (*self._session.options.device, *record.required_devices)
        refused = stale if self._session.options.fail_stale else ()
        code = exit_code(record.results, required_devices=devices, refused_stale=refused)
        if error or ended == "error":
            code, ended, error = ExitCode.OUR_ERROR, "error", error or "an error of pytest ended the session"
        elif ended == "interrupted":
            code = ExitCode.INTERRUPTED
        steps: dict[Step, float] = defaultdict(float)
        for key, test in self._tests.items():
            if test.result is not None:
                steps[test.result.step] += self._seconds[key]
        listed = {entry.name: entry for entry in (*self._session.plan.known.entries, *record.known.entries)}
        return replace(
            record,
            exit_code=code,
            ended=ended,
            error=error,
            options={**record.options, "command": self._command, "jobs": workers},
            required_devices=devices,
            known=KnownFailures(tuple(listed.values())),
            stale=stale,
            timing=replace(self._stopwatch.timing, steps=dict(steps)),
        )

    def tests_of(self, finding: Finding) -> int:
        """The number of tests that fail for a finding."""
        sights = set(finding.sightings)
        found = {
            name
            for (name, _), test in self._tests.items()
            if (result := test.result) is not None
            and any((result.step, str(failure.case)) in sights for failure in result.failures)
        }
        return len(found)

    def replay_of(self, finding: Finding) -> str:
        """The command that replays a finding, or the reason why none can, as a test says it."""
        said = (test.replays[finding.id] for test in self._tests.values() if finding.id in test.replays)
        return next(said, replay_command(finding.subject, finding.failure))
