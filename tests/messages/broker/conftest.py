"""A running broker, with two admitted children, for the tests beside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from gatewayd.messages.broker.settings import BrokerSettings
from tests.messages.broker.running import RunningBroker, Site, free_ports, running, short_directory


@pytest.fixture
def broker() -> Iterator[RunningBroker]:
    """A broker that does not run yet."""
    port, certificate_port = free_ports(2)
    settings = BrokerSettings(
        port=port, certificate_port=certificate_port, addresses=("127.0.0.1",), names=("127.0.0.1",)
    )
    with short_directory() as directory:
        made = RunningBroker(directory, settings)
        made.prepare()
        yield made
        made.stop()


@pytest.fixture
async def site(broker: RunningBroker) -> AsyncIterator[Site]:
    """A broker that runs, with gatewayd's side of it."""
    made = Site(broker)
    made.make_access()
    async with running(made):
        yield made
