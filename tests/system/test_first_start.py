"""apt installs the package, and gatewayd runs: with a key of its own, then with children online."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.cli.output import PROTECTION_TEXTS
from tests.system.conftest import CHILDREN
from tests.system.gateway import KEY, Gateway, install

pytestmark = pytest.mark.system


def test_the_first_start_is_the_last_and_exposes_little(bare: Gateway, package: Path) -> None:
    install(bare.box, package)
    assert bare.shown("ActiveState") == "active"
    assert bare.shown("NRestarts") == "0"
    bare.await_state("running")
    assert bare.box.path(KEY).stat().st_mode & 0o777 == 0o600
    made = bare.box.run("journalctl", "--no-pager", "--boot", "--unit", "gatewayd-vault-keygen")
    assert PROTECTION_TEXTS["key-on-disk"] in made
    assert bare.box.run("systemctl", "--failed", "--plain", "--no-legend") == ""

    bare.configure()
    bare.await_online(CHILDREN)
    assert bare.property("State") == "running"
    assert bare.shown("NRestarts") == "0"
    assert set(bare.plant.secrets_issued().values()) == {1}

    assert bare.box.run("systemd-analyze", "--man=no", "verify", "gatewayd.service") == ""
    told = bare.box.run("systemd-analyze", "--no-pager", "--threshold=11", "security", "gatewayd")
    assert "Overall exposure level for gatewayd.service: " in told
