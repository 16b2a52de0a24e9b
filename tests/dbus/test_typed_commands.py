"""A command that is renamed, or takes another type, is found by mypy where it is named or bound."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("typed commands")  # one copy serves all

TOP = Path(__file__).parents[2]
CHECKED = ("gatewayd/dbus/methods.py", "gatewayd/dbus_objects.py", "gatewayd/daemon.py")
METHODS, OBJECTS, DAEMON = CHECKED
PORTS = "gatewayd/dbus/ports.py"
AUTHORITY = "gatewayd/cloud/ca/service.py"
STORE, MANAGER = "gatewayd/storage/store_service.py", "gatewayd/manager/commands.py"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product that may be damaged, and that mypy has checked: it remembers that."""
    directory = tmp_path_factory.mktemp("product")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TOP / "gatewayd", directory / "gatewayd", ignore=ignored)
    shutil.copy(TOP / "pyproject.toml", directory)
    assert mypy(directory).startswith("Success")
    return directory


def mypy(copy: Path) -> str:
    """What mypy prints about the files that name or bind commands."""
    command = (sys.executable, "-m", "mypy", "--follow-imports=silent", *CHECKED)
    ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    return ended.stdout


def test_the_commands_agree(copy: Path) -> None:
    assert mypy(copy).startswith("Success")


@pytest.mark.parametrize(("damaged", "before", "after", "found"), [
    (STORE, "async def rotate(self", "async def roll(self", OBJECTS),
    (STORE, "async def reseal(self, key: str", "async def reseal(self, key: int", OBJECTS),
    (MANAGER, "async def retry(self", "async def again(self", DAEMON),
    (MANAGER, "async def retry(self, device: str", "async def retry(self, device: int", DAEMON),
    (OBJECTS, "async def set_level(self", "async def level(self", OBJECTS),
    (OBJECTS, "async def test(self, caller: str", "async def test(self, caller: int", OBJECTS),
    (PORTS, "async def rotate(self", "async def roll(self", METHODS),
    (PORTS, "permit_join(self, seconds: int", "permit_join(self, seconds: str", METHODS),
    (AUTHORITY, "async def prove(self", "async def proof(self", DAEMON),
])  # fmt: skip
def test_a_command_that_changes_is_found(
    copy: Path, damaged: str, before: str, after: str, found: str
) -> None:
    text = (copy / damaged).read_text()
    assert text.count(before) == 1
    (copy / damaged).write_text(text.replace(before, after))
    try:
        assert f"{found}:" in mypy(copy)
    finally:
        (copy / damaged).write_text(text)
