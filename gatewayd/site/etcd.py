"""A client of etcd: by its JSON gateway, over TLS, with every request bounded in time and in bytes.

It speaks to one member, and to the next where that fails or is silent.  A request whose answer was
lost is sent again, to the same member or to another, and etcd may carry out both, the first of them
much later: so only what may be done twice is asked for, as a transaction with compares.

Sources: the API of etcd 3.4 and 3.5 (api_grpc_gateway, authentication).  A client certificate logs
no user in by the JSON gateway, so that users have passwords; and where etcd has users, it refuses
one with a common name.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.http import KeptConnection, whole_request
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, EtcdRefused, EtcdUnreachable, EtcdUseless, LeaseGone
from gatewayd.network.addresses import AddressBook
from gatewayd.network.connect_errors import SILENT, ConnectError, reason
from gatewayd.network.http_head import HttpError, authority
from gatewayd.network.http_response import HttpResponse
from gatewayd.network.tls import Server, alert_of, client_context
from gatewayd.runtime.tasks import cancel_and_wait, drop_error
from gatewayd.runtime.watched_file import read_regular
from gatewayd.site.etcd_messages import (
    Compare,
    EtcdFormatError,
    EtcdTxn,
    FoundKeys,
    Get,
    KeyValue,
    Operation,
    body_of,
    parse_fault,
    parse_lease,
    parse_token,
    parse_txn,
    txn_body,
)
from gatewayd.site.settings import SiteSettings, parse_endpoint

MAX_RESPONSE = 1 << 20
"""Bytes of a response; one of a hundred children has a quarter of that."""
MAX_REQUEST = 1 << 20
"""Bytes of a body; etcd accepts 1.5 MiB of a transaction, which are less than its JSON."""
MAX_CERTIFICATES = 64 << 10
"""Bytes of the file of certificates to show."""

ANSWER = 1.5
"""Seconds of silence after which a renewal, or a reading, is asked of the next member, too: the
fence has room for three of them after a renewal is due (3 + 3 * 1.5 < 10)."""
MIN_TRIES = 2
"""Requests of which one may meet a kept connection that has been closed."""
LOGIN = 10.0
"""Seconds for a login: etcd checks a password by bcrypt, which takes a small machine a second and
more, and longer while several gateways start."""

_ODD = re.compile(r"[^!-~]")
MAX_SHOWN = 200
"""Characters of a key that are shown."""

_NOT_FOUND, _UNAUTHENTICATED = 5, 16
_ELSEWHERE = frozenset({1, 2, 4, 10, 13, 14})
"""Codes of gRPC for what another member, or the same one a little later, may do: cancelled,
unknown, deadline, aborted, internal, unavailable (as without a leader)."""
_NO_LOGIN = ("user name is empty", "revision of auth store is old", "invalid auth token")
"""What etcd says where a request has no token, or one that it does not know any more."""


class KeyReader(Protocol):
    """What reads keys: `EtcdClient`."""

    async def txn(self, compares: Iterable[Compare], success: Iterable[Operation]) -> EtcdTxn:
        """Carry out a transaction.  Raises SiteError."""


class EtcdAccess(Protocol):
    """How to be trusted by etcd, and what to trust."""

    @property
    def user(self) -> str:
        """The user's name; "" for none."""

    async def context(self) -> ssl.SSLContext:
        """Return the context of a new connection.  Raises ConnectError, ConfigError."""

    async def password(self) -> Secret:
        """Return the user's password.  Raises ConfigError."""


