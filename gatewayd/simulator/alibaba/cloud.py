"""The simulated Alibaba Cloud IoT Platform: devices, gateways and their sub-devices.

They register and log in over MQTT and TLS, and register over HTTPS too.  It simulates what the
vendor documents (see the modules beside this one for the pages), with named faults on request, and
keeps a ledger of what truly happened.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeAlias

from gatewayd.simulator import faults
from gatewayd.simulator.alibaba import answers
from gatewayd.simulator.alibaba.answers import PushOptions
from gatewayd.simulator.alibaba.console import AlibabaConsole
from gatewayd.simulator.alibaba.credentials import (
    AlibabaAuthType,
    AlibabaConnectRefused,
    ConnectRequest,
    is_served,
    understand,
)
from gatewayd.simulator.alibaba.devices import (
    AlibabaNodeType,
    Name,
    SimulatedAlibabaProduct,
    by_code,
)
from gatewayd.simulator.alibaba.https import HttpsLink, HttpsRegistrar
from gatewayd.simulator.alibaba.messages import AlibabaMessages
from gatewayd.simulator.alibaba.registry import AlibabaRegistry
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.alibaba.thing.reports import is_report
from gatewayd.simulator.alibaba.thing.specification import ThingModel
from gatewayd.simulator.alibaba.topics import HTTPS_REGISTER, REQUESTS
from gatewayd.simulator.faults import FaultPlan, SimulatedFault, Stage
from gatewayd.simulator.mqtt import connack
from gatewayd.simulator.mqtt.channel import remember_names
from gatewayd.simulator.mqtt.link import (
    ConnectReply,
    MqttLimits,
    MqttLink,
    MqttService,
    MqttWitness,
)
from gatewayd.simulator.mqtt.packets import Connect, Publish
from gatewayd.simulator.mqtt.server import MqttServer
from gatewayd.simulator.pki import KeyedCertificate


@dataclass(frozen=True, slots=True)
class AlibabaCloudOptions:
    """The options of the cloud.

    host: the name for clients, one of the certificate's.  address: IPv4 or IPv6, listened on.
    hosts: the names that the instance answers to, with `{product}`; () for the host alone.
    port: 0 takes a free one.
    instance_id: of the cloud's instance; "" for the old public one, which has none.
    rate: CONNECTs let through in a minute for each device; 0 for no limit.
    preregistration_free: whether devices may register that were not created before.
    plain: whether plain TCP is answered, as on the vendor's port 1883; mostly with a refusal.
    https_port: likewise, for registration over HTTPS; None for no HTTPS.
    nodes: productKey → node type (default: direct).  models: productKey → TSL (default: none).
    rules: for devices, and for gateways.
    wall: seconds since the epoch, for the times in reports.
    witness: is shown what arrives over MQTT.
    """

    host: str = "localhost"
    hosts: tuple[str, ...] = ()
    address: str = "127.0.0.1"
    port: int = 0
    instance_id: str = ""
    rate: int = 5
    preregistration_free: bool = False
    plain: bool = True
    https_port: int | None = None
    nodes: Mapping[str, AlibabaNodeType] = field(default_factory=dict)
    models: Mapping[str, ThingModel] = field(default_factory=dict)
    rules: AlibabaRules = field(default_factory=AlibabaRules)
    manner: PushOptions = field(default_factory=PushOptions)
    limits: MqttLimits = field(default_factory=MqttLimits)
    wall: Callable[[], float] = time.time
    witness: MqttWitness | None = None


class _AnyRequest(Container[str]):
    """The names of all requests that faults may strike; those of events are the product's."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (
            name in REQUESTS or name == HTTPS_REGISTER or is_report(name)
        )


SessionKey: TypeAlias = tuple[str, str, str]
"""productKey, deviceName, and the client id of one of the devices that share a name."""


