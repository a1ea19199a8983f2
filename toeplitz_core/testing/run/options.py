"""The options of a run, declared once for the command line, pytest, the decorator, Python and ``pyproject.toml``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import TYPE_CHECKING, Any

from toeplitz_core.testing.run.combinations import OF_A_SEARCH, check_together
from toeplitz_core.testing.support.limits import EXAMPLES, MOST_FAILURES, MOST_STEPS, TIMEOUT
from toeplitz_core.testing.support.option import Option
from toeplitz_core.testing.support.places import LOCAL, executor, memory
from toeplitz_core.testing.support.spelling import legal_words

if TYPE_CHECKING:
    from toeplitz_core.testing.subjects.declared import Declared

# Shorter limits would measure the machine and not the call.
LEAST_SECONDS = 0.1
# Limits of --timeout and --time in seconds: every platform can wait this long.
MOST_TIMEOUT, MOST_TIME = 1e6, 1e9


def _legal_values() -> ModuleType:
    from toeplitz_core.testing.run import legal_values  # noqa: PLC0415  # it needs torch, and help texts do not

    return legal_values


def _legal(kind: str) -> Callable[[str], str]:
    """A check that values of a kind are legal."""
    return lambda value: str(getattr(_legal_values(), kind)(value))


def _option(default: object, kind: type, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"kind": kind, "help": text, **more})


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a run. Each field has its help text and rules, which ``OPTIONS`` collects.

    Raises
    ------
    ValueError
        If an option is wrong; the message has the option, its value and the rule.
    """

    subject: tuple[str, ...] = _option(
        (),
        str,
        "What to check: a name that 'toeplitz-core subjects' lists, or package.module:callable with the signature of "
        "F.conv2d.",
        repeatable=True,
        metavar="SUBJECT",
    )
    law: tuple[str, ...] = _option(
        (), str, "Check only this law (repeatable).", repeatable=True, check=_legal("law"), metavar="NAME"
    )
    dtype: tuple[str, ...] = _option(
        (), str, "Check only this dtype (repeatable).", repeatable=True, check=_legal("dtype"), metavar="NAME"
    )
    device: tuple[str, ...] = _option(
        (),
        str,
        "Check only on this device: cpu, cuda, cuda:1 ... (repeatable). A device named here that is missing fails the "
        "run.",
        repeatable=True,
        check=_legal("device"),
        metavar="NAME",
    )
    arithmetic: tuple[str, ...] = _option(
        (),
        str,
        "How a subject that declares nothing computes: a name that 'toeplitz-core arithmetics' lists, for every dtype "
        "that it is for, or DTYPE=NAME (repeatable). The default is strict.",
        repeatable=True,
        check=_legal("arithmetic"),
        metavar="[DTYPE=]NAME",
    )
    profile: str | None = _option(
        None, str, f"Effort: {', '.join(EXAMPLES)}. The default is gate.", check=_legal("profile"), metavar="NAME"
    )
    examples: int | None = _option(
        None, int, "Number of cases per law and dtype, instead of the profile's.", least=1, metavar="N"
    )
    seed: int | None = _option(
        None,
        int,
        "The same seed draws the same cases. The default is 0; nightly draws a new seed and prints it.",
        least=0,
        metavar="N",
    )
    where: str | None = _option(
        None,
        str,
        "Check only cases for which this condition holds, such as 'kernel_size == (3, 3) and groups == 1'. It is an "
        "expression over the names that conditions of known failures use. Laws are not asked about other cases.",
        check=_legal("condition"),
        metavar="CONDITION",
    )
    max_products: int | None = _option(
        None,
        int,
        "Check only cases with at most this many products, all images together, for kernels that are slow.",
        least=1,
        metavar="N",
    )
    max_failures: int = _option(
        MOST_FAILURES,
        int,
        "After a failure, each law looks for others that the first does not explain, until it has found this many in a "
        f"dtype; the default is {MOST_FAILURES}.",
        least=1,
        metavar="N",
    )
    time: float | None = _option(
        None,
        float,
        "Search for this many seconds, in rounds over all laws and dtypes. Each round has the profile's number of "
        "cases and its own seed. A law that has failed for a dtype is not searched again. At least one is searched.",
        least=LEAST_SECONDS,
        most=MOST_TIME,
        metavar="SECONDS",
        pytest="toeplitz-core check --time",
    )
    sweep: int | None = _option(
        None,
        int,
        "Check every convolution up to this many steps from the smallest one, nearest first, instead of drawing cases. "
        "The smallest convolution has one of everything. A step adds one row, column, tap, stride, padding, "
        "dilation, image, group or channel, adds a bias, removes the batch dimension, or gives the padding as a word. "
        "Operands are contiguous, unless the subject declares another layout. Cannot be combined with --profile, "
        "--examples, --seed, --time or --write-known.",
        least=1,
        most=MOST_STEPS,
        metavar="STEPS",
        in_table=False,
    )
    jobs: int | None = _option(
        None,
        int,
        "Number of processes that search in parallel, each with its own workers; the default is 1, and 0 means one per "
        "core. With --executor: the number of tasks given out at once; the default is its number of workers.",
        least=0,
        metavar="N",
        pytest="-n of pytest-xdist",
    )
    executor: str = _option(
        LOCAL,
        str,
        "Where steps, rounds and parts of a sweep are judged: local, which means processes of this machine and is the "
        "default; dask://HOST:PORT, the scheduler of a Dask cluster (it needs the extra 'dask'); or module:callable, "
        "which returns any concurrent.futures.Executor. Workers need the same versions, and the subject.",
        check=executor,
        metavar="NAME",
        pytest="toeplitz-core check --executor",
    )
    memory: tuple[str, ...] = _option(
        (),
        str,
        "Try first what failed in earlier runs with this memory, and report a bug in full only once: a directory, "
        "redis://HOST:PORT/N (it needs the extra 'redis'), or readonly:DIRECTORY (repeatable: all are read, and those "
        "that can be written are). With --time, each run draws other cases.",
        repeatable=True,
        check=memory,
        metavar="PLACE",
        pytest="toeplitz-core check --memory",
    )
    timeout: float = _option(
        TIMEOUT,
        float,
        f"Time limit of one call, in seconds; the default is {TIMEOUT:g}. If a law makes several calls at once, as for "
        "gradients, the limit is for all of them together.",
        least=LEAST_SECONDS,
        most=MOST_TIMEOUT,
        metavar="SECONDS",
    )
    fail_fast: bool = _option(False, bool, "Start nothing new after the first failure.", pytest="-x")
    inline: bool = _option(
        False, bool, "Call the subject in this process, for debuggers and coverage. A crash then ends the run."
    )
    differentiable: bool = _option(
        False,
        bool,
        "A subject without gradients is a failure. By default, a subject that never has gradients is forward only, and "
        "the laws of derivatives are not checked. For subjects that do not declare this themselves.",
    )
    known: tuple[str, ...] = _option(
        (),
        str,
        "A list of known failures (TOML). They are counted, but do not fail the run (repeatable).",
        repeatable=True,
        metavar="FILE",
    )
    fail_stale: bool = _option(False, bool, "Exit with 3 if an entry of the known failures is no longer needed.")
    strict: bool = _option(
        False,
        bool,
        "Failures that a subject shares with torch, whose convolution it calls, fail the run too. By default, they are "
        "counted and named apart.",
    )
    write_known: str | None = _option(
        None,
        str,
        "Update this list of known failures (TOML) in place: add the failures of this run, and remove entries whose "
        "example was run again and holds.",
        metavar="FILE",
        in_table=False,
        pytest="toeplitz-core check --write-known",
    )
    baseline: str | None = _option(
        None,
        str,
        "Compare the run with this file, which --write-baseline wrote, or with the JSON of a run. Findings that stand "
        "in it do not fail the run; new findings do, and less support than before.",
        metavar="FILE",
        pytest="toeplitz-core check --baseline",
    )
    write_baseline: str | None = _option(
        None,
        str,
        "Write what this run found, and what is supported, to this file, for --baseline. One line per fact.",
        metavar="FILE",
        in_table=False,
        pytest="toeplitz-core check --write-baseline",
    )
    min_judged: float | None = _option(
        None,
        float,
        "Exit with 3 if a smaller share of the cases of a subject was judged, from 0 to 1. The rest was refused, or "
        "could not tell right from wrong.",
        least=0,
        most=1,
        metavar="SHARE",
    )
    markdown: str | None = _option(
        None,
        str,
        "Write a summary to this file as Markdown, for a CI job or a pull request.",
        metavar="FILE",
        in_table=False,
        pytest="toeplitz-core check --markdown",
    )
    html: str | None = _option(
        None,
        str,
        "Write a page for browsers to this file: findings with their matrices, tables, accuracy, versions. It loads "
        "nothing from a network. It needs jinja2, from the extra 'html'.",
        metavar="FILE",
        in_table=False,
        pytest="--toeplitz-html",
    )
    json: str | None = _option(
        None,
        str,
        "Write the results to this file as JSON; - means standard output.",
        metavar="FILE",
        in_table=False,
        pytest="--toeplitz-json",
    )
    junit: str | None = _option(
        None, str, "Write the results to this file as JUnit XML.", metavar="FILE", in_table=False, pytest="--junit-xml"
    )
    verbose: bool = _option(
        False, bool, "Print a line for each law and dtype as soon as it is done.", pytest="-v", short="v"
    )
    resume: str | None = _option(
        None,
        str,
        "Resume the run that wrote this journal, with its options. Only --jobs, --executor, --verbose and "
        "the files to write may be changed.",
        metavar="JOURNAL",
        in_table=False,
        pytest="--lf",
    )

    def __post_init__(self) -> None:
        for option in OPTIONS.values():
            value = getattr(self, option.key)
            if value is not None and value != ():
                object.__setattr__(self, option.key, option.checked(value))
        if self.arithmetic:
            _legal_values().by_dtype(self.arithmetic)
        check_together(self)

    @property
    def processes(self) -> int:
        """Number of processes that search."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return 1 if self.jobs is None else self.jobs or cores

    @property
    def laws(self) -> tuple[str, ...]:
        """The names of the laws to check."""
        return self.law or _legal_values().ALL_LAWS

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The names of the dtypes to check."""
        return self.dtype or _legal_values().ALL_DTYPES

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the devices to check on."""
        return self.device or _legal_values().ALL_DEVICES

    @property
    def declared(self) -> Declared:
        """What they declare about subjects that declare nothing themselves."""
        from toeplitz_core.testing.subjects.declared import Declared  # noqa: PLC0415  # as above

        return Declared(self.differentiable, self.dtype, self.arithmetic)

    @property
    def flags(self) -> tuple[str, ...]:
        """Those without a value that decide whether a case fails, so that its replay needs them too."""
        return ("--differentiable",) * self.differentiable + ("--strict",) * self.strict

    @property
    def command(self) -> str:
        """The command line that has these options, whatever driver they came from."""
        words = ["toeplitz-core", "check", *self.subject]
        for option in OPTIONS.values():
            value = getattr(self, option.key)
            if option.name == "subject" or value == type(self).__dataclass_fields__[option.key].default:
                continue
            given = value if isinstance(value, tuple) else (value,)
            words += [f"--{option.name}"] if value is True else [f"--{option.name}={each}" for each in given]
        return shlex.join(words)

    def document(self) -> dict[str, Any]:
        """All options as JSON values, defaults included."""
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}


OPTIONS: Mapping[str, Option] = {
    name: Option(name=name, **f.metadata) for f in fields(Options) for name in [f.name.replace("_", "-")]
}
# Python code may use the plural.
_PLURALS = {
    "subjects": "subject",
    "laws": "law",
    "dtypes": "dtype",
    "devices": "device",
    "arithmetics": "arithmetic",
}


def by_key(given: Mapping[str, Any]) -> dict[str, Any]:
    """Map options from Python code to their keys, and drop those that are None.

    Examples
    --------
    >>> by_key({"laws": ["matrix"], "fail_fast": True, "seed": None})
    {'law': ['matrix'], 'fail_fast': True}
    """
    found = {}
    for word, value in given.items():
        key = _PLURALS.get(word, word).replace("-", "_")
        if key.replace("_", "-") not in OPTIONS:
            raise ValueError(
                f"unknown option '{word}'; {legal_words(word, [option.key for option in OPTIONS.values()])}"
            )
        if key in found:
            raise ValueError(f"'{word}' and '{key}' are the same option: give only one of them")
        if value is not None:
            found[key] = value
    return found


def merged_options(*sources: Mapping[str, Any]) -> Options:
    """Merge the options of several sources. Earlier sources override later ones."""
    found: dict[str, Any] = {}
    for source in sources:
        swept = found.get("sweep") is not None
        found = {k: v for k, v in source.items() if not (swept and k in OF_A_SEARCH)} | found
    return Options(**found)
