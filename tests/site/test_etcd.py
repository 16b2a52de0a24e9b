"""The client of etcd with real members of it: by TLS, with users, and where some of them fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gatewayd.cloud.credentials import read_secret
from gatewayd.errors import EtcdRefused, EtcdUnreachable, LeaseGone
from gatewayd.runtime.tasks import until_one_ends
from gatewayd.site.etcd import EtcdClient, EtcdLogin, largest, read_bounded
from gatewayd.site.etcd_messages import Compare, Compared, Delete, Get, Put
from tests.support.etcd import CONTINUE, STOP, Cluster, running_etcd

READ = partial(read_secret, None)
PATIENT = 30.0
"""Seconds for a member to answer, where it surely does: this machine may be busy."""
KEY = "/gatewayd/plant/shard/07"
AUTHENTICATED = 'grpc_server_handled_total{grpc_code="OK",grpc_method="Authenticate"'


@pytest.fixture(scope="module")
def single() -> Iterator[Cluster]:
    with running_etcd() as cluster:
        yield cluster


async def test_keys_are_claimed_once_and_read_at_one_revision(single: Cluster) -> None:
    client = EtcdClient.of(single.settings(), READ, PATIENT)
    try:
        lease = await client.grant(15)
        absent = Compare(KEY, Compared.CREATED, 0)
        claimed = await client.txn([absent], [Put(KEY, b"gateway-a", lease)], [Get(KEY)])
        assert claimed.succeeded
        again = await client.txn([absent], [Put(KEY, b"gateway-b", lease)], [Get(KEY)])
        assert not again.succeeded
        ((pair,),) = [one.pairs for one in again.found]
        assert (pair.key, pair.value, pair.lease) == (KEY, b"gateway-a", lease)
        assert pair.created == pair.changed == claimed.revision
        held = [Compare(KEY, Compared.CREATED, pair.created), Compare(KEY, Compared.LEASE, lease)]
        assert (await client.txn(held, [Put(KEY, b"x" * 3000, lease)])).succeeded
        found = await client.range("/gatewayd/plant/", 10)
        assert [one.created for one in found.pairs] == [pair.created]
        assert found.pairs[0].changed > pair.created
        assert not found.more
        assert (await client.txn([], [Delete(KEY)])).succeeded
        assert not (await client.range("/gatewayd/plant/", 10)).pairs
    finally:
        client.close()


async def test_a_limit_cuts_off_what_begins_so_and_nothing_else_is_read(single: Cluster) -> None:
    client = EtcdClient.of(single.settings(), READ, PATIENT)
    try:
        puts = [Put(f"/gatewayd/other/{n:02}", bytes((n,)) * 20_000) for n in range(30)]
        await client.txn([], [*puts, Put("/gatewayd/other0", b"beyond")])
        cut = await client.range("/gatewayd/other/", 3)
        assert [one.key[-2:] for one in cut.pairs] == ["00", "01", "02"]
        assert cut.more
        whole = await client.range("/gatewayd/other/", 30)
        assert [one.value for one in whole.pairs] == [bytes((n,)) * 20_000 for n in range(30)]
    finally:
        client.close()


async def test_what_is_too_large_to_be_read_is_not_called_silence(
    single: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatewayd.site.etcd.MAX_REQUEST", 2 << 20)
    client = EtcdClient.of(single.settings(), READ, PATIENT)
    keys = [f"/gatewayd/large/{n}" for n in range(2)]
    try:
        for key in keys:
            await client.txn([], [Put(key, b"x" * 600_000)])
        with pytest.raises(EtcdUnreachable, match=r"too large\. Delete what no gateway wrote"):
            await client.range("/gatewayd/large/", 2)
        found = await read_bounded(client, Get("/gatewayd/large/", True, 2))
        assert [len(one.value) for one in found.pairs] == [600_000, 600_000]
        await client.txn([], [Put(keys[1], b"x" * 1_200_000)])
        found = await read_bounded(client, Get("/gatewayd/large/", True, 2))
        assert [len(one.value) for one in found.pairs] == [600_000, 0]
        assert found.pairs[1].changed > found.pairs[0].changed
        assert await largest(client, [Get("/gatewayd/large/", True, 2)]) == keys[1]
        await client.txn([], [*map(Delete, keys)])
        assert await largest(client, [Get("/gatewayd/large/", True, 2)]) == ""
    finally:
        client.close()


async def test_a_lease_is_renewed_until_it_is_given_back(single: Cluster) -> None:
    client = EtcdClient.of(single.settings(), READ, PATIENT)
    try:
        lease = await client.grant(15)
        await client.txn([], [Put("/gatewayd/leased", b"", lease)])
        await client.keep_alive(lease)
        await client.revoke(lease)
        await client.revoke(lease)
        assert not (await client.range("/gatewayd/leased", 1)).pairs
        with pytest.raises(LeaseGone):
            await client.keep_alive(lease)
        with pytest.raises(LeaseGone):
            await client.txn([], [Put("/gatewayd/leased", b"", lease)])
    finally:
        client.close()


async def test_what_etcd_refuses_says_so(single: Cluster) -> None:
    client = EtcdClient.of(single.settings(), READ, PATIENT)
    try:
        with pytest.raises(EtcdRefused, match="duplicate key"):
            await client.txn([], [Put("/gatewayd/a", b""), Delete("/gatewayd/a")])
        with pytest.raises(EtcdRefused, match="too large"):
            await client.txn([], [Put("/gatewayd/a", bytes(1 << 20))])
        await client.grant(15)
    finally:
        client.close()


@pytest.fixture
def guarded() -> Iterator[Cluster]:
    with running_etcd(options={"client-cert-auth": "true"}) as cluster:
        cluster.enable_users()
        yield cluster


@pytest.fixture
def three() -> Iterator[Cluster]:
    with running_etcd(3) as cluster:
        yield cluster


async def test_a_user_logs_in_by_a_password_and_has_the_rights_of_its_role(
    guarded: Cluster,
) -> None:
    folder = guarded.directory
    shown = {"certificate_file": folder / "client.pem", "private_key_file": folder / "client.key"}
    login = {"user": "gateway", "password_file": folder / "password"}
    client = EtcdClient.of(guarded.settings(**shown, **login), READ, PATIENT)
    certificate_alone = EtcdClient.of(guarded.settings(**shown), READ, PATIENT)
    no_certificate = EtcdClient.of(guarded.settings(**login), READ, PATIENT)
    named = {"certificate_file": folder / "named.pem", "private_key_file": folder / "named.key"}
    common_name = EtcdClient.of(guarded.settings(**named, **login), READ, PATIENT)
    wrong = guarded.settings(**shown, user="gateway", password_file=folder / "client.key")
    wrong_password = EtcdClient.of(wrong, READ, PATIENT)
    try:
        assert (await client.txn([], [Put("/gatewayd/a", b"b")])).succeeded
        await client.keep_alive(await client.grant(15))
        with pytest.raises(EtcdRefused, match="Grant the user"):
            await client.txn([], [Put("/elsewhere", b"")])
        with pytest.raises(EtcdRefused, match="Grant the user"):
            await certificate_alone.range("/gatewayd/", 1)
        with pytest.raises(EtcdUnreachable, match="or wants one"):
            await no_certificate.range("/gatewayd/", 1)
        with pytest.raises(EtcdRefused, match="has no common name"):
            await common_name.range("/gatewayd/", 1)
        with pytest.raises(EtcdRefused, match="Correct user and password"):
            await wrong_password.range("/gatewayd/", 1)
        # A member forgets its tokens where it starts again.
        await asyncio.to_thread(guarded.restart)
        await _until_answered(client)
        assert (await client.range("/gatewayd/", 1)).pairs
    finally:
        for one in (client, certificate_alone, no_certificate, common_name, wrong_password):
            one.close()


async def test_an_etcd_that_takes_long_for_a_password_is_asked_once_for_all_clients(
    guarded: Cluster,
) -> None:
    """On a small machine, requests that log in each by itself would be given up, for ever."""
    folder = guarded.directory
    shown = {"certificate_file": folder / "client.pem", "private_key_file": folder / "client.key"}
    settings = guarded.settings(**shown, user="gateway", password_file=folder / "password")
    login = EtcdLogin.of(settings, READ, PATIENT)
    clients = [EtcdClient.of(settings, READ, login=login) for _ in range(4)]
    try:
        guarded.members[0].signal(STOP)
        try:
            with pytest.raises(EtcdUnreachable, match="does not answer in"):
                await clients[0].grant(15)
        finally:
            guarded.members[0].signal(CONTINUE)
        await asyncio.gather(*(_until_answered(one) for one in clients))
        assert await asyncio.to_thread(guarded.count, AUTHENTICATED) == 1
    finally:
        for one in clients:
            one.close()


async def test_a_request_goes_on_where_the_leader_is_stopped_and_another_member_dies(
    three: Cluster,
) -> None:
    client = EtcdClient.of(three.settings(), READ)
    try:
        await _until_answered(client)
        lease = await client.grant(600)
        leader = await asyncio.to_thread(three.leader)
        leader.signal(STOP)
        await _until_answered(client, lease)
        leader.signal(CONTINUE)
        await _until_answered(client, lease)
        others = [one for one in three.members if one is not leader]
        await asyncio.to_thread(others[0].end)
        await _until_answered(client, lease)
        await asyncio.to_thread(others[1].end)
        with pytest.raises(EtcdUnreachable):
            await client.range("/gatewayd/", 1)
    finally:
        client.close()


async def test_members_that_all_answer_late_are_not_taken_for_dead(single: Cluster) -> None:
    """As on a card that writes slowly: each answer comes after the next member was asked."""
    silence, late = 1.0, 1.2
    async with AsyncExitStack() as stack:
        relays = [_late_relay(single.members[0].port, late) for _ in range(3)]
        ports = [await stack.enter_async_context(one) for one in relays]
        endpoints = tuple(f"https://127.0.0.1:{port}" for port in ports)
        client = EtcdClient.of(replace(single.settings(), endpoints=endpoints), READ, silence)
        stack.callback(client.close)
        await _until_answered(client)


async def test_what_is_not_trusted_is_not_asked_and_what_is_away_is_named(single: Cluster) -> None:
    foreign = EtcdClient.of(single.settings(ca_file=None), READ, PATIENT)
    lacking = EtcdClient.of(single.settings(ca_file=Path("/nowhere/ca.pem")), READ, PATIENT)
    try:
        with pytest.raises(EtcdUnreachable, match="comes from an authority that is not trusted"):
            await foreign.range("/", 1)
        with pytest.raises(EtcdUnreachable, match="trusted root certificates cannot be read"):
            await lacking.range("/", 1)
    finally:
        foreign.close()
        lacking.close()


@asynccontextmanager
async def _late_relay(port: int, late: float) -> AsyncIterator[int]:
    """Yield the port of a relay by which all but a client's first bytes arrive later."""
    running: set[asyncio.Task[object] | None] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)

    async def carry_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1 << 16))
        while data := await reader.read(1 << 16):
            asyncio.get_running_loop().call_later(late, writer.write, data)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await until_one_ends(carry_late(reader, far_writer), carry(far_reader, writer))
        finally:
            for one in (writer, far_writer):
                one.transport.abort()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*filter(None, running), return_exceptions=True)


async def _until_answered(client: EtcdClient, lease: int = 0) -> None:
    """Return when a request with a quorum is answered, and the lease is renewed."""
    async with asyncio.timeout(60):
        while True:
            try:
                await client.range("/gatewayd/", 1)
                if lease:
                    await client.keep_alive(lease)
            except EtcdUnreachable:
                await asyncio.sleep(0.1)
            else:
                return
