"""The file of a list of known failures: what an update changes, and what it keeps."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch

from tests.helpers.known_failures import ENTRY, failing, result
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.known_failures.known_file import KnownFile
from toeplitz_core.testing.laws.verdict import Status

pytest.importorskip("tomlkit", reason="not run: tomlkit, which --write-known needs, is not installed")


def test_adopted_failure_is_known(tmp_path: Path):
    """An adopted entry can be written and loaded again, and matches its failure."""
    path = tmp_path / "known.toml"
    found = failing(status=Status.CRASH).replace(message='a "quote", \x1b, \x7f, \\, \n and ⊗')
    known = KnownFailures().adopt([result(found, "torch-channels-last")], "2030-01-02")
    KnownFile(path).update(known)
    again = KnownFailures.load(path)
    assert [str(entry) for entry in again.entries] == [str(entry) for entry in known.entries]
    entry = again.match("torch-channels-last", found)
    assert entry is not None
    assert entry.reason == f"adopted on 2030-01-02: {found.message}"
    assert entry.status is Status.CRASH
    assert dict(entry.versions) == {"torch": f"=={torch.__version__.partition('+')[0]}"}
    assert entry.applies
    for subject in ("mine", "torch.nn.functional:conv2d"):  # not named after an installed package
        assert KnownFailures().adopt([result(found, subject)], "2030-01-02").entries[0].versions == ()
    assert "\nversions = { torch = " in path.read_text(encoding="utf-8")
    assert "[[failure]]\nname = " in path.read_text(encoding="utf-8")


def test_adopting_adds_what_is_lacking(tmp_path: Path):
    """An existing file keeps its text and comments, and gets only entries for failures that none matches yet."""
    path = tmp_path / "known.toml"
    path.write_text(f"# Mine.\n{ENTRY}", encoding="utf-8")
    file = KnownFile(path)
    known = file.known
    assert known.adopt([result(failing())], "2030-01-02") == known
    other = failing("input=1x1x1x1 weight=1x1x1x1 bias")
    grown = known.adopt(
        [result(failing()), result(other), result(other)], "2030-01-02", ["mine-forward-exact-float32-1"]
    )
    assert len(grown.entries) == 2
    for _ in range(2):  # the second time there is nothing to add
        file.update(grown)
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# Mine.\n{ENTRY}\n[[failure]]\n")
        assert len(tomllib.loads(text)["failure"]) == 2
    matched = KnownFailures.load(path).match("mine", other)
    assert matched is not None
    assert matched.name == "mine-forward-exact-float32-2"  # another list has the first name


def test_nothing_to_adopt(tmp_path: Path):
    """Without failures, the written list is empty and can be loaded."""
    path = tmp_path / "known.toml"
    passing = result(failing(status=Status.PASS))
    KnownFile(path).update(KnownFailures().adopt([passing], "2030-01-02"))
    assert KnownFailures.load(path) == KnownFailures()


def entry(name: str, comment: str = "") -> str:
    """The text of an entry with a name, below a comment."""
    return comment + ENTRY.strip().replace("no-groups", name) + "\n"


# The second entry ends with a table, a comment after a key and one below it; the third has single quotes.
HEAD = "# The failures of mine.\n"
FIRST = entry("first", "# About the first.\n")
SECOND = (
    entry("second", "# About\n# the second.\n") + "[failure.versions]\ntorch = '>=2'   # as tested\n# At its end.\n"
)
THIRD = entry("third", "# About the third.\n").replace('"mine"', "'mine'")


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ("first", f"{HEAD}\n{SECOND}\n\n{THIRD}# The end.\n"),
        ("second", f"{HEAD}\n{FIRST}\n{THIRD}# The end.\n"),
        ("third", f"{HEAD}\n{FIRST}\n{SECOND}\n\n# The end.\n"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_an_entry_is_removed_with_its_comment(tmp_path: Path, gone: str, left: str, end: str):
    """A removed entry takes the comment right above it along; everything else stays as it is, to the byte."""
    path = tmp_path / "known.toml"
    text = f"{HEAD}\n{FIRST}\n{SECOND}\n\n{THIRD}# The end.\n"
    path.write_bytes(text.replace("\n", end).encode())
    file = KnownFile(path)
    file.update(KnownFailures(tuple(each for each in file.known.entries if each.name != gone)))
    found = path.read_bytes().decode()
    assert found == left.replace("\n", end)
    assert [each.name for each in KnownFile(path).known.entries] == [
        n for n in ("first", "second", "third") if n != gone
    ]


def test_the_comment_at_the_top_stays(tmp_path: Path):
    """A comment at the top is about the file, also with no blank line below it; an empty list can be extended again."""
    path = tmp_path / "known.toml"
    path.write_text(HEAD + entry("only"), encoding="utf-8")
    file = KnownFile(path)
    known = file.known
    file.update(KnownFailures())
    assert path.read_text(encoding="utf-8") == HEAD
    file.update(known)
    assert path.read_text(encoding="utf-8").startswith(f'{HEAD}\n[[failure]]\nname = "only"\n')


def test_what_was_changed_meanwhile_is_kept(tmp_path: Path):
    """An entry or a reason that somebody wrote during the run is kept."""
    path = tmp_path / "known.toml"
    path.write_text(f"{FIRST}\n{THIRD}", encoding="utf-8")
    file = KnownFile(path)
    changed = f"{FIRST.replace('It takes', 'IT TAKES')}\n{SECOND}\n{THIRD}"
    path.write_text(changed, encoding="utf-8")
    file.update(KnownFailures(file.known.entries[:1]))
    assert path.read_text(encoding="utf-8") == changed.replace(f"\n{THIRD}", "")


EXAMPLE = "input=1x1x1x1 weight=1x1x1x1 bias"
INLINE = f'failure = [{{subject="b", law="forward-exact", condition="bias", example="{EXAMPLE}", reason="c"}}]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("failure = [", "known.toml: "),
        (ENTRY.replace("reason", "raison"), "known.toml: failure 1: unknown key 'raison'"),
        (ENTRY.replace("forward-exact", "forward"), "known.toml: failure 1: law='forward': did you mean "),
        ("[other]\n", "known.toml: unknown key 'other'"),
        (
            INLINE,
            "known.toml: failure must be tables, [[failure]], so that the file can be updated",
        ),
    ],
)
def test_a_file_that_is_no_list(tmp_path: Path, text: str, said: str):
    """A file that is no valid list, or that cannot be updated in place, is an error and stays as it is."""
    path = tmp_path / "known.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is compared below
        KnownFile(path)
    assert said in str(caught.value)
    assert path.read_text(encoding="utf-8") == text
