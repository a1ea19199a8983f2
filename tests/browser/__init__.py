"""Tests of the page in a browser: ``python -m tox run -e browser``."""
