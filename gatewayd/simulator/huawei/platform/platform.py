"""The simulated Huawei platform: its instances, by domain name.  No I/O."""

from __future__ import annotations

from collections.abc import Callable

from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.ids import Ids
from gatewayd.simulator.huawei.platform.instance import Edition, IotdaInstance
from gatewayd.simulator.huawei.platform.limits import InstanceLimits


class Platform:
    """All instances.

    clock: seconds since 1970.  random: so many random bytes; for ids, codes and secrets.
    limits: of each instance.  created: called with each new instance.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        limits: InstanceLimits | None = None,
    ) -> None:
        self.clock = clock
        self.created: Callable[[IotdaInstance], None] = lambda _: None
        self.instances: dict[str, IotdaInstance] = {}
        self.ids = Ids(clock, random)
        self._limits = limits or InstanceLimits()

    def create(
        self,
        instance_id: str,
        *,
        region: str = "cn-north-4",
        edition: Edition = Edition.STANDARD,
        domain: str | None = None,
    ) -> IotdaInstance:
        """Create an instance; domain: made of id and region by default.  Raises ValueError."""
        name = domain or f"{instance_id}.st1.iotda-device.{region}.myhuaweicloud.com"
        if instance_id in self.instances or self.by_domain(name):
            raise ValueError(f"An instance {instance_id!r} or {name!r} exists already")
        self.instances[instance_id] = instance = IotdaInstance(
            instance_id,
            self.ids,
            self._limits,
            region=region,
            edition=edition,
            domain=name.lower(),
        )
        self.created(instance)
        return instance

    def get(self, instance_id: str) -> IotdaInstance:
        """Return one.  Raises PlatformError."""
        if instance := self.instances.get(instance_id):
            return instance
        raise PlatformError(IotdaCode.UNKNOWN_INSTANCE)

    def by_domain(self, name: str) -> IotdaInstance | None:
        """Return the one of a domain name, if there is one; case does not count."""
        name = name.lower()
        return next((one for one in self.instances.values() if one.domain == name), None)
