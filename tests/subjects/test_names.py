"""Names of subjects: suggestions for misspelt names, and names that several packages define."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from toeplitz_core.testing import cli
from toeplitz_core.testing.subjects import check_name, entry_points, resolve
from toeplitz_core.testing.support.modules import convolution_names, find_spec, look_here, nearest

SOURCE = """
raise RuntimeError("imported")  # checking a name must not import the module

from torch.nn.functional import conv2d as borrowed_conv

def fast_conv2d(*args): ...
def other(*args): ...
class Convolution: ...
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a user's modules, none of which has been imported."""
    (tmp_path / "my_kernels.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "asks_for.py").write_text("import my_kernles", encoding="utf-8")
    (tmp_path / "my_empty.py").write_text("def f(*args): ...", encoding="utf-8")
    (tmp_path / "half_done.py").write_text("def conv2d(", encoding="utf-8")
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    (tmp_path / "my_package" / "kernels.py").write_text("conv2d = print", encoding="utf-8")
    (tmp_path / "my_numberz.py").touch()
    (tmp_path / "my_folder").mkdir()
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_kernles:conv2d", "No module named 'my_kernles'; nearest: my_kernels"),
        ("my_pakage.kernels:conv2d", "No module named 'my_pakage'; nearest: my_package"),
        ("my_package.kernles:conv2d", "No module named 'my_package.kernles'; nearest: my_package.kernels"),
        ("my_empty.kernels:conv2d", "'my_empty' is not a package"),
        ("qqqqqqqq:conv2d", "No module named 'qqqqqqqq'"),
        ("nofile:conv2d", "No module named 'nofile'"),
        ("asks_for:conv2d", "cannot import asks_for: ModuleNotFoundError: No module named 'my_kernles'"),
        (":conv2d", "subject ':conv2d' must be module:callable, but has no module"),
        ("my_empty:", "subject 'my_empty:' must be module:callable, but has no callable"),
    ],
)
def test_a_module_that_is_not_there(name: str, said: str) -> None:
    """The error lists the nearest existing names, but not if the missing module is one that the module imports."""
    with pytest.raises(ValueError, match=f"{re.escape(said)}$"):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_empty.py:f", "write 'my_empty:f'"),
        ("./my_package/kernels.py:conv2d", "write 'my_package.kernels:conv2d'"),
        ("my_package/kernels:conv2d", "write 'my_package.kernels:conv2d'"),
        ("{here}/my_empty.py:f", "write 'my_empty:f'"),
        ("{here}/elsewhere/mine.py:f", "in the directory {here}/elsewhere, write 'mine:f'"),
        ("../mine.py:f", "in the directory {here}, write 'mine:f'"),
        ("{here}/no.py:f", "there is no {here}/no.py"),
    ],
)
@pytest.mark.skipif(os.sep != "/", reason="a path has slashes")
def test_a_file_in_place_of_a_module(name: str, said: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the name has a path, the error says what to write, and in which directory if it is not this one."""
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "mine.py").write_text("def f(*args): ...", encoding="utf-8")
    if name.startswith(".."):
        (here / "mine.py").touch()
        monkeypatch.chdir(here / "my_folder")
    elif "elsewhere" in name:
        monkeypatch.chdir(here / "my_folder")
    name, said = (text.format(here=here.resolve()) for text in (name, said))
    with pytest.raises(ValueError, match=re.escape(f"subject '{name}' must be module:callable, not a file: {said}")):
        check_name(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_kernels", "'my_kernels' is a module, and a subject is module:callable; did you mean "),
        ("my_kernels", "'my_kernels:borrowed_conv' or 'my_kernels:fast_conv2d' or 'my_kernels:Convolution'? legal: "),
        ("my_kernels.py", "did you mean 'my_kernels:borrowed_conv' or "),
        ("./my_kernels.py", "did you mean 'my_kernels:borrowed_conv' or "),
        ("my_package/kernels.py", "did you mean 'my_package.kernels:conv2d'? legal: "),
        ("my_package.kernels", "did you mean 'my_package.kernels:conv2d'? legal: "),
        ("my_empty", "'my_empty' is a module, and a subject is module:callable; legal: "),
        ("half_done", "'half_done' is a module, and a subject is module:callable; legal: "),
        ("my_kernles", "did you mean 'my_kernels:borrowed_conv'? legal: "),
        ("my_package.conv2d", "did you mean 'my_package:conv2d'? legal: "),
        ("my_folder", "no subject 'my_folder'; legal: "),
        ("torhc", "no subject 'torhc'; did you mean 'torch'? legal: "),
        ("", "no subject ''; legal: "),
    ],
)
def test_a_name_without_a_colon(name: str, said: str) -> None:
    """The name of a module gets suggestions for callables in it, without an import of the module."""
    with pytest.raises(ValueError, match=re.escape(said)):
        check_name(name)


def test_names_of_modules() -> None:
    """Suggestions leave out the standard library; a module's callables are read from its source."""
    assert nearest("numberz") == ["my_numberz"]
    assert find_spec("my_package.kernels") is None  # the directory is not on the path of a console script
    look_here()
    assert find_spec("my_package.kernels") is not None
    assert convolution_names("my_kernels") == ["borrowed_conv", "fast_conv2d", "Convolution"]
    assert (
        convolution_names("math")
        == convolution_names("qqqqqqqq")
        == convolution_names("half_done")
        == convolution_names(".")
        == []
    )


Install = Callable[..., None]


@pytest.fixture
def install(here: Path) -> Iterator[Install]:
    """A function that installs a package with the given entry points in a new folder of the path."""

    def write(package: str, *entries: str) -> None:
        info = here / f"{package}-site" / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
        lines = "\n".join(("[toeplitz_core.subjects]", *entries, ""))
        (info / "entry_points.txt").write_text(lines, encoding="utf-8")
        sys.path.insert(0, str(info.parent))
        entry_points._entries.cache_clear()

    yield write
    entry_points._entries.cache_clear()


def listed() -> list[str]:
    """The lines of ``subjects`` about packages."""
    lines = CliRunner().invoke(cli.app, ["subjects"]).output.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("toeplitz: "))
    return lines[begin + 1 : -1]


