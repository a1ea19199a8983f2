"""The frame of a script: its head, its imports, and its end."""

from __future__ import annotations

from collections.abc import Sequence

from toeplitz_core.testing.findings.reproducer import parts
from toeplitz_core.testing.findings.reproducer.literals import PACKED
from toeplitz_core.testing.findings.reproducer.targets import Target

# Seconds after which a call counts as one that does not return.
_TIMEOUT = 10
# The cache of each thread would return small blocks of memory without filling them.
_TUNABLE = "glibc.malloc.tcache_count=0"
_RESTART = f"""
if {_TUNABLE!r} not in os.environ.get("GLIBC_TUNABLES", ""):  # read when a process starts
    os.environ["GLIBC_TUNABLES"] = {_TUNABLE!r}
    os.execv(sys.executable, [sys.executable, *sys.argv])
"""


def assembled(
    *,
    title: str,
    case: str,
    target: Target,
    constants: Sequence[str],
    helpers: Sequence[str],
    body: Sequence[str],
    test: str,
    apart: bool = False,
    memory: bool = False,
) -> str:
    """The script, from its parts.

    Parameters
    ----------
    title, case : str
        What the script shows, and the line of the case or call.
    target : Target
    constants : sequence of str
        Lines before the helpers.
    helpers : sequence of str
        Definitions of functions.
    body : sequence of str
        The operands and what is expected.
    test : str
        The definition of ``wrong``.
    apart : bool
        Whether the test needs a process of its own.
    memory : bool
        Whether the result depends on what memory held.
    """
    text = "\n".join((*helpers, *body, test, *target.imports, target.definition))
    modules = {
        "base64": PACKED in helpers,
        "ctypes": memory or parts.GUARDED in helpers,
        "itertools": "itertools." in text,
        "mmap": parts.GUARDED in helpers,
        "multiprocessing": apart,
        "os": "os." in text or bool(target.variables) or memory,
        "sys": True,
        "zlib": PACKED in helpers,
    }
    names = [name for name in ("inf", "nan") if name in _words(text)]
    head = [
        f'"""{_plain(title)}',
        "",
        f"The case: {_plain(case)}",
        "",
        "Exits with 1 while the bug exists, with 0 when it is mended, and with 2 if the script cannot run.",
        '"""',
        "",
        *(f"import {name}" for name, needed in modules.items() if needed),
        *([f"from math import {', '.join(names)}"] if names else []),
        "",
    ]
    if memory:
        head += _RESTART.strip("\n").splitlines()
    head += [f"os.environ[{name!r}] = {value!r}  # read at an import" for name, value in target.variables]
    imports = ["try:", *(f"    {line}" for line in target.imports), "except ImportError as error:"]
    imports += ['    print(f"cannot run: {error}")', "    sys.exit(2)", ""]
    ends = parts.MAIN_WITH_MEMORY if memory else parts.MAIN
    called = ["conv2d(x, weight, bias, STRIDE, PADDING, DILATION, GROUPS)"]
    call = ""
    if "call(" in test:
        if target.contexts:
            inner = f"    with {', '.join(target.contexts)}:\n        return {called[0]}"
        else:
            inner = f"    return {called[0]}"
        call = f'\ndef call(x, weight, bias):\n    """The call under test."""\n{inner}\n'
    functions = [*helpers, call, test, *[parts.MEMORY] * memory, *[parts.APART] * apart, ends]
    last = "sys.exit(apart(main))" if apart else "main()"
    chunks = [
        "\n".join((*head, *imports)).rstrip(),
        target.definition.strip("\n"),
        "\n".join((*constants, *[f"TIMEOUT = {_TIMEOUT}"] * apart)),
        *(function.strip("\n") for function in functions[: len(helpers)] if function),
        "\n".join(body),
        *(function.strip("\n") for function in functions[len(helpers) :] if function),
        f'if __name__ == "__main__":\n    {last}',
    ]
    return "\n\n\n".join(chunk for chunk in chunks if chunk) + "\n"


def _words(text: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())


def _plain(text: str) -> str:
    """Text that can stand in a docstring."""
    return text.replace("\\", "\\\\").replace('"""', "'''")
