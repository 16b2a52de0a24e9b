"""What the tests of gatewayctl share: a message bus of their own, and an emulated TPM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import private_bus
from tests.support.emulated_tpm import EmulatedTpm


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    with private_bus() as made:
        yield made


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[EmulatedTpm]:
    with closing(EmulatedTpm(tmp_path / "chip")) as chip:
        chip.start()
        yield chip
