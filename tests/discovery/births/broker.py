"""A broker of the site, with devices at it, and a discoverer of births that is joined to it.

The helper's process is left out: what passes between it and gatewayd is encoded and decoded all the
same.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gatewayd.config import ConfiguredPlugin
from gatewayd.discovery.births.discoverer import Births
from gatewayd.discovery.births.port import BirthMessage, BirthReceiver, BirthRequest
from gatewayd.discovery.births.settings import BirthsSettings, DialectName
from gatewayd.discovery.helper.messages import (
    decode_to_gatewayd,
    decode_to_helper,
    encode_to_gatewayd,
    encode_to_helper,
)
from gatewayd.lan_discovery import BrokerBirths
from gatewayd.messages.door_settings import DoorSettings
from gatewayd.runtime.clock import SYSTEM_CLOCK
from gatewayd.runtime.tasks import cancel_and_wait
from tests.support.mosquitto import Mosquitto

NO_OTHERS: Mapping[str, Mosquitto] = {}
KINDS = {"births": "mqtt-births"}


async def publish(broker: Mosquitto, topic: str, payload: object, *options: str) -> None:
    """Publish as mosquitto_pub(1) does.  payload: bytes, or what is written as JSON."""
    written = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    client = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-t", topic,
        "-s" if written else "-n", *options, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    _, said = await client.communicate(written)
    assert client.returncode == 0, said


async def keep(broker: Mosquitto, kept: Iterable[tuple[str, object]]) -> None:
    """Publish messages that the broker keeps."""
    for topic, payload in kept:
        await publish(broker, topic, payload, "-r")


@dataclass
class JoinedHelper:
    """The way to a discoverer in this process.  is_running: False while its process is away."""

    receiver: BirthReceiver
    is_running: bool = True
    on_request: Callable[[BirthRequest], None] = lambda _: None

    def __post_init__(self) -> None:
        self.receiver.attach(self._request)

    def _request(self, request: BirthRequest) -> None:
        made = decode_to_gatewayd(encode_to_gatewayd(request), KINDS, 0.0)
        assert isinstance(made, BirthRequest)
        self.on_request(made)

    async def pass_on(self, message: BirthMessage) -> bool:
        if self.is_running:
            made = decode_to_helper(encode_to_helper(message), KINDS, SYSTEM_CLOCK.now())
            assert made == message
            await self.receiver.receive(message)
        return self.is_running


def no_secret(_credential: str, _file: Path | None) -> None:
    raise AssertionError("this broker asks for none")


@dataclass
class Plugged:
    """What `BrokerBirths` reads of a configuration."""

    discoverers: tuple[ConfiguredPlugin, ...]
    doors: Mapping[str, DoorSettings]

    @property
    def messages(self) -> Plugged:
        return self


@dataclass
class BirthsAtBroker:
    """A discoverer, its helper, and what reads for it at the brokers."""

    discoverer: Births
    helper: JoinedHelper
    births: BrokerBirths

    def connected(self) -> bool:
        return all(reader._session is not None for reader in self.births._readers.values())


def settings_of(*dialects: DialectName, **changed: object) -> BirthsSettings:
    made = BirthsSettings(doors=("plant",), dialects=dialects or (DialectName.TASMOTA,))
    return replace(made, **changed)  # type: ignore[arg-type]  # of any field


def door_to(broker: Mosquitto) -> DoorSettings:
    return DoorSettings(host="127.0.0.1", port=broker.port, retry_first=0.1, retry_last=0.3)


@asynccontextmanager
async def births_at(
    broker: Mosquitto, settings: BirthsSettings, others: Mapping[str, Mosquitto] = NO_OTHERS
) -> AsyncIterator[BirthsAtBroker]:
    """Read births of a broker for a discoverer, which is to be run by the test.

    others: the brokers of further doors, by their names.
    """
    discoverer = Births("births", settings)
    helper = JoinedHelper(discoverer)
    plugin = ConfiguredPlugin("births", "mqtt-births", Births, settings)
    plugged = Plugged(
        (plugin,), {door: door_to(others.get(door, broker)) for door in settings.doors}
    )
    births = BrokerBirths(plugged, no_secret, "host", SYSTEM_CLOCK, helper)  # type: ignore[arg-type]  # what it reads of these
    tasks = [asyncio.create_task(service()) for service in births.services()]
    made = BirthsAtBroker(discoverer, helper, births)
    try:
        yield made
    finally:
        await cancel_and_wait(tasks)
