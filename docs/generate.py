"""Run what the pages show, and write what the program prints into them.

Usage: python docs/generate.py

It writes docs/laws.md, and in README.md and every page the text that follows each command and each example, and the
table after each comment that ``TABLES`` names. Look at the difference before you commit it. tests/test_docs.py fails
where a page is not what this script would write. Blocks of code are, by their language:

``python``
    Executed, in one namespace for each page. A ``text`` block that follows at once is what it prints.
``py``
    A file, with its name in a comment on the first line. The commands of the page find it in their directory.
``diff``
    A change of such a file, for the commands that follow: ``+++`` with its name, lines to take out, lines to put in.
``console``
    Commands after ``$``, each followed by what it prints. ``replay`` is run with ``--inline``, to be fast. A line of
    three dots stands for any lines. ``echo $?`` prints the exit code of the command before it.
``sh``, ``toml``, ``yaml``
    Not executed. Commands are parsed, tables are checked by whatever reads them.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from typer.testing import CliRunner

from toeplitz_core.testing.cli import app
from toeplitz_core.testing.findings.causes.catalogue import CAUSES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LAWS_PAGE = DOCS / "laws.md"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
PROGRAMS = ("python -m toeplitz_core ", "toeplitz-core ")
EXIT_CODE = "echo $?"

_LAWS_HEAD = """\
# The laws

A law is a statement that every correct convolution fulfils. Each law is checked on every subject that has what the law
asks for: a subject without derivatives is checked by no law about derivatives. `T` is the matrix of the convolution,
`T'` its adjoint, `b` the bias, `x` the input.

Most laws use integers whose sums are exact, and compare with `==`. Those with *bound* in their name use real numbers,
and compare with a derived bound. [Numerics](numerics.md) explains both.

`--law NAME` selects a law, and may be repeated. `docs/generate.py` writes this page from what the laws say of
themselves; `python -m toeplitz_core laws --markdown` prints the table.

"""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its language, its lines, and where in the page these begin and end.

    A block in a list is indented; ``text`` is not.
    """

    language: str
    text: str
    indent: str
    start: int
    end: int
    line: int

    @property
    def file_name(self) -> str | None:
        """The name in the comment on the first line, if there is one."""
        found = re.match(r"# ([\w/.-]+\.\w+)\n", self.text)
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Printed:
    """What a block, or one of its commands, prints, and the place in the page that shows it."""

    command: str
    text: str
    start: int
    end: int
    line: int

    def comparable(self, text: str) -> str:
        """A text as far as it is the same everywhere: versions differ, and so do the cases that Hypothesis draws."""
        text = re.sub(r"^(\s*toeplitz-core) .* torch .*$", r"\1", text, flags=re.MULTILINE)
        if " check " not in self.command:
            return text
        text = re.sub(r"\S*/toeplitz-core\S*", "FILE", text)
        return re.sub(r"[-─ ]+", " ", re.sub(r"\d+(\.\d+)?(e[+-]\d+)?%?", "#", text))

    def agrees_with(self, shown: str) -> bool:
        """Whether a page that shows a text, which may be shortened, shows this one."""
        parts = re.split(r"^ *\.\.\.\n", shown, flags=re.MULTILINE)
        pattern = r"(?:.*\n)*?".join(re.escape(self.comparable(part)) for part in parts)
        return re.fullmatch(pattern, self.comparable(self.text)) is not None


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, indented ones too."""
    found = re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", page, flags=re.DOTALL | re.MULTILINE)
    return [
        Block(m[2], textwrap.dedent(m[3]), m[1], m.start(3), m.end(3), page.count("\n", 0, m.start(3))) for m in found
    ]


def printed(page: str, name: str) -> Iterator[Printed]:
    """Run a page's blocks one after the other: what each prints whose output the page shows."""
    found = blocks(page)
    namespace: dict[str, object] = {"__name__": "__main__"}
    with TemporaryDirectory() as name_of_room, _working_in(room := Path(name_of_room)):
        for block in found:
            # The page's own pyproject.toml would have a say in its commands.
            if block.language in ("py", "toml") and block.file_name not in (None, "pyproject.toml"):
                Path(str(block.file_name)).write_text(block.text, encoding="utf-8")
        for block, following in zip(found, [*found[1:], None], strict=False):
            if block.language == "python":
                text = _executed(block, name, namespace)
                if following is not None and _shows_output_of(page, block, following):
                    yield Printed(f"the block at line {block.line}", text, following.start, following.end, block.line)
            elif block.language == "diff":
                change(room, block.text)
            elif block.language == "console":
                yield from _commands(page, block)


def catalogue() -> str:
    """The table of all causes with their definitions."""
    rows = "".join(f"| `{name}` | {definition} |\n" for name, definition in CAUSES.items())
    return f"| cause | what the subject does |\n|---|---|\n{rows}"


