"""The simulated Huawei Cloud IoTDA: instances behind one MQTTS port, distinguished by server name.

It simulates what the vendor documents (see the modules beside this one for the pages), with named
faults on request, and keeps a ledger of what truly happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from gatewayd.simulator import faults, pki
from gatewayd.simulator.faults import FaultPlan
from gatewayd.simulator.huawei import events, handshakes, x509
from gatewayd.simulator.huawei.handshakes import Handshakes, InstanceContext
from gatewayd.simulator.huawei.hub import Hub
from gatewayd.simulator.huawei.options import HuaweiCloudOptions
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.huawei.platform.platform import Platform
from gatewayd.simulator.huawei.reasons import RefusalReason
from gatewayd.simulator.mqtt import connack
from gatewayd.simulator.mqtt.link import ConnectReply, MqttLink, MqttService
from gatewayd.simulator.mqtt.packets import Connect, Publish
from gatewayd.simulator.mqtt.server import MqttServer


class HuaweiCloud:
    """The platform, served while the `async with` lasts.

    platform: what is managed; changes take effect at once.
    authority: issues the servers' certificates, one for each instance's domain.
    """

    def __init__(
        self,
        platform: Platform,
        *,
        authority: pki.RootAuthority,
        options: HuaweiCloudOptions | None = None,
    ) -> None:
        self.platform, self.options = platform, options or HuaweiCloudOptions()
        self.ca_pem = authority.pem
        self.plan = FaultPlan()
        self._hubs: dict[str, Hub] = {}
        self._links: dict[MqttLink, Hub] = {}
        limits, witness = self.options.limits, self.options.witness
        self._service = MqttService(self, None, False, limits, self, witness)
        self._handshakes = Handshakes(
            platform.by_domain, authority, self.plan, self.options, self._service.counts
        )
        self._service.context = self._handshakes.context
        self._server = MqttServer(self._service)
        platform.created = self._add
        for instance in platform.instances.values():
            self._add(instance)

    async def __aenter__(self) -> Self:
        """Listen.  Raises OSError."""
        self._server.start(self.options.address, self.options.port)
        if self.plan.down:
            self._server.pause()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        self._server.stop()

    @property
    def port(self) -> int:
        """The port to connect to, with an instance's domain for the server's name."""
        return self._server.port

    def set_faults(self, text: str, seed: int = 0) -> None:
        """Plan faults from now on, as faults.py says; "" for none.  Raises ConfigError."""
        self.plan.replace(faults.parse(text, events.REQUESTS), seed)
        if self.plan.down:
            self._server.pause()
        else:
            self._server.resume()

    def push(self, instance_id: str, device_id: str, topic: str, payload: bytes) -> bool:
        """Publish to a device; return whether it receives it.  Raises KeyError."""
        return self._hubs[instance_id].broker.send(device_id, topic, payload)

    def received(self, instance_id: str, device_id: str) -> Sequence[bytes]:
        """Return the messages of a device, or of its gateway for it.  Raises KeyError."""
        found = self.platform.instances[instance_id].arrivals.of(device_id)
        return [one.body for one in found if isinstance(one.body, bytes) and not one.about]

    def report(self, instance_id: str, device_id: str, report: Mapping[str, object]) -> str:
        """Handle a report of properties as if a device had sent it, or its gateway.

        Returns why it, or a part of it, is discarded; "" if all of it is kept.  Raises KeyError.
        """
        return self._hubs[instance_id].report(device_id, report)

    def disconnect(self, instance_id: str, device_id: str) -> None:
        """Close a device's connection, if it has one.  Raises KeyError."""
        if connection := self._hubs[instance_id].broker.of(device_id):
            connection.link.close()

    def truth(self) -> dict[str, object]:
        """Return all states and counts, for JSON; without secrets."""
        return {
            "instances": {name: hub.truth() for name, hub in self._hubs.items()},
            "server": dict(self._service.counts),
            "tls_failures": dict(self._service.tls_failures),
        }

    def on_connect(self, link: MqttLink, connect: Connect) -> ConnectReply:
        """Answer a CONNECT, for the instance of the server name."""
        assert link.tls is not None, "nothing else is served"
        if not handshakes.speaks(link.tls):
            self._service.counts["cipher"] += 1
            return connack.HANG_UP
        context = link.tls.context
        assert isinstance(context, InstanceContext), "else there was no handshake"
        hub = self._links[link] = self._hubs[context.instance.instance_id]
        shown = link.tls.getpeercert(binary_form=True)
        try:
            certificate = x509.read_der(shown) if shown else None
        except x509.UnreadableCertificate:
            return connack.refusal(self.options.codes[RefusalReason.UNKNOWN_CA])
        return hub.connect(link, connect, certificate)

    def on_publish(self, link: MqttLink, publish: Publish) -> None:
        """Handle a message of a device."""
        self._links[link].publish(link, publish)

    def on_subscribe(self, link: MqttLink, filters: Sequence[str]) -> list[bool]:
        """Return whether each filter is granted."""
        return self._links[link].subscribe(link, filters)

    def on_unsubscribe(self, link: MqttLink, filters: Sequence[str]) -> None:
        """Do nothing: the link keeps the subscriptions."""

    def on_close(self, link: MqttLink) -> None:
        """Take a device offline."""
        self._links.pop(link).close(link)

    def _add(self, instance: IotdaInstance) -> None:
        """Serve an instance."""
        hub = Hub(instance, self.plan, self.options, self.platform.ids)
        self._hubs[instance.instance_id] = hub
        instance.authorities.changed = lambda: self._handshakes.forget(instance)
