"""The command line: ``toeplitz-core``, or ``python -m toeplitz_core`` from a checkout that is not installed."""

import atexit
import os
import sys

from toeplitz_core.testing.support.modules import without

# The commands that always call a subject.
_CALLING = ("check", "replay", "export")


def main() -> None:
    """Entry point of the command line."""
    try:
        if sys.argv[1:2] and sys.argv[1] in _CALLING and not {"--help", "--inline"}.intersection(sys.argv):
            _fork_early()
        from toeplitz_core.testing import cli  # noqa: PLC0415  # after the fork
    except ModuleNotFoundError as error:
        sys.exit(without(error))
    try:
        cli.main()
    except SystemExit as end:
        _leave(end)
        raise


def _fork_early() -> None:
    """Fork the process that starts workers while this one has imported torch, and not yet what workers must not have.

    torch is then imported once, and not again in a new process.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded; see fork_server.DEFAULTS
        from toeplitz_core.testing.isolation import fork_server  # noqa: PLC0415  # it imports torch

        fork_server.fork_early()


def _leave(end: SystemExit) -> None:
    """End this process without Python's teardown, which takes half a second with torch; return if that cannot be."""
    if end.code is None or isinstance(end.code, int):
        atexit._run_exitfuncs()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):  # Python reports it
            return
        os._exit(end.code or 0)


if __name__ == "__main__":
    main()
