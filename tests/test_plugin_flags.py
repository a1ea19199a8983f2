"""Flags on pytest's command line that pyproject.toml also sets."""

from __future__ import annotations

import pytest

from toeplitz_core.testing import plugin
from toeplitz_core.testing.run.options import OPTIONS

pytest_plugins = ["pytester"]

LOAD = ("-p", "toeplitz_core.testing.plugin", "-p", "no:cacheprovider")


@pytest.mark.parametrize(
    "key", [option.key for option in OPTIONS.values() if option.kind is bool and not option.pytest]
)
def test_a_flag_of_the_table_can_be_switched_off(pytester: pytest.Pytester, key: str):
    """``--no-`` before the name of a flag overrides the table."""
    name = key.replace("_", "-")
    flag = "toeplitz-strict" if name == "strict" else name  # pytest has a --strict of its own
    pytester.makefile(".toml", known="", pyproject=f"[tool.toeplitz_core]\nknown = 'known.toml'\n{name} = true\n")

    def value(*options: str) -> object:
        return getattr(pytester.parseconfigure(*LOAD, *options).stash[plugin.SESSION].options, key)

    assert value() is True
    assert value(f"--no-{flag}") is False


def test_a_flag_that_is_not_for_pytest_has_no_other_form_either(pytester: pytest.Pytester):
    """``--no-fail-fast`` is refused, as ``--fail-fast`` is."""
    with pytest.raises(pytest.UsageError, match="--fail-fast is not for pytest: use -x"):
        pytester.parseconfigure(*LOAD, "--no-fail-fast")


def test_a_flag_whose_other_form_is_taken_has_a_longer_name(pytester: pytest.Pytester):
    """If another plugin has ``--no-inline``, both forms are called after this package."""
    pytester.makepyfile(other="def pytest_addoption(parser): parser.addoption('--no-inline', action='store_true')")
    pytester.syspathinsert()
    config = pytester.parseconfigure("-p", "other", *LOAD, "--no-inline", "--toeplitz-inline")
    assert config.stash[plugin.SESSION].options.inline