class ConfiguredAccess:
    """The access that the settings name; all files are read for each connection."""

    def __init__(self, settings: SiteSettings, read_secret: ReadSecret) -> None:
        self._settings, self._read_secret = settings, read_secret
        self.user = settings.user

    async def context(self) -> ssl.SSLContext:
        """Return the context of a new connection.  Raises ConnectError, ConfigError."""
        return await asyncio.to_thread(self._context)

    async def password(self) -> Secret:
        """Return the user's password.  Raises ConfigError."""
        settings = self._settings
        return await asyncio.to_thread(
            self._read_secret, settings.password_credential, settings.password_file
        )

    def _context(self) -> ssl.SSLContext:
        settings, identity = self._settings, None
        if settings.certificate_file is not None:
            key = self._read_secret(settings.private_key_credential, settings.private_key_file)
            identity = Secret(key.reveal() + b"\n" + _certificates(settings.certificate_file))
        return client_context(settings.ca_file, identity)


def _certificates(path: Path) -> bytes:
    """Return the content of a file.  Raises ConfigError."""
    try:
        return read_regular(path, MAX_CERTIFICATES)
    except OSError as error:
        raise ConfigError(
            f"certificate_file cannot be read: {error.strerror}. Correct it in [site]."
        ) from error


class EtcdLogin:
    """The login of a gateway at etcd, for all its clients: one at a time, as each costs etcd much.

    A token of one member is good at all of them; one that has started again does not know it.
    seconds: for one member to answer.
    """

    def __init__(
        self, endpoints: Iterable[tuple[str, int]], access: EtcdAccess, seconds: float = LOGIN
    ) -> None:
        self._members = deque(_Member(host, port, access, seconds) for host, port in endpoints)
        self._access, self._seconds = access, seconds
        self._token = ""
        self._under_way: asyncio.Task[str] | None = None

    @classmethod
    def of(
        cls, settings: SiteSettings, read_secret: ReadSecret, seconds: float = LOGIN
    ) -> EtcdLogin:
        """Return the login of what the settings name."""
        return cls(_endpoints(settings), ConfiguredAccess(settings, read_secret), seconds)

    async def token(self, refused: str = "") -> str:
        """Return a token; "" where no user is named.

        refused: one that a member does not know.  A caller that waits no longer leaves the login
        under way, so that the next one finds it done.  Raises EtcdRefused, EtcdUnreachable.
        """
        if not self._access.user:
            return ""
        if self._token and self._token != refused:
            return self._token
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._log_in())
            self._under_way.add_done_callback(drop_error)
        return await asyncio.shield(self._under_way)

    def close(self) -> None:
        """Cancel a login that is under way, and close all connections."""
        if self._under_way is not None:
            self._under_way.cancel()
        for member in self._members:
            member.connection.close()

    async def _log_in(self) -> str:
        member = self._members[0]
        try:
            async with asyncio.timeout(self._seconds):
                self._token = await self._ask(member)
        except TimeoutError:
            member.connection.close()
            self._members.rotate(-1)
            raise EtcdUnreachable(
                f"etcd at {member.name} checks no password in {self._seconds:g} s. Give its "
                "machine more processor time, or start etcd with a lower bcrypt-cost."
            ) from None
        except EtcdUnreachable:
            self._members.rotate(-1)
            raise
        return self._token

    async def _ask(self, member: _Member) -> str:
        try:
            password = await self._access.password()
        except ConfigError as error:
            raise EtcdRefused(f"The password for etcd cannot be read: {error}") from error
        secret = password.reveal().decode("utf-8", "replace")
        about = {"name": self._access.user, "password": secret}
        response = await member.post("auth/authenticate", json.dumps(about).encode("ascii"), "")
        if response.status != HTTPStatus.OK:
            raise _fault(member.name, response)
        with _formed():
            return parse_token(response.body)


