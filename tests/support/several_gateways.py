"""Several gateways that see the same children: real daemons, each with a bus, and one plant."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from gatewayd.simulator.bus import PrivateBus
from gatewayd.simulator.site import MANAGER, Site, end
from gatewayd.simulator.site_files import SWIFT, config, rules
from tests.support.etcd import Cluster

OF_PLANT = (
    "ca.pem", "product-secret", "serials.txt", "control", "template.json", "management-password",
)  # fmt: skip
"""The files of a plant that gateways need, at one cloud or another."""
SITE_OBJECT = (MANAGER[0], f"{MANAGER[1]}/site", "org.gatewayd1.Site")
_SITE = """\
[site]
name = "{cluster_name}"
gateway = "{name}"
endpoints = {endpoints}
ca_file = "{ca}"
"""


def site_table(cluster: Cluster, name: str) -> str:
    """Return the table [site] of a gateway at these members of etcd."""
    return _SITE.format(
        cluster_name="plant",
        name=name,
        endpoints=json.dumps([one.endpoint for one in cluster.members]),
        ca=cluster.directory / "ca.pem",
    )


@asynccontextmanager
async def several_gateways(
    directory: Path,
    names: Sequence[str],
    cluster: Cluster | None = None,
    tuning: str = SWIFT,
    **options: Any,
) -> AsyncIterator[Sequence[Site]]:
    """Yield gateways that do not run yet; the first one has the plant.

    cluster: the etcd of their site; None for gateways that know nothing of each other.
    """
    async with AsyncExitStack() as stack:
        sites: list[Site] = []
        for name in names:
            (folder := directory / name).mkdir()
            one = Site(folder, **options)
            if not sites:
                await stack.enter_async_context(one.open())
            else:
                await stack.enter_async_context(_beside(one, sites[0]))
            door = "[messages.doors.site]\n"
            text = config(one, tuning).replace(door, f'{door}client_id = "{name}"\n')
            one.configure(text + (site_table(cluster, name) if cluster else ""), rules(one))
            sites.append(one)
        yield sites


@asynccontextmanager
async def _beside(one: Site, first: Site) -> AsyncIterator[None]:
    """Have another gateway see the plant of the first one."""
    for name in OF_PLANT:
        (one.directory / name).symlink_to(first.directory / name)
    one.plant, one.broker = first.plant, first.broker
    with PrivateBus(*one.policies) as bus:
        one.bus, one.private_bus = bus.address, bus
        try:
            yield
        finally:
            await one.stop()


async def call_site(one: Site, method: str, signature: str = "", *words: str) -> Any:
    """Call a method of the site's object.  Raises RuntimeError."""
    given = [signature, *words] if signature else []
    text = await one.busctl("--json=short", "call", *SITE_OBJECT, method, *given)
    return json.loads(text)["data"][0] if text and "data" in json.loads(text) else None


async def drain(one: Site, *, offline: bool = False) -> None:
    """Have a gateway give its children away; offline: also where no other one lives."""
    options = ("1", "offline", "b", "true") if offline else ("0",)
    await call_site(one, "Drain", "a{sv}", *options)


async def shown_of_site(one: Site, name: str) -> Any:
    """Return a property of the site's object."""
    text = await one.busctl("--json=short", "get-property", *SITE_OBJECT, name)
    return json.loads(text)["data"]


async def again(act: Callable[[], Any]) -> Any:
    """Do what an operator does until it succeeds, as a site is coming up."""
    why = ""
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    return await act()
                except RuntimeError as error:
                    why = str(error)
                    await asyncio.sleep(0.5)
    except TimeoutError:
        raise TimeoutError(why) from None


async def make_site(sites: Sequence[Site], names: Sequence[str]) -> None:
    """Found the site at the first gateway, and let the others in."""
    fingerprint = await again(lambda: call_site(sites[0], "Found"))
    for one, name in zip(sites[1:], names[1:], strict=True):
        await let_in(sites[0], one, name, fingerprint)


async def let_in(member: Site, one: Site, name: str, fingerprint: str) -> None:
    """Have a gateway join a site, and a member of that accept it."""

    async def accept() -> None:
        own = await shown_of_site(one, "Fingerprint")
        await call_site(member, "Accept", "ss", name, own)

    await again(lambda: call_site(one, "Join", "s", fingerprint))
    await again(accept)


async def states_of(one: Site) -> dict[str, str]:
    """Return the state of each child that is shown at a gateway, by its serial number."""
    with contextlib.suppress(RuntimeError):
        return {child: state for child, (_, state) in (await one.devices()).items()}
    return {}


async def until_held_once(
    sites: Sequence[Site], children: Sequence[str], seconds: float = 120.0
) -> dict[str, int]:
    """Return which gateway has each child, once each is online at one and elsewhere at others.

    Raises TimeoutError with what is shown.
    """
    seen: list[dict[str, str]] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                seen = [await states_of(one) for one in sites]
                held = {
                    child: [n for n, states in enumerate(seen) if states.get(child) == "online"]
                    for child in children
                }
                others = all(
                    states.get(child) in ("online", "elsewhere")
                    for states in seen
                    for child in children
                )
                if others and all(len(found) == 1 for found in held.values()):
                    return {child: found[0] for child, found in held.items()}
                await asyncio.sleep(0.3)
    except TimeoutError:
        raise TimeoutError(f"the gateways show {seen}; {sites[0].log()[-3000:]}") from None


def stop_process(one: Site) -> None:
    """Stop a daemon as SIGSTOP does."""
    assert one.daemon is not None
    os.kill(one.daemon.pid, signal.SIGSTOP)


def continue_process(one: Site) -> None:
    """Let a daemon that was stopped run on."""
    assert one.daemon is not None
    os.kill(one.daemon.pid, signal.SIGCONT)


async def kill_process(one: Site) -> None:
    """End a daemon as a power cut does."""
    daemon, one.daemon = one.daemon, None
    assert daemon is not None
    daemon.kill()
    await end(daemon)
