"""Checks a built wheel and sdist: their contents, and that the wheel works where there is no checkout.

Usage: python package.py DIRECTORY TORCH, with the directory that holds one of each and a pip requirement for torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

# Run by the installed package's interpreter, isolated (-I) and from an empty directory.
SMOKE = """
import importlib.metadata, pathlib, sysconfig, torch, toeplitz_core as tc
assert pathlib.Path(tc.__file__).is_relative_to(sysconfig.get_path("purelib")), tc.__file__
assert importlib.metadata.version("toeplitz-core") == tc.__version__
weight, image = torch.arange(8.0).view(2, 1, 2, 2), torch.arange(9.0).view(1, 3, 3)
T = tc.toeplitz_matrix(weight, (3, 3))
assert torch.equal(T @ image.flatten(), torch.nn.functional.conv2d(image, weight).flatten())
print("toeplitz-core", tc.__version__, "works from", tc.__file__, "with torch", torch.__version__)
"""

# An implementation of somebody's, in a file beside no project.
KERNELS = """
import torch


def conv2d(*args):
    return torch.conv2d(*args)
"""
# As few cases as show that a command works.
FEW = ("--examples=3", "--law=forward-exact", "--dtype=float32", "--device=cpu")
SUITE = ("-p", "toeplitz_core.testing.plugin", "--pyargs", "toeplitz_core.testing.suite")


def main(directory: Path, torch: str) -> None:
    """Check the one wheel and the one sdist in a directory; raises at the first thing that is wrong."""
    (wheel,), (sdist,) = directory.glob("*.whl"), directory.glob("*.tar.gz")
    check_wheel(wheel)
    check_sdist(sdist)
    check_installed(wheel, torch)


def check_wheel(wheel: Path) -> None:
    """The package with its marker for type checkers, the licence, and nothing beside."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    require(all(top == "toeplitz_core" or top.endswith(".dist-info") for top in tops), f"{wheel.name} holds {tops}")
    for wanted in ("py.typed", "testing/cli.py", "testing/suite.py", "testing/reports/schema.json"):
        require(f"toeplitz_core/{wanted}" in names, f"{wheel.name} lacks toeplitz_core/{wanted}")
    require(any(name.endswith("licenses/LICENSE") for name in names), f"{wheel.name} lacks the licence")


def check_sdist(sdist: Path) -> None:
    """All that is needed to run the tests from it."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "LICENSE", "README.md", "CHANGELOG.md", "conftest.py", "pyproject.toml", "tox.ini",
        "toeplitz_core/py.typed", "tests/data/model_layers.tsv", "tests/test_docs.py",
    }  # fmt: skip
    require(wanted <= names, f"{sdist.name} lacks {sorted(wanted - names)}")


def check_installed(wheel: Path, torch: str) -> None:
    """The wheel in this environment, with the requirements that it states and the torch that was asked for."""
    with tempfile.TemporaryDirectory() as nowhere:
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, f"{wheel.resolve()}[testing]", torch], cwd=nowhere, check=True)
        subprocess.run([*pip, "--no-deps", "--force-reinstall", wheel.resolve()], cwd=nowhere, check=True)
        subprocess.run([sys.executable, "-I", "-c", SMOKE], cwd=nowhere, check=True)
        script = Path(sys.executable).with_name("toeplitz-core.exe" if os.name == "nt" else "toeplitz-core")
        subprocess.run([script, "--version"], cwd=nowhere, check=True)
        subprocess.run([sys.executable, "-I", "-m", "toeplitz_core", "--version"], cwd=nowhere, check=True)
        check_suite(Path(nowhere), script)


def check_suite(nowhere: Path, script: Path) -> None:
    """The laws by pytest in an empty directory, in one process and in two, and by the console script on a lone file."""
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TOEPLITZ_SUBJECT")}
    for processes in ((), ("-n", "2")):
        subprocess.run([*pytest, *SUITE, "--subject=torch", *FEW, *processes], cwd=nowhere, env=environment, check=True)
    (nowhere / "kernels.py").write_text(KERNELS, encoding="utf-8")
    subprocess.run([script, "check", "kernels:conv2d", *FEW], cwd=nowhere, env=environment, check=True)


def require(condition: bool, message: str) -> None:
    """Stop with a message unless a condition holds."""
    if not condition:
        raise SystemExit(f"package: {message}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
