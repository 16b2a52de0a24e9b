"""A provider whose cloud has several ways in: each name takes the route that its rule names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar, Protocol, runtime_checkable

from gatewayd.cloud.provider import (
    CloudRequestHandler,
    Credential,
    KeepSecret,
    LoginFailed,
    Outcome,
    Refused,
    Route,
    Session,
    SupportsReplacement,
)
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import SecretCorrupt

GATEWAY_ROUTE = "gateway"
"""The route of the gateway's own name, whatever the cloud."""


class SubDevices(Protocol):
    """The sub-devices of one gateway."""

    def set_requests(self, requests: CloudRequestHandler) -> None:
        """Set what handles the requests of the cloud."""

    async def close(self) -> None:
        """End what is under way."""


@runtime_checkable
class HoldableRoute(Protocol):
    """A route whose children have sessions of their own, which others than gatewayd can open."""

    async def credential(self, name: CloudName, secret: Secret) -> Credential:
        """Return what a child's holder logs in with.  Raises StoreError, ConfigError."""


class RoutedProvider(ABC):
    """A configured cloud account with a route for each kind of name.  Implements CloudProvider.

    name: the provider's name in the configuration.  default: the route of a name without one.
    holdable: the routes whose children can have holders, "" for the default one.
    joint: the routes that use the session of the gateway's own name, and that of this itself.
    A subclass adds its routes, and its sub-devices if it has a gateway.
    """

    holdable: ClassVar[frozenset[str]] = frozenset()
    joint: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, name: str, default: str) -> None:
        self.name = name
        self.gateway_name: CloudName | None = None
        self._default = default
        self._routes: dict[str, Route] = {}
        self._sub_devices: SubDevices | None = None

    def set_requests(self, requests: CloudRequestHandler) -> None:
        """Set what handles the requests of the cloud from now on."""
        if self._sub_devices is not None:
            self._sub_devices.set_requests(requests)

    def on_pending(self, name: CloudName) -> None:  # noqa: B027  # a choice, not a duty
        """Ignore that a child waits for approval, unless the cloud wants to know."""

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why this name cannot be registered here; None if it may be tried."""
        route = self._routes.get(self._route_of(name))
        if route is None:
            return self._no_route(name)
        return self._illegal(name) or route.check_name(name)

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Return why the cloud could not be asked for this name now."""
        route = self._routes.get(self._route_of(name))
        return await route.check_ready(name) if route else self._no_route(name)

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Register once by the name's route."""
        if (objection := self.check_name(name)) is not None:
            return Refused(objection)
        return await self._routes[self._route_of(name)].register(name, keep)

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        """Return that a secret is to be replaced at once where an operator has given another one.

        Otherwise it does not expire, unless the cloud says so.
        """
        route = self._replacing.get(self._route_of(name))
        return 0.0 if route is not None and route.is_replaced(name, secret) else None

    async def connect(self, name: CloudName, secret: Secret) -> Session:
        """Log in once by the name's route.  Raises LoginRefused, LoginRemoved, LoginFailed."""
        route = self._routes.get(self._route_of(name))
        if route is None:
            raise LoginFailed(self._no_route(name))
        return await route.connect(name, secret)

    @classmethod
    def hands_over(cls, route: str) -> bool:
        """Whether a child of this route has a session of its own, which its holder can open."""
        return route in cls.holdable

    def piece(self, name: CloudName) -> str:
        """Return the gateway's own name for all that use its session, and for itself; else ""."""
        own = self.gateway_name
        return f"{own.product}/{own.device}" if own and self._route_of(name) in self.joint else ""

    async def credential(self, name: CloudName, secret: Secret) -> Credential:
        """Return what a child's holder logs in with.  Raises StoreError, ConfigError."""
        route = self._routes.get(self._route_of(name))
        if not isinstance(route, HoldableRoute):
            raise SecretCorrupt(f"The secret of {name} is none that its holder could use")
        return await route.credential(name, secret)

    async def unbind(self, name: CloudName) -> Reason | None:
        """Remove what binds a child to this gateway at the cloud; return why that failed."""
        route = self._routes.get(self._route_of(name))
        return await route.unbind(name) if route else None

    async def close(self) -> None:
        """Release what the routes hold."""
        if self._sub_devices is not None:
            await self._sub_devices.close()
        for route in self._routes.values():
            await route.close()

    @cached_property
    def _replacing(self) -> Mapping[str, SupportsReplacement]:
        """The routes for whose names an operator gives secrets: to find out takes long."""
        routes = self._routes.items()
        return {name: route for name, route in routes if isinstance(route, SupportsReplacement)}

    def _illegal(self, _: CloudName) -> Reason | None:
        """Return why the cloud has no such name, whatever the route; None if the routes know it."""
        return None

    @abstractmethod
    def _no_route(self, name: CloudName) -> Reason:
        """Return why there is no route for this name."""

    def _route_of(self, name: CloudName) -> str:
        return name.route or self._default
