"""The console of the simulated Alibaba cloud: the operations of its user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gatewayd.simulator.alibaba import topics
from gatewayd.simulator.alibaba.alink import AlinkCode, named
from gatewayd.simulator.alibaba.devices import Name
from gatewayd.simulator.alibaba.messages import AlibabaMessages
from gatewayd.simulator.alibaba.notices import ChildStatus
from gatewayd.simulator.alibaba.registry import AlibabaRegistry
from gatewayd.simulator.alibaba.thing import specification
from gatewayd.simulator.alibaba.thing.commands import ThingCommand
from gatewayd.simulator.alibaba.thing.rrpc import LONGEST

PERMIT_SECONDS = range(65_536)
"""0 for always, 65535 for no longer (knowledge_detail/178010, of the Living platform)."""


class AlibabaConsole:
    """A console for devices.  Every method raises KeyError for an unknown one."""

    def __init__(self, registry: AlibabaRegistry, messages: AlibabaMessages) -> None:
        self._registry, self._messages = registry, messages

    def state(self) -> object:
        """Return the products, the devices and their topology, to be pickled."""
        registry = self._registry
        return (
            registry.products, registry.devices, registry.deleted, registry.strangers,
            self._messages.topology,
        )  # fmt: skip

    def go_on(self, state: Any) -> None:  # noqa: ANN401  # what state() has returned
        """Go on with such a state."""
        registry = self._registry
        products, devices, deleted, strangers, topology = state
        registry.products.update(products)
        registry.devices.clear()
        registry.devices.update(devices)
        registry.deleted.update(deleted)
        registry.strangers.update(strangers)
        self._messages.topology.take_over(topology)

    def create(self, product: str, device: str) -> None:
        """Create a device.  Raises KeyError, OverflowError."""
        self._registry.create((product, device))

    def set_dynreg(self, product: str, *, on: bool) -> None:
        """Switch the registration of a product's devices on or off."""
        self._registry.products[product].dynamic = on

    def reset(self, product: str, device: str) -> None:
        """ResetThing: detach an activated device from its gateway, and let it register again.

        A gateway loses its sub-devices ("ResetThing", 155680).
        """
        name = (product, device)
        self._registry.reset(name)
        for one in (name, *self._messages.topology.children(name)):
            self._messages.notifier.evict(one)

    def disable(self, product: str, device: str) -> None:
        """Disable a device, and close its session."""
        name = (product, device)
        self._registry.devices[name].disabled = True
        self._shut_out(name, topics.DISABLE, ChildStatus.DISABLED, AlinkCode.DEVICE_DISABLED)

    def enable(self, product: str, device: str) -> None:
        """Enable a device; being offline, it does not learn of it."""
        name = (product, device)
        self._registry.devices[name].disabled = False
        self._push(name, topics.ENABLE)
        self._messages.notifier.change(name, ChildStatus.ENABLED)

    def delete(self, product: str, device: str) -> None:
        """Delete a device, and close its session."""
        name = (product, device)
        self._registry.delete(name)
        self._shut_out(name, topics.DELETE, ChildStatus.DELETED, AlinkCode.DEVICE_DELETED)
        self._messages.topology.detach(name)
        self._messages.forget(name)

    def secret(self, product: str, device: str) -> str | None:
        """Return the one valid secret of a device, for tests."""
        return self._registry.devices[product, device].secret

    def show_secret(self, product: str, device: str) -> str:
        """Return the secret that the console shows: a device has one from its creation on."""
        return self.secret(product, device) or self._registry.issue((product, device))

    def attach(self, gateway: Name, child: Name) -> None:
        """Attach a sub-device to a gateway, and detach it from another one."""
        if self._messages.topology.gateway_of(child) != gateway:
            self._messages.notifier.evict(child)
            self._messages.topology.attach(gateway, child)
            self._messages.notifier.change(child, ChildStatus.CREATED)

    def detach(self, child: Name) -> None:
        """Detach a sub-device from its gateway."""
        self._messages.notifier.evict(child)

    def set_model(self, product: str, tsl: Mapping[str, Any]) -> None:
        """Set the model of a product, as exported.  Raises also TypeError, ValueError."""
        self._registry.products[product].model = specification.parse(tsl)

    def set_properties(
        self, product: str, device: str, values: Mapping[str, object]
    ) -> ThingCommand:
        """Set properties of a device.

        Raises also ValueError for what does not fit the model, ConnectionError for a device that is
        offline or has not subscribed.
        """
        return self._messages.commands.set_properties(self._known(product, device), values)

    def invoke(
        self, product: str, device: str, service: str, values: Mapping[str, object]
    ) -> ThingCommand:
        """Invoke a service of a device.  Raises as set_properties does."""
        return self._messages.commands.invoke(self._known(product, device), service, values)

    async def rrpc(
        self, product: str, device: str, payload: bytes, rest: str = "", seconds: float = LONGEST
    ) -> bytes:
        """Call a device by RRPC; return its answer.  See Rrpcs.call, which raises more."""
        name = self._known(product, device)
        return await self._messages.rrpcs.call(name, payload, rest, seconds)

    def publish(self, product: str, device: str, rest: str, payload: bytes, qos: int = 0) -> None:
        """Publish a message to a device.  rest: of a topic that a user has defined, as `user/get`.

        qos: 1 to have it kept for a device that is offline, whose session is not clean.
        Raises also ConnectionError for a device that does not receive it.
        """
        if not self._messages.send(self._known(product, device), rest, payload, qos):
            raise ConnectionError("The device is offline, or has not subscribed to this topic.")

    def reports(
        self, product: str, device: str, skip: int | None = None
    ) -> list[dict[str, object]]:
        """Return the newest reports of a device, the newest last, for JSON.

        skip: return all but so many of the first ones.  Raises ValueError if they are not kept.
        """
        kept, known = self._messages.reports, self._known(product, device)
        found = kept.of(known) if skip is None else kept.since(known, skip)
        return [report.shown() for report in found]

    def read(self, product: str, device: str, values: Mapping[str, object]) -> Mapping[str, str]:
        """Have properties arrive as a device reports them; return the faults, by property."""
        return self._messages.reports.properties(self._known(product, device), values)

    def subscribes(self, product: str, device: str, topic: str) -> bool:
        """Whether a device is sent the messages of a topic now."""
        return self._messages.receives(self._known(product, device), topic)

    def notify(self, gateway: Name, children: Iterable[Name]) -> None:
        """Ask a gateway to attach devices."""
        params = [named(child) for child in children]
        self._messages.notifier.push(gateway, topics.TOPO_ADD_NOTIFY, params)

    def permit(self, gateway: Name, product: str, seconds: int) -> None:
        """Permit new devices of a product to join a gateway.  seconds: of `PERMIT_SECONDS`."""
        if seconds not in PERMIT_SECONDS:
            raise ValueError(seconds)
        params = {"productKey": product, "time": seconds}
        self._messages.notifier.push(gateway, topics.PERMIT, params)

    def push_error(self, child: Name, code: int) -> None:
        """Force a sub-device offline with any code, listed by the vendor or not."""
        self._messages.notifier.force_off(child, code)

    @property
    def registry(self) -> AlibabaRegistry:
        """The products and the devices, for the calls of the owner's programs."""
        return self._registry

    def is_online(self, name: Name) -> bool:
        """Whether a device is logged in, directly or through a gateway."""
        raise NotImplementedError

    def _known(self, product: str, device: str) -> Name:
        if (product, device) not in self._registry.devices:
            raise KeyError(device)
        return product, device

    def _shut_out(self, name: Name, method: str, status: ChildStatus, code: AlinkCode) -> None:
        if self._messages.sessions.gateway_of(name):
            self._push(name, method)
        self._messages.notifier.force_off(name, code)
        self._messages.notifier.change(name, status)
        self._close_sessions(name)

    def _push(self, child: Name, method: str) -> None:
        """Send a request on the topic of a sub-device, if it has a gateway."""
        if gateway := self._messages.topology.gateway_of(child):
            self._messages.notifier.push(gateway, method, {}, to=child)

    def _close_sessions(self, name: Name) -> None:
        """Close the direct connections of a device."""
        raise NotImplementedError
