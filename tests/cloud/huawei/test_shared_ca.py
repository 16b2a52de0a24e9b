"""An instance takes 100 device CAs: gateways share one, or have one below another."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gatewayd.ca.authority import Authority, read_authority
from gatewayd.cloud.ca.identity import read_identity
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.huawei.provider import Huawei
from gatewayd.cloud.provider import LoginError
from gatewayd.runtime.clock import Clock
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.site.replica.blob import ChildBlob, key_of_child, open_blob, seal_blob
from tests.ca.test_bundle import authority_below
from tests.cloud.guarded import device_ca
from tests.cloud.huawei.certified import (
    Certified,
    MemorySlots,
    certified,
    child,
    child_id,
    furnish,
    settings,
)
from tests.cloud.huawei.test_imported import trust
from tests.cloud.stand_ins import ManualClock, Wishes
from tests.support.replicas import KEYS
from tests.support.replicas import child as admitted


async def another_gateway(one: Certified, folder: Path, ca: Authority) -> Certified:
    """Return a second gateway at the same instance, into which a CA was imported."""
    clock = Clock(ManualClock().now, lambda: int(time.time() * 1e6))
    provider = await asyncio.to_thread(
        Huawei, "cloud", settings(folder, one.cloud), partial(read_secret, None), clock
    )
    provider.set_requests(Wishes())
    slots = MemorySlots()
    assert provider.issuer is not None
    keeper = provider.issuer.authority
    keeper.set_slots(slots.port)
    await keeper.keep(read_authority(ca.secret()), replace=False)
    return replace(one, provider=provider, slots=slots, sessions=[])


async def leave(one: Certified) -> None:
    await asyncio.gather(*(session.close() for session in one.sessions))
    await one.provider.close()


async def own_ca(one: Certified) -> Authority:
    assert one.provider.issuer is not None
    return (await one.provider.issuer.authority.require()).authority


async def test_two_gateways_share_a_ca_that_counts_once(tmp_path: Path) -> None:
    """The same key is imported at both; each child has a key and a certificate of its own."""
    async with certified(furnish(tmp_path)) as one:
        ca = await own_ca(one)
        other = await another_gateway(one, tmp_path, ca)
        await one.bring(child(1))
        await other.bring(child(2))
        assert one.devices() == {child_id(1), child_id(2)}
        assert [each.content for each in one.instance.authorities.list()] == [ca.pem]
        prints = {one.instance.devices.get(child_id(n)).auth.fingerprint for n in (1, 2)}
        assert len(prints) == 2
        with pytest.raises(PlatformError) as refused:
            one.instance.authorities.upload(ca.pem)
        assert refused.value.code == IotdaCode.CA_EXISTS
        await leave(other)


async def test_a_child_of_one_gateways_ca_logs_in_from_another_with_what_the_site_has(
    tmp_path: Path,
) -> None:
    """Key and certificate are its secret, and move with it; the key of the CA stays where it is."""
    async with certified(furnish(tmp_path)) as one:
        other = await another_gateway(one, tmp_path, device_ca("gateway b"))
        at_first = replace(admitted(5), cloud=child(5), stored=1)
        blob = ChildBlob(1, at_first, {at_first.slot(1): await one.secret(child(5))})
        key = key_of_child(KEYS, 0, child(5))
        moved = open_blob(KEYS, key, seal_blob(KEYS, key, blob, os.urandom))
        secret = moved.secrets[at_first.slot(1)]
        other.sessions.append(await other.connect(child(5), secret))
        assert child_id(5) in one.devices()
        await leave(other)


async def test_a_gateways_ca_below_another_is_uploaded_itself(tmp_path: Path) -> None:
    """It counts as any; that the one above it was uploaded is not enough for its children."""
    async with certified(furnish(tmp_path)) as one:
        root = device_ca("ACME root")
        trust(one, root)
        below = authority_below(root, "ACME gateway 7")
        other = await another_gateway(one, tmp_path, below)
        secret = await other.secret(child(3))
        assert read_identity(secret).chain.endswith(below.pem)
        with pytest.raises(LoginError) as refused:
            await other.provider.connect(child(3), secret)
        assert refused.value.reason.code == "authority-unknown"
        assert child_id(3) not in one.devices()
        trust(one, below)
        other.sessions.append(await other.connect(child(3), secret))
        assert child_id(3) in one.devices()
        await leave(other)


async def test_one_more_than_a_hundred_is_refused(tmp_path: Path) -> None:
    """The vendor's limit (productdesc-iothub/iot_04_0014); a deleted one makes room."""
    async with certified(furnish(tmp_path)) as one:
        authorities = one.instance.authorities
        found = authorities.list()
        many = [authority_below(device_ca(), f"gateway {number}").pem for number in range(100)]
        for pem in many[len(found) :]:
            authorities.upload(pem)
        with pytest.raises(PlatformError) as refused:
            authorities.upload(many[0])
        assert refused.value.code == IotdaCode.CA_LIMIT
        authorities.delete(authorities.list()[0].certificate_id)
        authorities.upload(many[0])
