"""A real mosquitto as `gatewayctl broker-config` sets it up for certificates, and a provider."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatewayd.ca.authority import Authority
from gatewayd.cli.cloud_setup.broker_config import access_lines, configuration_lines
from gatewayd.cloud.ca.given import GivenIdentities
from gatewayd.cloud.ca.issued import IssuedCertificates
from gatewayd.cloud.ca.service import slots_of
from gatewayd.cloud.ca.store import AuthorityStore
from gatewayd.cloud.mqtt_broker.provider import MqttBroker
from gatewayd.cloud.mqtt_broker.settings import MqttBrokerSettings
from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretNotFound
from gatewayd.runtime.clock import SYSTEM_CLOCK, Clock
from gatewayd.simulator import pki
from gatewayd.testing.waiting import until
from tests.cloud.guarded import device_ca
from tests.cloud.mqtt_broker.brokers import NAMES, TIMEOUT, Relay, running_in_own_directory
from tests.support.mosquitto import Mosquitto

READER = "reader", "read"
"""A user with a password on a listener of its own, who reads and says everything to children."""


@dataclass
class MemoryStore:
    """The slots of a secret store.  Implements SecretSlots."""

    slots: dict[SecretRef, Secret] = field(default_factory=dict)

    async def put(self, ref: SecretRef, secret: Secret) -> None:
        assert ref not in self.slots, "a slot is never overwritten"
        self.slots[ref] = secret

    async def get(self, ref: SecretRef) -> Secret:
        if ref not in self.slots:
            raise SecretNotFound("no such slot")
        return self.slots[ref]

    async def delete(self, ref: SecretRef) -> None:
        self.slots.pop(ref, None)

    async def refs(self, device: DeviceId) -> Sequence[SecretRef]:
        return [ref for ref in self.slots if ref.device == device]

    async def holds(self, ref: SecretRef) -> bool:
        return ref in self.slots

    async def check_ready(self) -> None:
        return None


class CertifiedBroker:
    """A broker that trusts a device CA, the relay in front of it, and a provider of it.

    more: lines of the broker's configuration after those that are printed.
    without: lines that are left out.  settings: of the provider.
    """

    names = NAMES

    def __init__(
        self, directory: Path, authority: Authority, more: Sequence[str],
        without: Sequence[str], settings: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.directory, self.authority, now = directory, authority, datetime.now(UTC)
        root = pki.make_ca("plant", now - pki.LIFE, now + pki.LIFE)
        server = root.issue(["localhost"], ["127.0.0.1"], now - pki.LIFE, now + pki.LIFE)
        (directory / "ca.pem").write_text(root.pem)
        (directory / "server.pem").write_text(server.certificate_pem)
        key = directory / "server.key"
        key.write_text(server.key_pem)
        key.chmod(0o600)
        (directory / "devices-ca.pem").write_text(authority.pem)
        (directory / "revoked.pem").write_bytes(authority.revoke(()))
        self._settings, self.store = dict(settings), MemoryStore()
        (directory / "gateways.acl").write_text(self._access())
        self.broker = Mosquitto(directory, self._lines(more, without), dict([READER]))

    def _access(self) -> str:
        user, own = READER[0], "topic readwrite #"
        return "\n".join([f"user {user}", own, *access_lines(self._made_settings(8883)), ""])

    def _lines(self, more: Sequence[str], without: Sequence[str]) -> list[str]:
        printed = configuration_lines(self._made_settings(8883), "x")
        listening = [
            line.replace("listener 8883", "listener {port} 127.0.0.1")
            .replace("/etc/mosquitto/certs", "{directory}")
            .replace("/etc/mosquitto", "{directory}")
            for line in printed
            if line.split(" ")[0] not in without
        ]
        return [*listening, *more, "listener 0 {directory}/socket", "log_type information"]

    def _made_settings(self, port: int, **more: Any) -> MqttBrokerSettings:
        wanted = {
            "port": port, "ca_file": self.directory / "ca.pem", "address": "127.0.0.1",
            "connect_timeout": TIMEOUT, "reply_timeout": TIMEOUT, "products": ("meter",),
            **self._settings, **more,
        }  # fmt: skip
        return MqttBrokerSettings("localhost", identity="certificate", **wanted)

    async def start(self) -> None:
        await asyncio.to_thread(self.broker.start)
        self.relay = Relay(self.broker.port)
        await self.relay.start()
        self.provider = await self.make()

    async def make(self, clock: Clock = SYSTEM_CLOCK, **more: Any) -> MqttBroker:
        """Return a provider, as after a restart of gatewayd."""
        provider = MqttBroker(
            "plant", self._made_settings(self.relay.port, **more), lambda *_: Secret(b""), clock
        )
        assert provider.issuer is not None
        await self.open(provider.issuer.authority)
        return provider

    async def open(self, keeper: AuthorityStore) -> None:
        """Give the CA its slots; the first time it is kept there."""
        keeper.set_slots(
            slots_of("plant", self.store),
            IssuedCertificates("plant", self.store, time.time),
            GivenIdentities("plant", self.store, 10, time.time),
        )
        if await keeper.current() is None:
            await keeper.keep(self.authority, replace=False)

    async def revoke(self) -> None:
        """Do what the page says: give the broker the list, and have it read that."""
        assert self.provider.issuer is not None
        text = await self.provider.issuer.authority.revocation_lists()
        (self.directory / "revoked.pem").write_text(text)
        before = self.broker.log().count("Reloading config")
        self.broker.signal(signal.SIGHUP)
        await until(lambda: self.broker.log().count("Reloading config") > before)

    def connections(self) -> int:
        return self.relay.connections

    def refuse(self) -> None:
        """Trust another CA, as if another gateway's was put there."""
        self.broker.stop()
        (self.directory / "devices-ca.pem").write_text((self.directory / "ca.pem").read_text())
        self.broker.start()

    def silence(self) -> None:
        self.relay.silent = True

    def stop(self) -> None:
        self.relay.stop()


def certified_broker(
    more: Sequence[str] = (),
    without: Sequence[str] = (),
    **settings: Any,
) -> AbstractAsyncContextManager[CertifiedBroker]:
    """Run a broker that trusts a device CA."""
    return running_in_own_directory(
        lambda name: CertifiedBroker(name, device_ca("plant device CA"), more, without, settings)
    )
