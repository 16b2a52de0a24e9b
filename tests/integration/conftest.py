"""What the integration tests share: a message bus of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import private_bus


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    with private_bus() as made:
        yield made
