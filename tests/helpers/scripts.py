"""Run scripts, each in a process that is forked from one that has imported torch. The arguments are their files."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import traceback
from pathlib import Path

from tests.helpers.paths import CHECKOUT


def run_scripts(texts: dict[str, str], directory: Path) -> dict[str, tuple[int, str]]:
    """Write scripts to a directory, and run them. Return the exit code and the output of each by its name."""
    files = {}
    for name, text in texts.items():
        files[name] = directory / f"{name}.py"
        files[name].write_text(text, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.scripts", *map(str, files.values())]
    found = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    codes = json.loads(found.stdout)
    return {
        name: (codes[str(file)], file.with_suffix(".out").read_text(encoding="utf-8")) for name, file in files.items()
    }


def _run(file: Path) -> int:
    """The exit code of a script, whose output goes to a file beside it."""
    child = os.fork()
    if child == 0:
        output = os.open(file.with_suffix(".out"), os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code: object = 99
        try:
            sys.argv = [str(file)]
            runpy.run_path(str(file), run_name="__main__")
        except SystemExit as ended:
            code = ended.code
        except BaseException:  # noqa: BLE001  # it is part of the output
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    # Once for all scripts: torch, and what it imports for the first gradient.
    import torch.fx.experimental.symbolic_shapes  # noqa: F401

    print(json.dumps({file: _run(Path(file)) for file in sys.argv[1:]}))
