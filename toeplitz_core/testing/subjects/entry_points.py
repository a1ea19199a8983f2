"""The subjects that installed packages bring, by entry points of the group ``toeplitz_core.subjects``."""

from __future__ import annotations

import functools
import re
from importlib.metadata import EntryPoint, entry_points

from toeplitz_core.testing.subjects.registry import SUBJECTS
from toeplitz_core.testing.support.modules import find_spec, look_here

# The group of entry points with which an installed package gives its subjects a name.
ENTRY_POINTS = "toeplitz_core.subjects"


@functools.cache
def _entries() -> dict[str, list[EntryPoint]]:
    """By their names; what several packages say alike once."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        same = found.setdefault(entry.name, [])
        if entry.value not in [other.value for other in same]:
            same.append(entry)
    return found


def plugged_in() -> dict[str, EntryPoint]:
    """Those that their names mean. A name of ours stays ours, and one that two packages give means neither."""
    return {name: same[0] for name, same in _entries().items() if name not in SUBJECTS and len(same) == 1}


def passed_over() -> dict[str, str]:
    """For each name that does not mean what a package wants it to, why not, and what to write instead."""
    why = {}
    for name, same in _entries().items():
        listed = " and ".join(map(described_entry, same))
        if name in SUBJECTS:
            why[name] = f"toeplitz-core's own, and not {listed}: write that instead of the name"
        elif len(same) > 1:
            why[name] = f"both {listed}: write the one you mean instead of the name"
    return why


def described_entry(entry: EntryPoint) -> str:
    """What it means, and which distribution says so."""
    return f"{entry.value}, of {entry.dist.name if entry.dist else 'an unknown package'}"


def dangling(entry: EntryPoint) -> str:
    """Why it means nothing, as far as that can be seen without an import; empty if it may mean something."""
    look_here()
    module, attribute = target(entry)
    if not module or not attribute:
        return "not of the form module:callable"
    return "" if find_spec(module) is not None else f"no module '{module}'"


def target(entry: EntryPoint) -> tuple[str, str]:
    """Module and attribute; empty where the value has none. Its own properties raise where it is malformed."""
    module, _, attribute = re.sub(r"\[.*\]\s*$", "", entry.value).partition(":")
    return module.strip(), attribute.strip()
