"""The packages come out the same wherever and whenever they are built."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.system import roots
from tests.system.box import Box
from tests.system.conftest import TOP, gateway_root
from tests.system.gateway import install

pytestmark = pytest.mark.system

SOURCES = ("docs", "etc", "gatewayd", "packaging", "script", "systemd", "pyproject.toml")
HERE = platform.freedesktop_os_release()["VERSION_CODENAME"]
OTHER = next(release for release in roots.RELEASES if release != HERE)
TOOLS = ("dpkg-dev", "lintian")
COMPILED = shutil.ignore_patterns("__pycache__")
"""What Python writes and replaces meanwhile."""
QUICKLY_PACKED = "DPKG_DEB_COMPRESSOR_LEVEL=1"
"""The packages of the other release are installed at once, and only here."""


def _copy_sources(copy: Path) -> None:
    """Copy what script/deb reads, with other times."""
    for source in (*(TOP / name for name in SOURCES), *TOP.glob("*.md")):
        if source.is_dir():
            shutil.copytree(source, copy / source.name, copy_function=shutil.copy, ignore=COMPILED)
        else:
            shutil.copy(source, copy)


def _hashes(directory: Path) -> dict[str, str]:
    found = sorted(directory.glob("*.deb"))
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in found}


def test_two_builds_are_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    _copy_sources(copy)
    environ = os.environ | {"LC_ALL": "C", "TZ": "Asia/Shanghai", "TMPDIR": str(tmp_path)}
    subprocess.run(
        [copy / "script/deb", "--unchecked", tmp_path / "out"], check=True, env=environ,
        umask=0o027, capture_output=True,
    )  # fmt: skip
    first = _hashes(packages)
    assert len(first) == 3
    assert _hashes(tmp_path / "out") == first


@pytest.fixture
def builder(packages: Path, memory: Path) -> Iterator[Box]:
    """A machine of the other release, with what building needs."""
    control = (TOP / "packaging/debian/control").read_text()
    depends = re.search(r"^Build-Depends:(.*(?:\n .*)*)", control, re.M)
    assert depends is not None
    needed = [
        re.sub(r"^(dh-sequence-.*|debhelper-.*)", "debhelper", n) for n in roots.names(depends[1])
    ]
    other = gateway_root(OTHER, packages)  # which is made anyway
    root = roots.root(OTHER, [*needed, *TOOLS], "builder", other=other)
    box = Box([root], memory / "builder")
    box.boot()
    yield box
    box.cut_power()
    shutil.rmtree(box.changes)


def test_what_one_release_builds_is_installed_on_the_other(
    builder: Box, packages: Path, package: Path, memory: Path
) -> None:
    source = builder.path("/opt/source")
    source.mkdir()
    _copy_sources(source)
    builder.run("env", QUICKLY_PACKED, "/opt/source/script/deb", "/opt/out")
    (foreign,) = builder.path("/opt/out").glob("gatewayd_*.deb")

    box = Box([gateway_root(HERE, packages)], memory / "receiver")
    box.boot()
    try:
        install(box, foreign)
        assert box.run("systemctl", "is-active", "gatewayd") == "active"
        install(box, package)
        assert box.run("systemctl", "is-active", "gatewayd") == "active"
        assert box.run("systemctl", "show", "--value", "-p", "NRestarts", "gatewayd") == "0"
        assert box.run("dpkg", "--verify", "gatewayd") == ""
    finally:
        box.cut_power()
        shutil.rmtree(box.changes)
