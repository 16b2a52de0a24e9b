"""The world of the story on real parts: processes, TLS, multicast DNS, D-Bus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from gatewayd.simulator.huawei import account as huawei
from gatewayd.simulator.site import Site

Ledger: TypeAlias = Mapping[str, Any]


class SiteWorld:
    """A story world on a site.  Implements StoryWorld.

    admitted: a child on the operator's list.  held: one that is not.  Neither is announced yet.
    """

    def __init__(self, site: Site, admitted: str, held: str) -> None:
        self._site = site
        self.admitted, self.held = admitted, held

    async def announce(self, child: str) -> None:
        await self._site.ask(do="announce", child=child)

    async def leave(self, child: str) -> None:
        await self._site.ask(do="leave", child=child)

    async def wait_for(self, child: str, state: str) -> None:
        """D-Bus shows the state first; the cloud learns the end of a session after that."""
        await self._site.wait_for(child, state)

        async def agrees() -> bool:
            return await self.is_online_at_cloud(child) is (state == "online")

        await self._site.until(agrees, f"the cloud to agree that {child} is {state}")

    async def approve(self, child: str) -> None:
        await self._site.call("Approve", "ss", await self._id(child), "")

    async def reject(self, child: str) -> None:
        await self._site.call("Reject", "ss", await self._id(child), "not ours")

    async def issued(self, child: str) -> int:
        return issued(await self._site.ledger(child))

    async def is_online_at_cloud(self, child: str) -> bool:
        return is_online(await self._site.ledger(child))

    async def _id(self, child: str) -> str:
        return (await self._site.devices())[child][0]


async def ledgers(site: Site) -> Mapping[str, Ledger]:
    """Return the cloud's counts of each child of the plant, by serial number."""
    truth = await site.ask(do="truth")
    return _LEDGERS[site.cloud](site, truth["cloud"])


def own_names(site: Site) -> int:
    """Return how many devices of the cloud are the gateway itself; gatewayd counts them too."""
    behind = site.route.startswith("sub-device")
    return len(site.plant["hosts"]) if site.cloud == "huawei" else int(behind)


def issued(ledger: Ledger) -> int:
    """Return how many secrets a cloud has issued to a child, or how often it has registered it.

    Each certificate that a child has shown counts.
    """
    if "secrets_sha256" in ledger:
        return len(ledger["secrets_sha256"])
    shown = len(ledger.get("certificates_sha256", ()))
    return max(shown, int(ledger.get("registrations", 0)))


def is_online(ledger: Ledger) -> bool:
    """Whether the cloud holds a session of the child."""
    return bool(ledger.get("online"))


def _alibaba(site: Site, truth: Mapping[str, Any]) -> dict[str, Ledger]:
    return dict(truth["devices"][site.plant["product"]])


def _huawei(site: Site, truth: Mapping[str, Any]) -> dict[str, Ledger]:
    instances = truth["instances"]
    return {
        child: instances[huawei.home(child)]["devices"].get(huawei.device_id(child), {})
        for child in site.plant["serials"]
    }


_LEDGERS: Mapping[str, Callable[[Site, Mapping[str, Any]], dict[str, Ledger]]] = {
    "alibaba": _alibaba,
    "huawei": _huawei,
}
