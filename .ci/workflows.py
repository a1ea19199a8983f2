"""Check the workflows on a page, and those of this repository, against their published schemas.

Usage: python workflows.py PAGE WORKFLOW ...
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

# What only files of this kind have, and the name of their schema in check-jsonschema.
SCHEMAS = {"runs-on:": "vendor.github-workflows", "artifacts:": "vendor.gitlab-ci"}


def main(page: Path, *workflows: Path) -> None:
    """Check the blocks of a page and the files. Exit with 1 at the first one that breaks its schema."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    found = [(text, schema) for text in blocks for word, schema in SCHEMAS.items() if word in text]
    if {schema for _, schema in found} != set(SCHEMAS.values()):
        sys.exit(f"{page}: has no block for some of {', '.join(SCHEMAS.values())}")
    for workflow in workflows:
        check(workflow, "vendor.github-workflows")
    with tempfile.TemporaryDirectory() as directory:
        for number, (text, schema) in enumerate(found, start=1):
            path = Path(directory) / f"{page.stem}-{number}.yml"
            path.write_text(text, encoding="utf-8")
            check(path, schema)


def check(path: Path, schema: str) -> None:
    """Check one file against a schema that check-jsonschema has."""
    done = subprocess.run(["check-jsonschema", "--builtin-schema", schema, str(path)], check=False)
    if done.returncode:
        sys.exit(1)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
