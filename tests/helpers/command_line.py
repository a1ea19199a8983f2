"""The command line in this process and in another, and implementations for it."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
from typer.testing import CliRunner, Result

from tests.helpers.paths import CHECKOUT
from toeplitz_core.testing import cli

ONE = "input=1x1x1x1 weight=1x1x1x1"
TWO_LAWS = "--law forward-exact --law forward-bound"


def call(line: str) -> Result:
    """Run the command line in this process, on a narrow terminal, so that folded lines show."""
    return CliRunner().invoke(cli.app, shlex.split(line), prog_name="toeplitz-core", env={"COLUMNS": "60"})


def process(*command: str, directory: Path = CHECKOUT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a new process, with the package of the checkout."""
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(
        [sys.executable, *command], cwd=directory, env=environment, capture_output=True, encoding="utf-8", check=False
    )


def unfolded(output: str) -> str:
    """Output with its folded lines joined."""
    return re.sub(r"\n    (?! )", " ", output)


def replayed(output: str) -> str:
    """The replay command that a failure printed, without ``python -m toeplitz_core``."""
    found = re.search(r"^  replay: python -m toeplitz_core (.*)$", output, flags=re.MULTILINE)
    assert found, output
    return found[1]


SCHEMA = json.loads((importlib.resources.files("toeplitz_core.testing.reports") / "schema.json").read_text("utf-8"))


def validated(text: str) -> dict[str, object]:
    """Parse JSON, and validate it against the schema."""
    read = json.loads(text)
    jsonschema.validate(read, SCHEMA, cls=jsonschema.Draft202012Validator)
    return read