def planted_faults() -> str:
    """The table of planted faults by their true cause, with those whose cause is not named."""
    sys.path.insert(0, str(ROOT))
    from tests.faults.causes import MISSED, PLANTED  # noqa: PLC0415  # the tests are next to the pages, not installed

    rows = ""
    for cause in dict.fromkeys(sorted(planted.cause for planted in PLANTED)):
        of_cause = [planted.name.partition(":")[2] for planted in PLANTED if planted.cause == cause]
        missed = [name for name in of_cause if name in MISSED]
        words = "; ".join(f"`{name}`: {MISSED[name]}" for name in missed)
        rows += f"| `{cause}` | {len(of_cause)} | {len(of_cause) - len(missed)} | {words} |\n"
    named = len(PLANTED) - len(MISSED)
    rows += f"| all | {len(PLANTED)} | {named} ({100 * named / len(PLANTED):.1f}%) | |\n"
    return f"| true cause | faults | named first | missed, and why |\n|---|---|---|---|\n{rows}"


# Tables that stand in a page after a comment with their name.
TABLES: Mapping[str, Callable[[], str]] = {"catalogue": catalogue, "planted faults": planted_faults}


def with_tables(page: str) -> str:
    """The page with the tables of today."""
    for name, table in TABLES.items():
        head, comment, rest = page.partition(f"<!-- {name} -->\n")
        if comment:
            page = f"{head}{comment}\n{table()}" + re.sub(r"\A\n(\|.*\n)+", "", rest)
    return page


def refreshed(page: str, name: str) -> str:
    """The page with the tables and the output of today, where they say anything else."""
    page = with_tables(page)
    for one in reversed(list(printed(page, name))):
        if not one.agrees_with(page[one.start : one.end]):
            page = page[: one.start] + one.text + page[one.end :]
    return page


def laws_page() -> str:
    """The page of the laws."""
    return _LAWS_HEAD + run("laws --markdown").rstrip("\n") + "\n"


def change(room: Path, text: str) -> None:
    """Change a file in a directory as a ``diff`` block says: its lines with ``-`` are replaced by those with ``+``."""
    path = room / re.findall(r"^\+\+\+ (.*)$", text, flags=re.MULTILINE)[0]
    old, new = ("".join(re.findall(rf"^[{sign}](?![{sign}]{{2}})(.*\n)", text, flags=re.MULTILINE)) for sign in "-+")
    before = path.read_text(encoding="utf-8")
    assert before.count(old) == 1, f"{path.name} has not once:\n{old}"
    path.write_text(before.replace(old, new), encoding="utf-8")
    forget_modules(room)


def run(line: str) -> str:
    """What a command of the program prints; ``replay`` in this process, where it takes no second to start."""
    return _invoke(line)[0]


def _invoke(line: str) -> tuple[str, int]:
    """What a command prints, and its exit code."""
    words = shlex.split(line)
    result = CliRunner().invoke(app, [*words, *["--inline"] * (words[0] == "replay")])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output, result.exit_code


def commands(text: str) -> Iterator[str]:
    """The commands of the program in a block, without its name; a backslash at the end continues a line.

    Where some lines begin with ``$``, the others are output.
    """
    lines = text.replace("\\\n", " ").splitlines()
    for line in [shown for shown in lines if shown.lstrip().startswith("$ ")] or lines:
        command = re.sub(r"^\s*(- )?(run: )?(\$ )?(\w+=\S+ )*", "", line)
        for program in PROGRAMS:
            if command.startswith(program):
                yield command.removeprefix(program)


def _shows_output_of(page: str, block: Block, following: Block) -> bool:
    between = page[block.end : following.start]
    return following.language == "text" and between.split() == ["```", "```text"]


def _executed(block: Block, name: str, namespace: dict[str, object]) -> str:
    output = io.StringIO()
    # With as many lines before it as the page has: a traceback then names the page's line.
    code = compile("\n" * block.line + block.text, name, "exec")
    with contextlib.redirect_stdout(output):
        exec(code, namespace)
    return output.getvalue()


def _commands(page: str, block: Block) -> Iterator[Printed]:
    exit_code = 0
    for shown in re.finditer(r"^ *\$ (.*)\n((?:(?! *\$ ).*\n)*)", page[block.start : block.end], flags=re.MULTILINE):
        start, end = (block.start + at for at in shown.span(2))
        if shown[1] == EXIT_CODE:
            text = f"{exit_code}\n"
        else:
            (command,) = commands(f"$ {shown[1]}")
            text, exit_code = _invoke(command)
        yield Printed(shown[1], textwrap.indent(text, block.indent), start, end, block.line)


@contextlib.contextmanager
def _working_in(room: Path) -> Iterator[None]:
    """Within a directory whose modules can be imported, and are forgotten after it."""
    before = list(sys.path)
    with contextlib.chdir(room):
        sys.path.insert(0, str(room))
        try:
            yield
        finally:
            sys.path[:] = before
            forget_modules(room)


def forget_modules(room: Path) -> None:
    """Import the modules of a directory anew: their bytecode too, which is told from newer code by whole seconds."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(room)):
            del sys.modules[name]
    shutil.rmtree(room / "__pycache__", ignore_errors=True)


def main() -> None:
    """Write the pages."""
    LAWS_PAGE.write_text(laws_page(), encoding="utf-8")
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        if (current := refreshed(page, path.name)) != page:
            path.write_text(current, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
