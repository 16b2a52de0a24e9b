"""The story's world on real parts: processes, TLS, multicast, D-Bus."""

from __future__ import annotations

from gatewayd.testing.site import Site


class SiteWorld:
    """Implements story.World on a site whose plant has announced nobody yet of these two.

    admitted: a child on the operator's list.  held: one that is not.
    """

    def __init__(self, site: Site, admitted: str, held: str) -> None:
        self._site = site
        self.admitted, self.held = admitted, held

    async def announce(self, child: str) -> None:
        await self._site.ask(do="announce", child=child)

    async def leave(self, child: str) -> None:
        await self._site.ask(do="leave", child=child)

    async def wait_for(self, child: str, state: str) -> None:
        await self._site.wait_for(child, state)

    async def approve(self, child: str) -> None:
        await self._site.call("Approve", "ss", await self._id(child), "")

    async def reject(self, child: str) -> None:
        await self._site.call("Reject", "ss", await self._id(child), "not ours")

    async def issued(self, child: str) -> int:
        return len((await self._site.ledger(child))["secrets_sha256"])

    async def is_online_at_cloud(self, child: str) -> bool:
        return bool((await self._site.ledger(child))["online"])

    async def _id(self, child: str) -> str:
        return (await self._site.devices())[child][0]
