"""gatewayd as it was at an earlier commit, from the history of this repository."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

from gatewayd.settings.former_names import SETTINGS
from tests.support.lacking import give_up

TOP = Path(__file__).parents[2]
COMMIT = "f297b8a"
"""The earliest version whose gateways are upgraded: state.db has schema 2, the vault 3."""
NEEDS = ("python3-systemd",)
"""Packages that it depends on, and this version does not."""


def git(*words: str) -> bytes:
    """Return what git prints of the history of this repository.  Blocks.

    A copy of the files alone has no history, and so no earlier version to upgrade from.
    """
    known = ("git", "-C", str(TOP), "cat-file", "-e", COMMIT)
    try:
        subprocess.run(known, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        give_up(f"no history is here that has {COMMIT}: run git fetch --unshallow")
    return subprocess.run(["git", "-C", TOP, *words], check=True, capture_output=True).stdout


def unpack(directory: Path) -> Path:
    """Write its files into a directory, with what makes its plug-ins known.  Blocks."""
    whole = git("archive", COMMIT)
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", directory], input=whole, check=True)
    project = tomllib.loads((directory / "pyproject.toml").read_text())["project"]
    metadata = directory / "gatewayd-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: gatewayd\nVersion: 0.1.0\n")
    groups = project["entry-points"].items()
    (metadata / "entry_points.txt").write_text(
        "\n".join(
            f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in points.items())
            for group, points in groups
        )
    )
    return directory


def in_former_words(config: str) -> str:
    """Return a configuration with the names that the earlier version has."""
    for former, new in SETTINGS.items():
        config = config.replace(f"{new} = ", f"{former} = ")
    return config
