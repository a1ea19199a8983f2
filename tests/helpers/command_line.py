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

# A user's implementations, in a file outside of the repository.
IMPLEMENTATIONS = '''
import sys
import torch
from toeplitz_core import conv2d

def right(*args):
    return conv2d(*args)

def no_groups(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """Takes the first group for all of them."""
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y.zero_() if groups > 1 else y

def refuses(*args):
    raise NotImplementedError("some day")

def only_float32(x, *args):
    if x.dtype != torch.float32:
        raise NotImplementedError(f"{x.dtype}")
    return conv2d(x, *args)

def colours(*args):
    raise RuntimeError("\\x1b[31mred\\x1b[0m \\u2297 [bold]not markup[/bold] stride[1]")

def leaves(*args):
    sys.exit(0)

def interrupts(*args):
    raise KeyboardInterrupt

class Namespace:
    conv = staticmethod(conv2d)

number = 3
'''


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
