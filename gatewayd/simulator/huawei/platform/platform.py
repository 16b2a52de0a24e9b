"""The simulated Huawei platform: its instances, told apart by their domain names.  No I/O."""

from __future__ import annotations

from collections.abc import Callable

from gatewayd.simulator.huawei.platform.errors import Code, PlatformError
from gatewayd.simulator.huawei.platform.ids import Ids
from gatewayd.simulator.huawei.platform.instance import Edition, Instance
from gatewayd.simulator.huawei.platform.limits import Limits

__all__ = ["Edition", "Limits", "Platform"]


class Platform:
    """All instances.

    clock: seconds since 1970.  random: so many random bytes; for ids, codes and secrets.
    limits: of each instance.  created: told of new instances.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        limits: Limits | None = None,
    ) -> None:
        self.clock = clock
        self.created: Callable[[Instance], None] = lambda _: None
        self.instances: dict[str, Instance] = {}
        self.ids = Ids(clock, random)
        self._limits = limits or Limits()

    def create(
        self,
        instance_id: str,
        *,
        region: str = "cn-north-4",
        edition: Edition = Edition.STANDARD,
        domain: str | None = None,
    ) -> Instance:
        """Create an instance; its domain is made up where none is given.  Raises ValueError."""
        name = domain or f"{instance_id}.st1.iotda-device.{region}.myhuaweicloud.com"
        if instance_id in self.instances or self.by_domain(name):
            raise ValueError(f"There is an instance {instance_id!r} or {name!r} already.")
        self.instances[instance_id] = instance = Instance(
            instance_id,
            self.ids,
            self._limits,
            region=region,
            edition=edition,
            domain=name.lower(),
        )
        self.created(instance)
        return instance

    def get(self, instance_id: str) -> Instance:
        """Return one.  Raises PlatformError."""
        if instance := self.instances.get(instance_id):
            return instance
        raise PlatformError(Code.UNKNOWN_INSTANCE)

    def by_domain(self, name: str) -> Instance | None:
        """Return the one of a domain name, if there is one; case does not count."""
        name = name.lower()
        return next((one for one in self.instances.values() if one.domain == name), None)
