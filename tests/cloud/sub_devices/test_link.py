"""The gateway's session, and those that wait for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from gatewayd.cloud.paho_socket import Gone
from gatewayd.cloud.sub_devices.link import GatewayLink, LinkDown, NoAnswer, NotSent, deadline
from gatewayd.network.connect_errors import ConnectionEnd


@dataclass
class Uplink:
    closed: asyncio.Future[ConnectionEnd] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


async def test_whoever_waits_gets_the_session() -> None:
    link, uplink = GatewayLink[Uplink](), Uplink()
    waiting = asyncio.create_task(link.wait(30.0))
    await asyncio.sleep(0)
    link.put(uplink)
    assert await waiting is link.get() is uplink


async def test_a_wait_ends() -> None:
    link = GatewayLink[Uplink]()
    assert await link.wait(0.01) is None
    with pytest.raises(NotSent):
        link.get()


async def test_a_session_that_has_ended_is_handed_out_no_more() -> None:
    link, uplink = GatewayLink[Uplink](), Uplink()
    link.put(uplink)
    uplink.closed.set_result(ConnectionEnd.LOST)
    with pytest.raises(NotSent):
        link.get()
    await asyncio.sleep(0)
    assert link.current is None


async def test_the_end_of_an_older_session_is_not_that_of_the_newer() -> None:
    link, older, newer = GatewayLink[Uplink](), Uplink(), Uplink()
    link.put(older)
    link.put(newer)
    older.closed.set_result(ConnectionEnd.CLOUD)
    await asyncio.sleep(0)
    assert link.get() is newer


async def test_what_ends_a_wait_is_an_error_of_the_link() -> None:
    with pytest.raises(NoAnswer):
        async with deadline(0.01):
            await asyncio.Event().wait()
    with pytest.raises(LinkDown):
        async with deadline(30.0):
            raise Gone
