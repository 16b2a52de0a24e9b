"""A broker as the cloud: the mosquitto of each release does what the tests of the route expect.

These run as they are, where mosquitto and its tool are those of the release: in a mount namespace
they are programs that change into its root.  For the release of this machine they are not run once
more: with its mosquitto they run already where they stand.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

TOP = Path(__file__).parents[2]
HERE = platform.freedesktop_os_release()["VERSION_CODENAME"]
TESTED = ("test_management.py", "test_certificates.py", "test_document.py")
VERSIONS: Mapping[str, str] = {"bookworm": "2.0.11", "trixie": "2.0.21"}
PROGRAMS = ("mosquitto", "mosquitto_ctrl")
FOREIGN = """\
#!/bin/sh
exec chroot {root} {program} "$@"
"""
INSIDE = 'for one in tmp dev; do mount --rbind "/$one" "$0/$one"; done\n'
HIDING = "mount --bind {foreign} {own}\n"
"""A file of the release over one of this machine, in a namespace of the process alone."""


def programs_of(root: Path, directory: Path) -> list[str]:
    """Return the command under which mosquitto is that of a release."""
    script = ["set -e\n", INSIDE]
    for name in PROGRAMS:
        own = shutil.which(name, path="/usr/sbin:/usr/bin")
        assert own is not None, f"{name} is not installed"
        foreign = directory / name
        foreign.write_text(FOREIGN.format(root=root, program=own))
        foreign.chmod(0o755)
        script.append(HIDING.format(foreign=foreign, own=own))
    script.append('exec "$@"')
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", "".join(script), str(root)]


def test_it_creates_and_refuses_the_clients_of_children(
    release: str, root: Path, tmp_path: Path
) -> None:
    there = [] if release == HERE else programs_of(root, tmp_path)
    path = {**os.environ, "PATH": "/usr/sbin:/usr/bin"}
    found = subprocess.run(
        [*there, "mosquitto", "-h"], env=path, capture_output=True, text=True, check=False
    )
    assert f"mosquitto version {VERSIONS[release]}" in found.stdout
    if release == HERE:
        return
    modules = [f"tests/cloud/mqtt_broker/{name}" for name in TESTED]
    # a directory of its own, as pytest fails now and then where others clean up the common one
    options = ("-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "pytest"))
    ended = subprocess.run(
        [*there, sys.executable, "-m", "pytest", *options, *modules],
        cwd=TOP, env={**os.environ, "PYTEST_ADDOPTS": ""}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-3000:]
