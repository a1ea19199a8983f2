"""The README's code runs and prints what it says, and the commands that it gives exist."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

from toeplitz_core.testing.case.recipes import RECIPES
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.reports.laws import laws_table
from toeplitz_core.testing.search.statistics import REGIONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_python_blocks_print_what_follows_them() -> None:
    """Each Python block, run after those before it, prints exactly the text block that follows it."""
    blocks = re.findall(r"^```python\n(.*?)^```\n```text\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == README.count("```python")
    assert blocks
    namespace: dict[str, object] = {}
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), namespace)
        assert printed.getvalue() == expected


def test_readme_tox_environments_exist() -> None:
    """Every environment that the README runs or lists is one of tox.ini, and none of them is left out."""
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    environments = {section.partition(":")[2] for section in tox.sections()} - {""}
    run = set(re.findall(r"tox run -e (\w+)", README))
    table = set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE))
    assert run <= environments
    assert table == environments
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").count("python -m tox run") == 1


def test_readme_links_lead_to_files() -> None:
    """Every link and image of the README that is not on the web leads to a file of the repository."""
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if "://" not in target]
    assert local
    assert [target for target in local if not (ROOT / target).is_file()] == []


def test_readme_commands_for_a_conv2d_of_ones_own(tmp_path: Path) -> None:
    """Each command of that section, made shorter, finds the fault that its file has; the file without one passes."""
    section = README.partition("\n## Your own conv2d\n")[2].partition("\n## ")[0]
    files = re.findall(r"^```py\n# (\w+\.py)\n(.*?)^```$", section, flags=re.DOTALL | re.MULTILINE)
    assert len(files) == section.count("```py\n")
    for name, code in files:
        (tmp_path / name).write_text(code, encoding="utf-8")
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTEST_ADDOPTS", "TOEPLITZ_SUBJECT")
    }
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    commands = re.findall(r"^```sh\npython (.*)\n```$", section, flags=re.MULTILINE)
    assert len(commands) == section.count("```sh")
    for command in (*commands, "-m toeplitz_core check arrays:conv2d"):
        less = (
            "-k exact-float32-cpu" if "test_kernels" in command else "--law=forward-exact --dtype=float32 --examples=25"
        )
        line = [sys.executable, *shlex.split(command), *less.split()]
        ran = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == (0 if "arrays" in command else 1), ran.stdout + ran.stderr
        assert ("--subject kernels:conv2d" in ran.stdout) == (ran.returncode == 1)


def test_readme_lists_the_laws() -> None:
    """The page of the laws is what the laws say of themselves."""
    assert laws_table(LAWS.values()) in README


def test_readme_statistics_are_of_events_that_there_are() -> None:
    """The excerpt of Hypothesis's statistics has each kind of event, in the words that the search uses."""
    found = re.findall(r"^      \* [\d.]+%, (\w+): (.+)$", README, flags=re.MULTILINE)
    legal = {"status": set(Status), "data": set(RECIPES), "region": set(REGIONS)}
    assert {kind for kind, _ in found} == {*legal, "kernel", "regime"}
    assert [label for kind, label in found if label not in legal.get(kind, {label})] == []
