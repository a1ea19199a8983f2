"""The options of a run: declared once for the command line, pytest, the decorator, Python and ``pyproject.toml``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from toeplitz_core.testing.case.case import check_device
from toeplitz_core.testing.case.dtypes import ALIASES, CASE_DTYPES
from toeplitz_core.testing.isolation.sandbox import TIMEOUT
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.search.effort import PROFILES
from toeplitz_core.testing.strategies.sweep import MOST_STEPS
from toeplitz_core.testing.support.spelling import legal_words, named

# Below this many seconds, what is measured is the machine and not the call.
LEAST_SECONDS = 0.1
# Of one call, and of a run: every platform can wait for so long.
MOST_TIMEOUT, MOST_TIME = 1e6, 1e9
# The devices of a run that names none.
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Option:
    """One option, for whoever offers it.

    Parameters
    ----------
    name : str
        As on the command line, without the dashes, and in ``[tool.toeplitz_core]``. In Python it has underscores.
    kind : type
        ``str``, ``int``, ``float`` or ``bool`` (a flag).
    help : str
    repeatable : bool
        Whether it takes several values.
    least, most : number, optional
        The smallest and the largest value.
    check : callable, optional
        From a value to the value; ``ValueError`` with the rule.
    metavar : str
        What stands for the value in a help text.
    in_table : bool
        Whether it may stand in ``pyproject.toml``: not what another run of the same project would want otherwise.
    pytest : str
        What pytest has in its place; empty if it takes the option.
    """

    name: str
    kind: type
    help: str
    repeatable: bool = False
    least: float | None = None
    most: float | None = None
    check: Callable[[str], str] | None = None
    metavar: str = ""
    in_table: bool = True
    pytest: str = ""

    @property
    def key(self) -> str:
        """Its name in Python."""
        return self.name.replace("-", "_")

    def checked(self, value: object) -> Any:
        """A value of the option; several as a tuple, each once.

        Raises
        ------
        ValueError
            With the option, the value and the rule.
        """
        if not self.repeatable:
            return self._checked(value)
        values = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
        if not values or not all(isinstance(each, str) and each for each in values):
            raise ValueError(f"{self.name}={value!r} must be a string or a list of strings, none of them empty")
        return tuple(dict.fromkeys(self._checked(each) for each in values))

    def _checked(self, value: object) -> Any:
        if self.kind is bool:
            if not isinstance(value, bool):
                raise ValueError(f"{self.name}={value!r} must be true or false")  # from a file, too
            return value
        if self.kind is str:
            if not isinstance(value, str | os.PathLike) or not str(value):
                raise ValueError(f"{self.name}={value!r} must be a string that is not empty")
            return str(value) if self.check is None else self.check(str(value))
        what = "a whole number" if self.kind is int else "a number"
        numbers = int if self.kind is int else int | float
        if not isinstance(value, numbers) or isinstance(value, bool) or not self._in_range(value):
            raise ValueError(f"{self.name}={value!r} must be {what}{self._range}")
        return self.kind(value)

    def _in_range(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def _range(self) -> str:
        if self.most is None:
            return "" if self.least is None else f" >= {self.least:g}"
        return f" from {self.least:g} to {self.most:g}"


def _law(name: str) -> str:
    return named(f"law={name!r}", name, LAWS).name


def _dtype(name: str) -> str:
    return named(f"dtype={name!r}", name, {dtype: dtype for dtype in CASE_DTYPES}, ALIASES)


def _profile(name: str) -> str:
    return named(f"profile={name!r}", name, PROFILES).name


def _option(default: object, kind: type, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"kind": kind, "help": text, **more})


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked to do. The fields are the options; ``OPTIONS`` has their help texts and rules.

    Raises
    ------
    ValueError
        With the option, its value and the rule.
    """

    subject: tuple[str, ...] = _option(
        (),
        str,
        "A name that 'subjects' lists, or package.module:callable with the signature of F.conv2d.",
        repeatable=True,
    )
    law: tuple[str, ...] = _option((), str, "Check only this law (repeatable).", repeatable=True, check=_law)
    dtype: tuple[str, ...] = _option((), str, "Check only this dtype (repeatable).", repeatable=True, check=_dtype)
    device: tuple[str, ...] = _option(
        (),
        str,
        "cpu, cuda, cuda:1 ... (repeatable). A device named here that is missing fails the run.",
        repeatable=True,
        check=check_device,
    )
    profile: str | None = _option(
        None, str, f"Effort: {', '.join(PROFILES)}. The default is gate.", check=_profile, metavar="NAME"
    )
    examples: int | None = _option(None, int, "Cases per law and dtype, instead of the profile's.", least=1)
    seed: int | None = _option(
        None,
        int,
        "The same seed draws the same cases. The default is 0; nightly takes a new one and prints it.",
        least=0,
    )
    time: float | None = _option(
        None,
        float,
        "Repeat rounds over all laws and dtypes for this many seconds, and at least one step. Each round has as many "
        "cases as the profile and its own seed. What has failed is not searched again.",
        least=LEAST_SECONDS,
        most=MOST_TIME,
        metavar="SECONDS",
        pytest="toeplitz-core check --time",
    )
    sweep: int | None = _option(
        None,
        int,
        "Take every convolution up to this many steps from the smallest, the nearest first, instead of drawing cases. "
        "The smallest has one of everything. A step is one more row or column, tap, stride, padding, dilation, image, "
        "group or channel, a bias, no batch, or a word for the padding. Operands are contiguous, unless the subject "
        "has its own layout. Not with --profile, --examples, --seed, --time or --write-known.",
        least=1,
        most=MOST_STEPS,
        metavar="STEPS",
        in_table=False,
    )
    jobs: int = _option(
        1,
        int,
        "Processes that search, each with its own workers; 0 is one per core.",
        least=0,
        pytest="-n of pytest-xdist",
    )
    timeout: float = _option(
        TIMEOUT,
        float,
        f"Seconds that one call may take; {TIMEOUT:g} if not given. Where a law needs several calls at once, such as "
        "for gradients, it limits them together.",
        least=LEAST_SECONDS,
        most=MOST_TIMEOUT,
        metavar="SECONDS",
    )
    fail_fast: bool = _option(False, bool, "Start nothing after the first failure.", pytest="-x")
    inline: bool = _option(
        False, bool, "Call the subject in this process: for debuggers and coverage. A crash ends everything."
    )
    known: tuple[str, ...] = _option(
        (),
        str,
        "Known failures (TOML): they are counted, and do not fail the run (repeatable).",
        repeatable=True,
        metavar="FILE",
    )
    fail_stale: bool = _option(False, bool, "End with 3 if an entry of the known failures is no longer needed.")
    write_known: str | None = _option(
        None,
        str,
        "Add what fails to this list of known failures.",
        metavar="FILE",
        in_table=False,
        pytest="toeplitz-core check --write-known",
    )
    json: str | None = _option(
        None,
        str,
        "Write the results as JSON; - is the standard output.",
        metavar="FILE",
        in_table=False,
        pytest="toeplitz-core check --json",
    )
    junit: str | None = _option(
        None, str, "Write the results as JUnit XML.", metavar="FILE", in_table=False, pytest="--junit-xml"
    )
    resume: str | None = _option(
        None,
        str,
        "Go on with the run that left this journal, with its options; only --jobs, --json and --junit may be others.",
        metavar="JOURNAL",
        in_table=False,
        pytest="--lf",
    )

    def __post_init__(self) -> None:
        for option in OPTIONS.values():
            value = getattr(self, option.key)
            if value is not None and value != ():
                object.__setattr__(self, option.key, option.checked(value))
        if self.fail_stale and not self.known:
            raise ValueError("fail-stale needs known=FILE")
        if self.inline and self.processes > 1:
            raise ValueError(f"jobs={self.jobs} needs separate processes: not with inline")
        if self.sweep is not None:
            for name in _OF_A_SEARCH:
                if getattr(self, name) is not None:
                    raise ValueError(f"sweep={self.sweep} takes every convolution: not with {name}")
            if self.write_known is not None:  # conditions are made of cases that a search has made as simple as it can
                raise ValueError(f"sweep={self.sweep} does not shrink what fails: not with write-known")

    @property
    def processes(self) -> int:
        """How many processes search."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.jobs or cores

    @property
    def laws(self) -> tuple[str, ...]:
        """The laws that are checked."""
        return self.law or tuple(LAWS)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes that are checked."""
        return self.dtype or CASE_DTYPES

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that are tried."""
        return self.device or DEVICES

    def document(self) -> dict[str, Any]:
        """The options as JSON has them: what was chosen, and the defaults."""
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}


OPTIONS: Mapping[str, Option] = {
    name: Option(name=name, **f.metadata) for f in fields(Options) for name in [f.name.replace("_", "-")]
}
# What a sweep has no use for. In pyproject.toml it is for the runs that search.
_OF_A_SEARCH = ("profile", "examples", "seed", "time")
# The plural that Python code may write.
_PLURALS = {"subjects": "subject", "laws": "law", "dtypes": "dtype", "devices": "device"}


def by_key(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options that Python code gives, by their keys; without those that are None.

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
            raise ValueError(f"'{word}' and '{key}' are the same option: give one of them")
        if value is not None:
            found[key] = value
    return found


def merged(*sources: Mapping[str, Any]) -> Options:
    """The options of several sources, by their keys, the strongest first."""
    found: dict[str, Any] = {}
    for source in sources:
        swept = found.get("sweep") is not None
        found = {k: v for k, v in source.items() if not (swept and k in _OF_A_SEARCH)} | found
    return Options(**found)
