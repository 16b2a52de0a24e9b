"""The tests that the package brings for Debian, run as autopkgtest(1) runs them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.box import Box
from tests.system.conftest import TOP
from tests.system.gateway import install

pytestmark = pytest.mark.system

TESTS = TOP / "packaging/debian/tests"
RUN = 'cd /opt && AUTOPKGTEST_TMP=$(mktemp -d) "tests/$1" 2>/opt/stderr'


@pytest.fixture
def testbed(installed: Path, root: Path, memory: Path) -> Iterator[Box]:
    """A machine with gatewayd and a network of its own, where nobody else is."""
    box = Box([installed, root], memory / "testbed")
    box.boot()
    yield box
    box.cut_power()
    shutil.rmtree(box.changes)


def _declared() -> list[str]:
    lines = (TESTS / "control").read_text().splitlines()
    fields = [line.partition(":") for line in lines]
    return [name for field, _, value in fields if field == "Tests" for name in value.split()]


def test_every_test_passes_and_complains_of_nothing(testbed: Box, packages: Path) -> None:
    install(testbed, *packages.glob("*.deb"))
    shutil.copytree(TESTS, testbed.path("/opt/tests"))
    assert sorted(_declared()) == sorted(p.name for p in TESTS.iterdir() if p.name != "control")
    for name in _declared():
        testbed.run("sh", "-c", RUN, "sh", name)
        assert testbed.path("/opt/stderr").read_text() == "", f"{name} writes to stderr"
