"""The simulated Alibaba Cloud IoT Platform: registration and login of devices over MQTT and TLS.

Plays what the vendor documents (see the modules beside this one for the pages), with named
faults where they are wished for, and keeps a ledger of what truly happened.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeAlias

from gatewayd.testing.simulator import alibaba_answers, faults
from gatewayd.testing.simulator.alibaba_answers import Manner
from gatewayd.testing.simulator.alibaba_credentials import AuthType, Refused, Request, understand
from gatewayd.testing.simulator.alibaba_devices import Name, by_code
from gatewayd.testing.simulator.alibaba_registry import Registry
from gatewayd.testing.simulator.faults import Fault, FaultPlan, Stage
from gatewayd.testing.simulator.mqtt_link import Limits, Link, Reply, Service
from gatewayd.testing.simulator.mqtt_packets import Connect, Publish
from gatewayd.testing.simulator.mqtt_server import MqttServer
from gatewayd.testing.simulator.pki import Certificate

Session: TypeAlias = tuple[str, str, str]
"""productKey, deviceName, and the client id of one of the devices that share an unlisted name."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the cloud is set up.

    host: the name clients are told, one of the certificate's.  address: IPv4, listened on.
    port: 0 takes a free one.
    instance_id: of the cloud's instance; "" for the old public one, which has none.
    rate: CONNECTs let through in a minute for each device; 0 for no limit.
    unlisted: whether devices may register that nobody has created.
    plain: whether plain TCP is answered, as on the vendor's port 1883; with a refusal, mostly.
    """

    host: str = "localhost"
    address: str = "127.0.0.1"
    port: int = 0
    instance_id: str = ""
    rate: int = 5
    unlisted: bool = False
    plain: bool = True
    manner: Manner = field(default_factory=Manner)
    limits: Limits = field(default_factory=Limits)


class AlibabaCloud:
    """An account of the cloud, served while the `async with` lasts.

    products: productKey → productSecret.  devices: created, none of them activated.
    clock: seconds, for the ledger and the rate limit.  random: so many random bytes.
    """

    def __init__(
        self,
        products: Mapping[str, str],
        devices: Iterable[Name],
        *,
        certificate: Certificate,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        options: Options | None = None,
    ) -> None:
        self.options = options or Options()
        self.ca_pem = certificate.ca_pem
        self.plan = FaultPlan()
        self._registry = Registry(
            products,
            devices,
            clock,
            random,
            rate=self.options.rate,
            unlisted=self.options.unlisted,
        )
        self._sessions: dict[Session, Link] = {}
        self._keys: dict[Link, Session] = {}
        self._misunderstood: Counter[int] = Counter()
        self._service = Service(
            self, certificate.server_context(), self.options.plain, self.options.limits
        )
        self._server = MqttServer(self._service)

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
    def host(self) -> str:
        """The name to connect to."""
        return self.options.host

    @property
    def port(self) -> int:
        """The port to connect to."""
        return self._server.port

    @property
    def online(self) -> set[Name]:
        """The devices that are logged in."""
        return {(product, device) for product, device, _ in self._sessions}

    def set_faults(self, text: str, seed: int = 0) -> None:
        """Plan faults from now on, as faults.py says; "" for none.  Raises ConfigError."""
        self.plan.replace(faults.parse(text), seed)
        if self.plan.down:
            self._server.pause()
        else:
            self._server.resume()

    def create(self, product: str, device: str) -> None:
        """Create a device.  Raises KeyError, OverflowError."""
        self._registry.create((product, device))

    def set_dynreg(self, product: str, *, on: bool) -> None:
        """Switch the registration of a product's devices on or off.  Raises KeyError."""
        self._registry.products[product].dynamic = on

    def reset(self, product: str, device: str) -> None:
        """ResetThing: let an activated device register again.  Raises KeyError."""
        self._registry.reset((product, device))

    def disable(self, product: str, device: str) -> None:
        """Shut a device out; a session it has is closed.  Raises KeyError."""
        self._registry.devices[product, device].disabled = True
        self._close_sessions((product, device))

    def enable(self, product: str, device: str) -> None:
        """Let a disabled device in again.  Raises KeyError."""
        self._registry.devices[product, device].disabled = False

    def delete(self, product: str, device: str) -> None:
        """Forget a device; a session it has is closed.  Raises KeyError."""
        del self._registry.devices[product, device]
        self._close_sessions((product, device))

    def secret(self, product: str, device: str) -> str | None:
        """Return the one valid secret of a device, for tests to compare.  Raises KeyError."""
        return self._registry.devices[product, device].secret

    def truth(self) -> dict[str, object]:
        """Return all that was counted, as JSON can hold it; no secret is in it."""
        online = self.online
        devices: dict[str, dict[str, object]] = {key: {} for key in self._registry.products}
        for (product, name), device in self._registry.devices.items():
            devices[product][name] = device.truth(online=(product, name) in online)
        return {
            "devices": devices,
            "strangers": by_code(self._registry.strangers),
            "misunderstood": by_code(self._misunderstood),
            "server": dict(self._service.counts),
            "tls_failures": dict(self._service.tls_failures),
        }

    def write_truth(self, path: Path) -> None:
        """Write `truth()` to a file, whole or not at all.  Blocks on the disk."""
        unfinished = path.with_name(path.name + ".new")
        unfinished.write_text(json.dumps(self.truth(), indent=1, sort_keys=True))
        unfinished.replace(path)

    def on_connect(self, link: Link, connect: Connect) -> Reply:
        """Answer a CONNECT: by the rules, unless a fault strikes."""
        try:
            request = understand(
                connect, tls=link.tls is not None, instance_id=self.options.instance_id
            )
        except Refused as refused:
            self._misunderstood[refused.code] += 1
            return alibaba_answers.refusal(refused.code)
        try:
            return self._answer(link, request)
        except Refused as refused:
            return alibaba_answers.refusal(refused.code)

    def on_publish(self, link: Link, _: Publish) -> None:
        """Count what a logged-in device publishes."""
        product, name, _client = self._keys.get(link, ("", "", ""))
        if device := self._registry.devices.get((product, name)):
            device.ledger.published += 1

    def on_close(self, link: Link) -> None:
        """Take a device offline, unless it is online over a newer connection."""
        session = self._keys.pop(link, None)
        if session and self._sessions.get(session) is link:
            del self._sessions[session]

    def _answer(self, link: Link, request: Request) -> Reply:
        self._registry.arrive(request)
        stage: Stage = "register" if request.registers else "login"
        fault = self.plan.choose(stage, request.device_name)
        if fault:
            self._registry.strike(request, fault.name)
        if spoiled := alibaba_answers.instead(fault):
            return spoiled
        if request.registers:
            return self._register(request, fault)
        return self._login(link, request, fault)

    def _register(self, request: Request, fault: Fault | None) -> Reply:
        times = 2 if fault and fault.name == "answer-twice" else 1
        pushes = [self._registry.register(request) for _ in range(times)]
        return alibaba_answers.granted(pushes, fault, self.options.manner)

    def _login(self, link: Link, request: Request, fault: Fault | None) -> Reply:
        """Open a session; an older one of the same device is taken over, and closed."""
        self._registry.login(request)
        shared = request.auth_type is AuthType.LOGIN_UNLISTED
        session = (*request.name, request.client_id if shared else "")
        older = self._sessions.get(session)
        self._sessions[session] = link
        self._keys[link] = session
        if older:
            self._registry.devices[request.name].ledger.takeovers += 1
            older.close()
        return alibaba_answers.session(fault)

    def _close_sessions(self, name: Name) -> None:
        for session, link in tuple(self._sessions.items()):
            if session[:2] == name:
                link.close()
