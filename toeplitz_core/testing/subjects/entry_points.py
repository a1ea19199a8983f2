"""Subjects that installed packages provide, by entry points in the group ``toeplitz_core.subjects``."""

from __future__ import annotations

import functools
import re
from importlib.metadata import EntryPoint, entry_points

from toeplitz_core.testing.subjects.registry import SUBJECTS
from toeplitz_core.testing.support.modules import find_spec, look_here

# The group of entry points in which an installed package names its subjects.
ENTRY_POINTS = "toeplitz_core.subjects"


@functools.cache
def _entries() -> dict[str, list[EntryPoint]]:
    """The entry points by name; identical entries of several packages appear once."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        same = found.setdefault(entry.name, [])
        if entry.value not in [other.value for other in same]:
            same.append(entry)
    return found


def plugged_in() -> dict[str, EntryPoint]:
    """The usable entry points by name. Names of our own subjects and ambiguous names are left out."""
    return {name: same[0] for name, same in _entries().items() if name not in SUBJECTS and len(same) == 1}


def passed_over() -> dict[str, str]:
    """The unusable names that packages define, with the reason and what to write instead."""
    why = {}
    for name, same in _entries().items():
        listed = " and ".join(map(described_entry, same))
        if name in SUBJECTS:
            why[name] = f"a subject of toeplitz-core and does not select {listed}; write module:callable instead"
        elif len(same) > 1:
            why[name] = f"ambiguous, because packages define it differently: {listed}; write module:callable instead"
    return why


def described_entry(entry: EntryPoint) -> str:
    """The object that an entry point names, and the package that defines it."""
    return f"{entry.value}, from {f'package {entry.dist.name}' if entry.dist else 'an unknown package'}"


def dangling(entry: EntryPoint) -> str:
    """Why an entry point cannot work, checked without an import; empty if it may work."""
    look_here()
    module, attribute = target(entry)
    if not module or not attribute:
        return "not of the form module:callable"
    return "" if find_spec(module) is not None else f"no module '{module}'"


def target(entry: EntryPoint) -> tuple[str, str]:
    """Module and attribute of an entry point, empty if missing; ``EntryPoint``'s own properties would raise."""
    module, _, attribute = re.sub(r"\[.*\]\s*$", "", entry.value).partition(":")
    return module.strip(), attribute.strip()