class EtcdClient:
    """A client that makes one request at a time; more of them, where one must not wait for another.

    login: of all of them, which is closed with any.
    seconds: of silence of a member, from the look-up of its name on, after which the next is asked
    too; the first to answer is believed, so that what is slow is not taken for dead.

    cluster: the number of the etcd whose members have answered so far; "" for none.
    """

    def __init__(
        self,
        endpoints: Iterable[tuple[str, int]],
        access: EtcdAccess,
        login: EtcdLogin,
        seconds: float = ANSWER,
    ) -> None:
        named = tuple(endpoints)
        self._seconds, self._tries = seconds, max(len(named), MIN_TRIES)
        self._whole = seconds * self._tries
        self._members = deque(_Member(*one, access, self._whole) for one in named)
        self._login = login
        self.cluster = ""
        self._turn = asyncio.Lock()

    @classmethod
    def of(
        cls,
        settings: SiteSettings,
        read_secret: ReadSecret,
        seconds: float = ANSWER,
        login: EtcdLogin | None = None,
    ) -> EtcdClient:
        """Return a client of what the settings name.

        login: one that is shared; None for its own.
        """
        access = ConfiguredAccess(settings, read_secret)
        return cls(
            _endpoints(settings), access, login or EtcdLogin.of(settings, read_secret), seconds
        )

    def close(self) -> None:
        """Close all connections, and those of the login."""
        self._login.close()
        for member in self._members:
            member.connection.close()

    async def range(self, prefix: str, limit: int) -> FoundKeys:
        """Return the keys that begin so, `limit` at most.  Raises SiteError."""
        return (await self.txn((), [Get(prefix, True, limit)])).found[0]

    async def txn(
        self,
        compares: Iterable[Compare],
        success: Iterable[Operation],
        failure: Iterable[Operation] = (),
    ) -> EtcdTxn:
        """Carry out one branch, by whether all compares are true.

        It may be carried out more than once, and later than this returns: only the first time can
        change something where a compare is of what it changes.
        Raises LeaseGone, EtcdRefused, EtcdUnreachable.
        """
        branches = tuple(failure), tuple(success)
        body = txn_body(compares, branches[True], branches[False])
        if len(body) > MAX_REQUEST:
            raise EtcdRefused("A transaction is too large for etcd. Write less at once.")
        with _formed():
            result = parse_txn(await self._request("kv/txn", body))
            gets = [one for one in branches[result.succeeded] if isinstance(one, Get)]
            if len(result.found) != len(gets):
                raise EtcdFormatError("another number of results")
        self._demand_one_etcd(result.cluster)
        return result

    def _demand_one_etcd(self, cluster: str) -> None:
        """Refuse a member of another etcd than before: a shard has one owner in each of them."""
        if not cluster:
            return
        if self.cluster and cluster != self.cluster:
            name = self._members[0].name
            self._members.rotate(-1)
            raise EtcdUnreachable(
                f"etcd at {name} is no member of the etcd that was used so far. Name members of "
                "one etcd in endpoints in [site]; if it was made new on purpose, run systemctl "
                "restart gatewayd."
            )
        self.cluster = cluster

    async def grant(self, seconds: int) -> int:
        """Return the number of a new lease.  Raises EtcdRefused, EtcdUnreachable."""
        with _formed():
            body = await self._request("lease/grant", body_of({"TTL": str(seconds)}))
            lease = parse_lease(body)
            if not lease.number:
                raise EtcdFormatError("a lease without a number")
        self._demand_one_etcd(lease.cluster)
        return lease.number

    async def keep_alive(self, lease: int) -> None:
        """Renew a lease.  Raises LeaseGone, EtcdRefused, EtcdUnreachable."""
        with _formed():
            body = await self._request("lease/keepalive", body_of({"ID": str(lease)}))
            renewed = parse_lease(body)
            if renewed.number != lease:
                raise EtcdFormatError("another lease")
        self._demand_one_etcd(renewed.cluster)
        if not renewed.seconds:
            raise LeaseGone("The lease has ended at etcd.")

    async def revoke(self, lease: int) -> None:
        """End a lease, whose keys are deleted.  Raises EtcdRefused, EtcdUnreachable."""
        try:
            await self._request("lease/revoke", body_of({"ID": str(lease)}))
        except LeaseGone:
            return  # by an earlier try, or by itself

    async def _request(self, path: str, body: bytes) -> bytes:
        """Return the body of the first response that is final.  Raises SiteError."""
        if not self._members:
            raise EtcdUnreachable("No member of etcd is named in endpoints in [site].")
        async with self._turn:
            asked: dict[asyncio.Task[bytes], _Member] = {}
            try:
                async with asyncio.timeout(self._whole):
                    return await self._first(asked, path, body)
            except TimeoutError:
                raise EtcdUnreachable(
                    f"etcd at {', '.join(one.name for one in asked.values())} does not answer in "
                    f"{self._whole:g} s. Check that most of its members run, and reach one another."
                ) from None
            finally:
                await cancel_and_wait(asked)

    async def _first(
        self, asked: dict[asyncio.Task[bytes], _Member], path: str, body: bytes
    ) -> bytes:
        """Ask the next member where one fails, or is silent: it is waited for nevertheless.

        asked: what is under way, to be filled.
        """
        tries = self._tries
        while True:
            free = next((one for one in self._members if one not in asked.values()), None)
            if tries and free is not None:
                asked[asyncio.create_task(self._ask(free, path, body))] = free
                tries -= 1
            more = tries and len(asked) < len(self._members)
            done, _ = await asyncio.wait(
                asked, timeout=self._seconds if more else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                member, fault = asked.pop(task), task.exception()
                self._members.remove(member)
                if not isinstance(fault, EtcdUnreachable):
                    self._members.appendleft(member)
                    return task.result()
                self._members.append(member)
                if not (asked or tries):
                    raise fault

    async def _ask(self, member: _Member, path: str, body: bytes) -> bytes:
        """Return the body of one member's response.  Raises SiteError."""
        response = await self._authorised(member, path, body)
        if response.status == HTTPStatus.OK:
            return response.body
        raise _fault(member.name, response)

    async def _authorised(self, member: _Member, path: str, body: bytes) -> HttpResponse:
        """Return the response to a request with a token, logging in where that is needed."""
        token = await self._login.token()
        response = await member.post(path, body, token)
        if token and _has_no_login(response):
            response = await member.post(path, body, await self._login.token(refused=token))
        return response


async def read_bounded(client: KeyReader, get: Get) -> FoundKeys:
    """Return what a reading finds; what is too large to be read has an empty value.

    get: of a few keys, as each of them may take a request.  Raises SiteError.
    """
    try:
        return await _read(client, get)
    except EtcdUseless:
        listed = await _read(client, replace(get, without_values=True))
        pairs = [await _alone(client, pair) or pair for pair in listed.pairs]
        return FoundKeys(tuple(pairs), listed.more)


async def largest(client: KeyReader, gets: Iterable[Get]) -> str:
    """Return the key that has the largest value of all that readings find; "" where there is none.

    Raises SiteError.
    """
    sizes: dict[str, int] = {}
    for get in gets:
        listed = await _read(client, replace(get, without_values=True))
        for pair in listed.pairs:
            alone = await _alone(client, pair)
            sizes[pair.key] = len(alone.value) if alone is not None else MAX_RESPONSE
    return max(sizes, key=sizes.__getitem__, default="")


def as_one_word(key: str) -> str:
    """Return a key as it is shown: anyone who can write to etcd may have chosen it."""
    return _ODD.sub("?", key)[:MAX_SHOWN]


async def _alone(client: KeyReader, listed: KeyValue) -> KeyValue | None:
    """Return a key with its value; as it was listed where it is gone; None where too large."""
    try:
        found = await _read(client, Get(listed.key, limit=1))
    except EtcdUseless:
        return None
    return found.pairs[0] if found.pairs else listed


async def _read(client: KeyReader, get: Get) -> FoundKeys:
    return (await client.txn((), [get])).found[0]


class _Member:
    """One member of etcd, and the connection to it."""

    def __init__(self, host: str, port: int, access: EtcdAccess, seconds: float) -> None:
        self.host, self.port, self.name = host, port, authority(host, port)
        self._access, self._seconds, self._book = access, seconds, AddressBook()
        self.connection = KeptConnection(self._server)

    async def _server(self) -> Server:
        context = await self._access.context()
        return Server(
            self.host, self.port, context, self._seconds, self._seconds, book=self._book
        )  # fmt: skip

    async def post(self, path: str, body: bytes, token: str) -> HttpResponse:
        """Return the response to a request.  Raises EtcdUnreachable, EtcdRefused."""
        fields: Mapping[str, str] = {
            "Host": self.name,
            "Content-Type": "application/json",
            **({"Authorization": token} if token else {}),
        }
        request = whole_request("POST", f"/v3/{path}", fields, body, keep=True)
        try:
            return await self.connection.exchange(request, MAX_RESPONSE)
        except ConnectError as error:
            is_useless = isinstance(error.__cause__, HttpError)
            kind = EtcdUseless if is_useless else EtcdUnreachable
            raise kind(f"etcd at {self.name}: {self._why(error)}") from error
        except ConfigError as error:
            raise EtcdRefused(f"What is to be shown to etcd cannot be read: {error}") from error

    def _why(self, error: ConnectError) -> str:
        """Return why there is no answer, and what to do.

        With TLS 1.3 a member refuses the certificate that was shown, or that none was, after the
        handshake (RFC 8446, 4.4.2.4).
        """
        ended = error.__cause__
        if isinstance(ended, OSError) and alert_of(ended):
            return (
                "It does not accept the certificate that was shown, or wants one. Check "
                "certificate_file in [site], and trusted-ca-file of etcd."
            )
        if isinstance(ended, HttpError):
            return (
                f"It answers with what is of no use: {ended}. Delete what no gateway wrote below "
                "/gatewayd/, and check endpoints in [site]."
            )
        if error.fault in SILENT:
            return "The connection ended without an answer. Check that etcd runs there."
        return str(reason(error.fault, self.host, self.port, ""))


class _formed:  # noqa: N801  # a context manager, as those of contextlib
    """Have a response of another form refused."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, EtcdFormatError):
            raise EtcdRefused(
                f"What answers for etcd does not answer as etcd does: {error}. Check endpoints "
                "in [site]."
            ) from error


def _endpoints(settings: SiteSettings) -> Iterable[tuple[str, int]]:
    return filter(None, map(parse_endpoint, settings.endpoints))


def _has_no_login(response: HttpResponse) -> bool:
    if response.status == HTTPStatus.OK:
        return False
    fault = parse_fault(response.body)
    return fault.code == _UNAUTHENTICATED or any(one in fault.text for one in _NO_LOGIN)


def _fault(name: str, response: HttpResponse) -> EtcdUnreachable | EtcdRefused | LeaseGone:
    """Return the error of a response that is none of success."""
    fault = parse_fault(response.body)
    said = f"etcd at {name} says {fault.text!r} ({response.status})."
    if fault.code == _NOT_FOUND and "lease" in fault.text:
        return LeaseGone(said)
    if fault.code in _ELSEWHERE or (response.status >= HTTPStatus.INTERNAL_SERVER_ERROR):
        return EtcdUnreachable(f"{said} Check that most of its members run.")
    return EtcdRefused(f"{said} {_remedy(response.status, fault.text)}")


def _remedy(status: int, text: str) -> str:
    if "space exceeded" in text:
        return "Compact and defragment etcd, then disarm its alarm."
    if "invalid user ID or password" in text:
        return "Correct user and password in [site]."
    if "CommonName" in text:  # where etcd has users: the name might be mistaken for one
        return "Show a certificate whose subject has no common name."
    if status == HTTPStatus.FORBIDDEN:
        return "Grant the user of [site] its role at etcd."
    if status == HTTPStatus.NOT_FOUND:
        return "Check that endpoints in [site] name etcd 3.4 or newer."
    return "Check the log of etcd."