def test_a_package_brings_a_subject(install: Install) -> None:
    """An entry point is listed with its object and its package, and can be resolved, also with extras."""
    install("mine", "mine-conv = my_package.kernels:conv2d", "mine-extra = my_package.kernels:conv2d [fast]")
    assert listed() == [
        "mine-conv: my_package.kernels:conv2d, from package mine",
        "mine-extra: my_package.kernels:conv2d [fast], from package mine",
    ]
    assert [resolve(name).name for name in ("mine-conv", "mine-extra")] == ["mine-conv", "mine-extra"]
    with pytest.raises(ValueError, match=r"^no subject 'mine-cnov'; did you mean 'mine-conv'\? legal: .*, mine-conv, "):
        check_name("mine-cnov")


@pytest.mark.parametrize(
    ("value", "why", "said"),
    [
        (
            "my_kernles:conv2d",
            "no module 'my_kernles'",
            ": cannot import my_kernles: ModuleNotFoundError: No module named",
        ),
        ("my_empty:conv2d", "", ": my_empty has no 'conv2d'"),
        ("my_empty", "not of the form module:callable", " must be module:callable, but has no callable"),
        (
            "my kernels:conv2d",
            "no module 'my kernels'",
            ": cannot import my kernels: ModuleNotFoundError: No module named",
        ),
    ],
)
def test_an_entry_point_that_leads_nowhere(install: Install, value: str, why: str, said: str) -> None:
    """The error names the object and the package; the list says if the module is missing."""
    install("mine", f"mine-conv = {value}")
    with pytest.raises(ValueError, match=re.escape(f"subject 'mine-conv' ({value}, from package mine){said}")):
        resolve("mine-conv")
    assert listed() == [f"mine-conv: {value}, from package mine", *[f"    not run: {why}"] * bool(why)]


def test_two_packages_with_one_name(install: Install) -> None:
    """If two packages define a name differently, it selects neither, and the error names both."""
    install("theirs", "mine-conv = my_empty:f", "both = my_empty:f")
    install("mine", "mine-conv = my_package.kernels:conv2d", "both = my_empty:f")
    said = (
        "'mine-conv' is ambiguous, because packages define it differently: my_package.kernels:conv2d, from package "
        "mine and my_empty:f, from package theirs; write module:callable instead"
    )
    assert listed() == ["both: my_empty:f, from package mine", said]
    with pytest.raises(ValueError, match=f"^subject {re.escape(said)}$"):
        resolve("mine-conv")


def test_a_name_of_ours_stays_ours(install: Install) -> None:
    """A package cannot replace one of our own subjects, and ``subjects`` reports the attempt."""
    install("mine", "torch = my_empty:f")
    said = "a subject of toeplitz-core and does not select my_empty:f, from package mine; write module:callable instead"
    assert listed() == [f"'torch' is {said}"]
    assert type(resolve("torch")).__module__ != "my_empty"
    assert check_name("torch") == "torch"
