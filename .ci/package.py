"""Check the contents of a wheel and an sdist, that the wheel works without a checkout, and the type annotations.

Usage: python package.py DIRECTORY TORCH [ENVIRONMENT]. DIRECTORY has one wheel and one sdist; TORCH is a pip
requirement for torch. If there is a virtual environment ENVIRONMENT, its torch is used if it meets the requirement.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

# Run by the interpreter of the installed package, isolated (-I), in an empty directory.
SMOKE = """
import importlib.metadata, pathlib, sysconfig, torch, toeplitz_core as tc
assert pathlib.Path(tc.__file__).is_relative_to(sysconfig.get_path("purelib")), tc.__file__
assert importlib.metadata.version("toeplitz-core") == tc.__version__
weight, image = torch.arange(8.0).view(2, 1, 2, 2), torch.arange(9.0).view(1, 3, 3)
T = tc.toeplitz_matrix(weight, (3, 3))
assert torch.equal(T @ image.flatten(), torch.nn.functional.conv2d(image, weight).flatten())
print("toeplitz-core", tc.__version__, "works from", tc.__file__, "with torch", torch.__version__)
"""

# A user's kernel, in a file outside of any project.
KERNELS = """
import torch


def conv2d(*args):
    return torch.conv2d(*args)
"""
# A few cases are enough to show that a command works.
FEW = ("--examples=3", "--law=forward-exact", "--dtype=float32", "--device=cpu")
SUITE = ("-p", "toeplitz_core.testing.plugin", "--pyargs", "toeplitz_core.testing.suite")


def main(directory: Path, torch: str, environment: Path | None) -> None:
    """Check the wheel and the sdist in a directory. Exit at the first fault."""
    (wheel,), (sdist,) = directory.glob("*.whl"), directory.glob("*.tar.gz")
    check_wheel(wheel)
    check_sdist(sdist)
    if environment is not None:
        take_torch(environment)
    check_installed(wheel, torch)


def check_wheel(wheel: Path) -> None:
    """Check that the wheel has the package, its ``py.typed`` and the licence, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    require(all(top == "toeplitz_core" or top.endswith(".dist-info") for top in tops), f"{wheel.name} contains {tops}")
    for wanted in (
        "py.typed",
        "testing/cli.py",
        "testing/suite.py",
        "testing/reports/schema.json",
        "testing/reports/page/templates/page.html",
        "testing/reports/page/templates/style.css",
        "testing/reports/page/templates/page.js",
        "testing/corpus/known_torch.toml",
    ):
        require(f"toeplitz_core/{wanted}" in names, f"{wheel.name} lacks toeplitz_core/{wanted}")
    require(any(name.endswith("licenses/LICENSE") for name in names), f"{wheel.name} lacks the licence")


def check_sdist(sdist: Path) -> None:
    """Check that the sdist has the files that the tests need."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "LICENSE", "README.md", "CHANGELOG.md", "conftest.py", "pyproject.toml", "tox.ini",
        "toeplitz_core/py.typed", "tests/data/model_layers.tsv", "tests/test_docs.py",
    }  # fmt: skip
    require(wanted <= names, f"{sdist.name} lacks {sorted(wanted - names)}")


def take_torch(environment: Path) -> None:
    """Link the files of torch, and of what it requires, from another environment: installing them takes longer.

    pip still checks every requirement, and replaces what does not meet it.
    """
    ours = Path(sysconfig.get_path("purelib"))
    theirs = environment / ours.relative_to(sys.prefix)
    installed = {name_of(found.name): found for found in importlib.metadata.distributions(path=[str(theirs)])}
    wanted, seen = ["torch"], set()
    while wanted:
        if (found := installed.get(name := wanted.pop())) is None or name in seen:
            continue
        seen.add(name)
        wanted += [name_of(re.split(r"[^\w.-]", line)[0]) for line in found.requires or () if "extra ==" not in line]
        for file in found.files or ():
            if ".." not in file.parts and (theirs / file).exists() and not (ours / file).exists():
                (ours / file).parent.mkdir(parents=True, exist_ok=True)
                try:
                    (ours / file).hardlink_to(theirs / file)
                except OSError:  # another file system
                    return


def name_of(project: str) -> str:
    """The normalised name of a project."""
    return re.sub(r"[-_.]+", "-", project).lower()


def check_installed(wheel: Path, torch: str) -> None:
    """Install the wheel with its requirements and this torch, and run it; meanwhile check the type annotations."""
    with tempfile.TemporaryDirectory() as nowhere:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
        subprocess.run([*pip, f"{wheel.resolve()}[testing]", torch], cwd=nowhere, check=True)
        subprocess.run([*pip, "--no-deps", "--force-reinstall", wheel.resolve()], cwd=nowhere, check=True)
        subprocess.run([sys.executable, "-I", "-c", SMOKE], cwd=nowhere, check=True)
        script = Path(sys.executable).with_name("toeplitz-core.exe" if os.name == "nt" else "toeplitz-core")
        subprocess.run([script, "--version"], cwd=nowhere, check=True)
        subprocess.run([sys.executable, "-I", "-m", "toeplitz_core", "--version"], cwd=nowhere, check=True)
        # mypy needs the installed torch, and only one core.
        with subprocess.Popen([sys.executable, "-m", "mypy"]) as types:
            check_suite(Path(nowhere), script)
        require(types.returncode == 0, "the type annotations are wrong")


def check_suite(nowhere: Path, script: Path) -> None:
    """Run the suite with pytest in an empty directory, in one and in two processes; run the script on a user's file."""
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TOEPLITZ_SUBJECT")}
    for processes in ((), ("-n", "2")):
        subprocess.run([*pytest, *SUITE, "--subject=torch", *FEW, *processes], cwd=nowhere, env=environment, check=True)
    (nowhere / "kernels.py").write_text(KERNELS, encoding="utf-8")
    page = nowhere / "page.html"
    subprocess.run([script, "check", "kernels:conv2d", *FEW, "--html", page], cwd=nowhere, env=environment, check=True)
    require("kernels:conv2d" in page.read_text(encoding="utf-8"), "the installed package wrote another page")


def require(condition: bool, message: str) -> None:
    """Exit with a message unless the condition holds."""
    if not condition:
        raise SystemExit(f"package: {message}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) if len(sys.argv) > 3 else None)
