"""A run in a few words: its subjects, what they claim, and whether the laws hold."""

from __future__ import annotations

from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.exit_code import ExitCode
from toeplitz_core.testing.run.record import Record

_WORDS = {
    ExitCode.ALL_HOLD: "all laws hold",
    ExitCode.FAILURE: "failed",
    ExitCode.NOTHING_PROVEN: "too little is proven",
    ExitCode.OUR_ERROR: "ended by an error of toeplitz-core",
    ExitCode.INTERRUPTED: "interrupted",
}


def subjects_of(record: Record) -> list[str]:
    """The names of the subjects, in the order of the run."""
    return list(dict.fromkeys(result.subject for result in (*record.results, *record.unreached)))


def claimed_of(record: Record) -> list[Result]:
    """The results that were run, without what subjects do not claim to support."""
    ran = [result for result in record.results if result.status is not Status.NOT_RUN]
    return [result for result in ran if result.status is not Status.UNSUPPORTED or result.nothing_proven]


def verdict_in_words(record: Record) -> str:
    """Whether the laws hold."""
    code = ExitCode(record.exit_code)
    if code is ExitCode.ALL_HOLD and record.findings:
        return "no finding that is not in the baseline"
    return _WORDS[code]
