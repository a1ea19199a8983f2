"""Run the command line with ``python -m toeplitz_core``, also from a checkout that is not installed."""

import sys

try:
    from toeplitz_core.testing.cli import main
except ModuleNotFoundError as error:
    if (error.name or "").startswith("toeplitz_core"):
        raise
    sys.exit(f"The command line needs {error.name}: python -m pip install 'toeplitz-core[testing]'")

if __name__ == "__main__":
    main()
