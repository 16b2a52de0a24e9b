"""What is installed agrees with itself: the unit, the bus, the user, the package."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import tomli

from gatewayd import __version__
from gatewayd.__main__ import EX_CONFIG
from gatewayd.status.names import NAME

TOP = Path(__file__).parents[2]


def _ini(path: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # as its manual says
    parser.read_string((TOP / path).read_text())
    return parser


UNIT = _ini("systemd/gatewayd.service")
ACTIVATION = _ini(f"packaging/dbus/{NAME}.service")["D-BUS Service"]


def test_the_package_has_the_version_of_the_daemon() -> None:
    first = (TOP / "packaging/debian/changelog").read_text().splitlines()[0]
    assert first.startswith(f"gatewayd ({__version__}) ")


def test_the_unit_runs_a_command_that_is_installed() -> None:
    project = tomli.loads((TOP / "pyproject.toml").read_text())["project"]
    path = Path(UNIT["Service"]["ExecStart"])
    assert path.parent == Path("/usr/bin")
    assert path.name in project["scripts"]


def test_the_unit_is_not_started_again_with_a_wrong_configuration() -> None:
    assert UNIT["Service"]["RestartPreventExitStatus"] == str(EX_CONFIG)


def test_the_bus_starts_the_unit() -> None:
    assert ACTIVATION["Name"] == UNIT["Service"]["BusName"] == NAME
    assert ACTIVATION["SystemdService"] == UNIT["Install"]["Alias"]


def test_the_user_of_the_unit_is_made_and_may_own_the_name() -> None:
    user = UNIT["Service"]["User"]
    assert re.search(rf"^u {user} ", (TOP / "systemd/gatewayd.sysusers").read_text(), re.M)
    policy = (TOP / f"packaging/dbus/{NAME}.conf").read_text()
    assert re.search(rf'<policy user="{user}">\s*<allow own="{NAME}"/>', policy)
