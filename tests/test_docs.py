"""The pages: their examples run, their output is current, their commands exist, their tables are complete."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from tests.helpers.command_line import SCHEMA
from tests.helpers.paths import CHECKOUT
from toeplitz_core.testing.case.attributes import ATTRIBUTES, CALL_ATTRIBUTES
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.cli import app
from toeplitz_core.testing.findings.causes.catalogue import CAUSES
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.options import OPTIONS
from toeplitz_core.testing.run.pyproject import read_table
from toeplitz_core.testing.search.statistics import REGIONS


def _generate() -> ModuleType:
    """Import docs/generate.py, which is not part of the package."""
    spec = importlib.util.spec_from_file_location("generate", CHECKOUT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module


generate = _generate()
PAGES = {path.name: path.read_text(encoding="utf-8") for path in generate.PAGES}
# Options of pytest and of other plugins that pages name.
_OF_PYTEST = {"pyargs", "hypothesis-show-statistics"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the user's defaults."""
    for name in ("PYTEST_ADDOPTS", "TOEPLITZ_SUBJECT"):
        monkeypatch.delenv(name, raising=False)


def blocks(page: str, *languages: str) -> list[str]:
    """The blocks of a page in these languages."""
    return [block.text for block in generate.blocks(PAGES[page]) if block.language in languages]


def table(page: str, heading: str) -> str:
    """The text from a heading, or another line, to the next heading."""
    after = PAGES[page].partition(f"{heading}\n")[2]
    assert after, f"{page} has no '{heading}'"
    return re.split(r"^(?:##|<!--)", after, maxsplit=1, flags=re.MULTILINE)[0]