class AlibabaCloud(AlibabaConsole):
    """An account of the cloud, served while the `async with` lasts.

    products: productKey → productSecret.  devices: created, none of them activated.
    clock: seconds, for the ledger and the rate limits.  random: so many random bytes.
    """

    def __init__(
        self,
        products: Mapping[str, str],
        devices: Iterable[Name],
        *,
        certificate: KeyedCertificate,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        options: AlibabaCloudOptions | None = None,
    ) -> None:
        self.options = options or AlibabaCloudOptions()
        self.ca_pem = certificate.ca_pem
        self.plan = FaultPlan()
        nodes, models = self.options.nodes, self.options.models
        registry = AlibabaRegistry(
            {
                key: SimulatedAlibabaProduct(
                    ps, nodes.get(key, AlibabaNodeType.DIRECT), model=models.get(key, ThingModel())
                )
                for key, ps in products.items()
            },
            devices,
            clock,
            random,
            rates=(self.options.rate, self.options.rules.connects),
            preregistration_free=self.options.preregistration_free,
        )
        messages = AlibabaMessages(
            registry, self.plan, self.options.rules,
            clock=clock, now=lambda: self.options.wall() * 1000,
        )  # fmt: skip
        super().__init__(registry, messages)
        self._sessions: dict[SessionKey, MqttLink] = {}
        self._keys: dict[MqttLink, SessionKey] = {}
        self._newest: dict[Name, MqttLink] = {}
        self._unparsed: Counter[int] = Counter()
        context, limits = certificate.server_context(), self.options.limits
        remember_names(context)
        self._service = MqttService(
            self, context, self.options.plain, limits, self, self.options.witness
        )
        self._server = MqttServer(self._service)
        self._https_registrar = HttpsRegistrar(registry, messages.registration, self.plan)
        self._https = MqttServer(
            MqttService(self, context, limits=limits),
            lambda service, sock: HttpsLink(service, sock, self._https_registrar),
        )

    async def __aenter__(self) -> Self:
        """Listen.  Raises OSError."""
        self._server.start(self.options.address, self.options.port)
        if self.options.https_port is not None:
            self._https.start(self.options.address, self.options.https_port)
        if self.plan.down:
            self._pause()
        return self

    def _pause(self) -> None:
        self._server.pause()
        self._https.pause()

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        self._server.stop()
        self._https.stop()

    @property
    def host(self) -> str:
        """The name to connect to."""
        return self.options.host

    @property
    def port(self) -> int:
        """The port to connect to."""
        return self._server.port

    @property
    def https_port(self) -> int:
        """The port for registration over HTTPS; 0 where there is none."""
        return self._https.port

    @property
    def online(self) -> set[Name]:
        """The devices that are logged in, directly or through a gateway."""
        direct = {(product, device) for product, device, _ in self._sessions}
        return direct | set(self._messages.sessions)

    def is_online(self, name: Name) -> bool:
        """Whether a device is logged in, directly or through a gateway."""
        behind = self._messages.sessions.gateway_of(name) is not None
        return behind or any(key[:2] == name for key in self._sessions)

    def set_faults(self, text: str, seed: int = 0) -> None:
        """Plan faults from now on, as faults.py says; "" for none.  Raises ConfigError."""
        self.plan.replace(faults.parse(text, _AnyRequest()), seed)
        if self.plan.down:
            self._pause()
        else:
            self._server.resume()
            self._https.resume()

    def truth(self) -> dict[str, object]:
        """Return all states and counts, for JSON; without secrets."""
        online = self.online
        devices: dict[str, dict[str, object]] = {key: {} for key in self._registry.products}
        gateways: dict[str, dict[str, dict[str, object]]] = {}
        for (product, name), device in self._registry.devices.items():
            devices[product][name] = {
                **device.truth(online=(product, name) in online),
                **self._messages.reports.truth((product, name)),
            }
            if self._messages.is_gateway((product, name)):
                truth = self._messages.truth((product, name))
                gateways.setdefault(product, {})[name] = truth
        return {
            "devices": devices,
            "gateways": gateways,
            "https": by_code(self._https_registrar.codes),
            "strangers": by_code(self._registry.strangers),
            "misunderstood": by_code(self._unparsed),
            "server": dict(self._service.counts),
            "tls_failures": dict(self._service.tls_failures),
        }

    def write_truth(self, path: Path) -> None:
        """Write `truth()` to a file atomically.  Blocks."""
        unfinished = path.with_name(path.name + ".new")
        unfinished.write_text(json.dumps(self.truth(), indent=1, sort_keys=True))
        unfinished.replace(path)

    def on_connect(self, link: MqttLink, connect: Connect) -> ConnectReply:
        """Answer a CONNECT: by the rules, unless a fault strikes."""
        try:
            request = understand(
                connect, tls=link.tls is not None, instance_id=self.options.instance_id
            )
        except AlibabaConnectRefused as refused:
            self._unparsed[refused.code] += 1
            return connack.refusal(refused.code)
        try:
            return self._answer(link, request, clean=connect.clean)
        except AlibabaConnectRefused as refused:
            return connack.refusal(refused.code)

    def on_publish(self, link: MqttLink, publish: Publish) -> None:
        """Handle what a logged-in device publishes."""
        if device := self._device(link):
            self._messages.publish(device, publish)

    def on_subscribe(self, link: MqttLink, filters: Sequence[str]) -> list[bool]:
        """Let a logged-in device subscribe to its own topics."""
        if device := self._device(link):
            return self._messages.subscribe(device, filters)
        return [False] * len(filters)

    def on_unsubscribe(self, link: MqttLink, filters: Sequence[str]) -> None:
        """Remove subscriptions."""
        if device := self._device(link):
            self._messages.unsubscribe(device, filters)

    def on_close(self, link: MqttLink) -> None:
        """Take a device offline, unless it is online over a newer connection."""
        if (session := self._keys.pop(link, None)) is None:
            return
        if self._sessions.get(session) is link:
            del self._sessions[session]
        if self._newest.get(session[:2]) is link:
            del self._newest[session[:2]]
            self._messages.disconnect(session[:2])

    def _device(self, link: MqttLink) -> Name | None:
        """Return the device of a connection, if it is the newest one of that device."""
        if (session := self._keys.get(link)) is None or self._newest.get(session[:2]) is not link:
            return None
        return session[:2] if session[:2] in self._registry.devices else None

    def _answer(self, link: MqttLink, request: ConnectRequest, *, clean: bool) -> ConnectReply:
        hosts = self.options.hosts or (self.options.host,)
        if not is_served(request.product_key, link.server_name, hosts):
            self._registry.elsewhere(request)
        self._registry.arrive(request)
        stage: Stage = "register" if request.registers else "login"
        fault = self.plan.choose(stage, request.device_name)
        if fault:
            self._registry.strike(request.name, fault.name)
        if spoiled := connack.instead(fault):
            return spoiled
        if request.registers:
            return self._register(request, fault)
        return self._login(link, request, fault, clean=clean)

    def _register(self, request: ConnectRequest, fault: SimulatedFault | None) -> ConnectReply:
        times = 2 if fault and fault.name == "answer-twice" else 1
        pushes = [self._registry.register(request) for _ in range(times)]
        return answers.granted(pushes, fault, self.options.manner)

    def _login(
        self, link: MqttLink, request: ConnectRequest, fault: SimulatedFault | None, *, clean: bool
    ) -> ConnectReply:
        """Open a session; it takes over an older one of the same device, which is closed."""
        self._registry.login(request)
        shared = request.auth_type is AlibabaAuthType.LOGIN_UNLISTED
        session = (*request.name, request.client_id if shared else "")
        older = self._sessions.get(session)
        self._sessions[session] = link
        self._keys[link] = session
        if older:
            self._registry.devices[request.name].ledger.takeovers += 1
            older.close()
        self._newest[request.name] = link
        options = {"served": request.served, "extended": request.extended}
        present = self._messages.connect(request.name, link, clean=clean, **options)
        return connack.session(fault, present=present)

    def _close_sessions(self, name: Name) -> None:
        """Close the direct connections of a device."""
        for session, link in tuple(self._sessions.items()):
            if session[:2] == name:
                link.close()
