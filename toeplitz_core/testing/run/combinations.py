"""Which options can be combined."""

from __future__ import annotations

import os
from typing import Any

from toeplitz_core.testing.support.places import LOCAL

# The options of a search, which a sweep does not use. pyproject.toml may have them: they apply to other runs.
OF_A_SEARCH = ("profile", "examples", "seed", "time")
# The options that name a file to write.
_FILES = ("write_known", "write_baseline", "markdown", "html", "json", "junit")


def check_together(options: Any) -> None:
    """Check options, each of which is legal alone.

    Raises
    ------
    ValueError
        If two cannot be combined; the message has both and the reason.
    """
    files = {name: getattr(options, name) for name in _FILES}
    for name in ("write_baseline", "markdown", "html"):
        if getattr(options, name) == "-":
            raise ValueError(f"{name.replace('_', '-')}='-' must be a file")
    if options.baseline is not None:
        files |= {"baseline": options.baseline} if options.write_baseline is None else {}
    taken: dict[str, str] = {}
    for name, path in files.items():
        if path not in (None, "-") and (other := taken.setdefault(os.path.realpath(path), name)) != name:
            raise ValueError(f"{name}={path!r} is also the file of {other}: each needs its own")
    if options.fail_stale and not options.known:
        raise ValueError("fail-stale needs known=FILE")
    if options.inline and options.processes > 1:
        raise ValueError(f"jobs={options.jobs} needs separate processes, so it cannot be combined with inline")
    if options.executor != LOCAL and options.inline:
        raise ValueError(f"executor={options.executor} judges elsewhere, so it cannot be combined with inline")
    # The conditions of known failures are made from shrunk cases.
    reasons = {**dict.fromkeys(OF_A_SEARCH, "checks every convolution"), "write_known": "does not shrink failures"}
    for key, reason in reasons.items():
        if options.sweep is not None and getattr(options, key) is not None:
            raise ValueError(f"sweep={options.sweep} {reason}, so it cannot be combined with {key.replace('_', '-')}")