def first_column(text: str) -> list[str]:
    """The words in backquotes in the first column of the table in a text."""
    rows = re.findall(r"^\|([^|]*)\|", text, flags=re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("page", PAGES)
def test_pages_show_what_is_printed(page: str) -> None:
    """Every Python block and command prints what the page shows after it; docs/generate.py writes it."""
    for shown in generate.printed(PAGES[page], page):
        there = PAGES[page][shown.start : shown.end]
        assert shown.agrees_with(there), f"{page}: {shown.command}\n{shown.text}"


def test_readme_shows_the_finding_of_its_broken_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The finding in the README is that of its changed kernel; its case fails for that, and holds when it is mended."""
    found = generate.blocks(PAGES["README.md"])
    (kernel,), (wrong, mended) = ([b for b in found if b.language == language] for language in ("py", "diff"))
    (finding,) = (re.sub(r"\n {4,}", " ", b.text) for b in found if "\nF1 " in b.text)
    shown = dict(re.findall(r"^  (\w+): +(.*)$", finding, flags=re.MULTILINE))
    (cause,) = re.findall(r"^F1 (\S+): kernels:conv2d \(fail\)$", finding, flags=re.MULTILINE)
    (replay,) = generate.commands(shown["replay"])
    path = tmp_path / str(kernel.file_name)
    path.write_text(kernel.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        generate.change(tmp_path, wrong.text)
        heading, *rest = re.sub(r"\n {4,}", " ", generate.run(replay)).splitlines()
        assert heading == f"FAIL kernels:conv2d, forward-exact: {shown['wrong']}"
        said = dict(re.findall(r"^  (\w+): +(.*)$", "\n".join(rest), flags=re.MULTILINE))
        assert said == {
            "case": shown["case"],
            "replay": shown["replay"],
            "cause": f"{cause}: {shown['cause']}",
            "needs": shown["needs"],
            "runs": "10",
        }
        generate.change(tmp_path, mended.text)
        assert path.read_text(encoding="utf-8") == kernel.text
        assert generate.run(replay).startswith("PASS kernels:conv2d, forward-exact\n")
    finally:
        generate.forget_modules(tmp_path)


def test_readme_is_short() -> None:
    """The README has at most 150 lines, so that it can be read in two minutes."""
    assert len(PAGES["README.md"].splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_no_placeholders(page: str) -> None:
    """No page is left with a figure to be filled in."""
    assert not re.search(r"@[A-Z0-9]+@", PAGES[page])


@pytest.mark.parametrize(
    ("shown", "agrees"),
    [
        ("one\ntwo\nthree\n", True),
        ("...\nthree\n", True),
        ("one\n...\nthree\n", True),
        ("...\ntwo\n...\n", True),
        ("one\nthree\n", False),
        ("...\nthree\n...\ntwo\n", False),
        ("one\n...\nfour\n", False),
        ("one\ntwo\n", False),
    ],
)
def test_dots_stand_for_lines(shown: str, agrees: bool) -> None:
    """Three dots in a page stand for any lines; the other lines are shown in their order."""
    printed = generate.Printed("python -m toeplitz_core laws", "one\ntwo\nthree\n", 0, 0, 0)
    assert printed.agrees_with(shown) is agrees


def test_exit_codes_and_changes_of_a_page_are_those_of_its_commands() -> None:
    """'echo $?' prints the exit code of the command before it, for a file as it is after the changes above it."""
    page = """\
```py
# of_the_page.py
def conv2d(*arguments):
    raise NotImplementedError
```
```console
$ toeplitz-core replay "input=1x1x1x1 weight=1x1x1x1 law=forward-exact" --subject of_the_page:conv2d
$ echo $?
```
```diff
+++ of_the_page.py
-    raise NotImplementedError
+    raise ValueError
```
```console
$ toeplitz-core replay "input=1x1x1x1 weight=1x1x1x1 law=forward-exact" --subject of_the_page:conv2d
$ echo $?
```
"""
    assert [one.text for one in generate.printed(page, "page")][1::2] == ["3\n", "1\n"]


def test_page_of_the_laws_is_current() -> None:
    """docs/laws.md is what docs/generate.py writes, with every law."""
    assert PAGES["laws.md"] == generate.laws_page()
    assert all(f"| {name} |" in PAGES["laws.md"] for name in LAWS)


@pytest.mark.parametrize("page", PAGES)
def test_generated_tables_are_current(page: str) -> None:
    """The tables of a page that docs/generate.py writes are those of today; the text around them stays."""
    assert generate.with_tables(PAGES[page]) == PAGES[page]
    old = re.sub(r"(<!-- catalogue -->\n\n(?:\|.*\n)+)\|.*\n", r"\1", PAGES[page])
    assert generate.with_tables(old) == PAGES[page]


def test_a_table_is_written_after_its_comment() -> None:
    """A comment without a table gets one, a table is replaced, and the text after it stays apart."""
    empty = "<!-- catalogue -->\n\n## More\n"
    page = generate.with_tables(empty)
    assert page == f"<!-- catalogue -->\n\n{generate.catalogue()}\n## More\n"
    assert generate.with_tables(page.replace("flipped", "turned")) == page


def test_every_cause_is_explained() -> None:
    """The page of the causes has each identifier of the catalogue, and each key of a finding in the JSON."""
    assert first_column(table("causes.md", "<!-- catalogue -->")) == list(CAUSES)
    explained = set(re.findall(r"`(\w+)`", table("causes.md", "## What a finding is")))
    keys = set(SCHEMA["$defs"]["finding"]["properties"])
    assert keys - explained == {"status", "subjects", "message", "where", "replay", "traceback"}  # as in results


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_pages_are_legal(page: str) -> None:
    """Every command in a page has an existing subcommand, and legal options and values."""
    program: Any = typer.main.get_command(app)
    for text in blocks(page, "sh", "console", "yaml"):
        for line in generate.commands(text):
            name, *arguments = generate.shlex.split(line)
            assert name in program.commands, f"{page}: {line}"
            program.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES)
def test_options_of_pytest_in_the_pages_exist(page: str) -> None:
    """Every long option of pytest in a page is one of the plugin or on a short list."""
    for text in blocks(page, "sh"):
        for line in text.splitlines():
            if " pytest " in line:
                options = set(re.findall(r" --([\w-]+)", line)) - {"require-cuda"}
                assert options <= {*OPTIONS, *_OF_PYTEST}, f"{page}: {line}"


def test_environments_of_the_pages_exist() -> None:
    """Every environment in a page exists in tox.ini, and the page for contributors lists all of them."""
    tox = ConfigParser(interpolation=None)
    tox.read(CHECKOUT / "tox.ini", encoding="utf-8")
    environments = {section.partition(":")[2] for section in tox.sections()} - {""}
    for page in PAGES.values():
        assert set(re.findall(r"tox run (?:-\w )*-e ([a-z]+)", page)) <= environments
    assert set(first_column(table("contributing.md", "<!-- environments -->"))) == environments
    assert (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8").count("python -m tox run") == 1


@pytest.mark.parametrize("page", PAGES)
def test_files_in_the_pages_can_be_read(page: str, tmp_path: Path) -> None:
    """Python files compile, tables of the program are legal, and other tables are valid TOML."""
    for text in blocks(page, "py"):
        compile(text, page, "exec")
    for number, text in enumerate(blocks(page, "toml")):
        document = tomllib.loads(text)
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / "pyproject.toml").write_text(text, encoding="utf-8")
        if "toeplitz_core" in document.get("tool", {}):
            assert read_table(directory)
        if "failure" in document:
            assert KnownFailures.load(directory / "pyproject.toml", laws=LAWS).entries


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    """Every link and image outside of the web leads to an existing file (mkdocs checks the anchors)."""
    folder = next(path.parent for path in generate.PAGES if path.name == page)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", PAGES[page])
    assert [t for t in targets if "://" not in t and not (folder / t).is_file()] == []


def test_tables_leave_nothing_out() -> None:
    """Statuses, recipes, attributes of conditions, keys of known failures and folders are all explained."""
    assert set(first_column(table("report.md", "## The statuses"))) == set(Status)
    assert set(first_column(table("numerics.md", "## Data"))) == set(RECIPES)
    assert set(first_column(table("ci.md", "<!-- attributes of a case -->"))) == set(ATTRIBUTES)
    assert set(first_column(table("ci.md", "<!-- attributes of a call -->"))) == set(CALL_ATTRIBUTES)
    (failure,) = tomllib.loads(next(text for text in blocks("ci.md", "toml") if "[[failure]]" in text))["failure"]
    assert set(first_column(table("ci.md", "## Known failures"))) == set(failure)
    tree = next(block.text for block in generate.blocks(PAGES["architecture.md"]))
    package = CHECKOUT / "toeplitz_core" / "testing"
    folders = {path.name for path in package.iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert set(re.findall(r"^    (\w+)/ ", tree, flags=re.MULTILINE)) == folders


def test_statistics_of_the_page_are_of_events_that_there_are() -> None:
    """The excerpt of Hypothesis's statistics has each kind of event, with the labels of the search."""
    found = re.findall(r"^ *\* [\d.]+%, (\w+): (.+)$", PAGES["kernels.md"], flags=re.MULTILINE)
    legal = {"status": set(Status), "data": set(RECIPES), "region": set(REGIONS)}
    assert {kind for kind, _ in found} == {*legal, "kernel", "regime"}
    assert [label for kind, label in found if label not in legal.get(kind, {label})] == []


def test_arrays_of_the_page_pass() -> None:
    """The kernel on arrays in kernels.md passes a short check."""
    code = next(text for text in blocks("kernels.md", "py") if text.startswith("# arrays.py"))
    command = "toeplitz-core check arrays:conv2d --law forward-exact --dtype float32 --device cpu --examples 10"
    page = f"```py\n{code}```\n```console\n$ {command}\n$ echo $?\n```\n"
    assert list(generate.printed(page, "page"))[-1].text == "0\n"


def test_decorated_test_of_the_page_finds_the_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test file in kernels.md fails on its kernel, with a case and the command that replays it."""
    for block in generate.blocks(PAGES["kernels.md"]):
        if block.language == "py":
            (tmp_path / str(block.file_name)).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "test_kernels", raising=False)
    decorated = importlib.import_module("test_kernels").test_conv2d
    (law,) = (p.values[0] for p in decorated.pytestmark[0].args[1] if p.id == "forward-exact-float32-cpu")
    # Its result is none of this session.
    monkeypatch.setattr("toeplitz_core.testing.decorator._running_test", lambda: None)
    with pytest.raises(pytest.fail.Exception, match=r"replay .* --subject kernels:conv2d"):
        decorated(law)
