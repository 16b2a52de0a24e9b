#!/usr/bin/python3
"""Write the credential of a child of gatewayd as an environment file, and its PEM parts as files.

    credential-environment CREDENTIAL DIRECTORY

For programs that take ${CHILD_HOST} and the like in their configuration, as Telegraf and Node-RED
do.  Exit status 1: there is no credential now.
"""

import json
import sys
from pathlib import Path

TEXTS = ("host", "port", "address", "client_id", "user", "password")
FILES = ("ca", "certificate", "key")


def quoted(value: object) -> str:
    """Return a value as EnvironmentFile= of systemd.exec(5) reads it."""
    text = str(value)
    for mark in ("\\", '"', "$", "`"):
        text = text.replace(mark, f"\\{mark}")
    return f'"{text}"'


def main(credential: Path, directory: Path) -> int:
    text = credential.read_text()
    if not text:
        sys.stderr.write("The child is not handed over now; gatewayctl explain says why.\n")
        return 1
    child = json.loads(text)
    values = {name: child[name] for name in TEXTS}
    values |= {f"topic_{name}": topic for name, topic in child["topics"].items()}
    for name in FILES:
        path = directory / f"{name}.pem"
        path.write_text(child[name])
        values[f"{name}_file"] = path if child[name] else ""
    lines = [f"CHILD_{name.upper()}={quoted(value)}\n" for name, value in values.items()]
    (directory / "environment").write_text("".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
