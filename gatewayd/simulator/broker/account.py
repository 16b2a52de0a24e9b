"""A broker as the cloud of a plant: a real mosquitto with dynamic security, and who watches it.

Nothing of it is simulated but the link, which can be cut.  What children say and which are online
is what the broker's own clients and its log show.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
from base64 import b64encode
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Self

from gatewayd.errors import ConfigError
from gatewayd.simulator.account import CERTIFICATES, LOOPBACK, AccountOptions, CloudVerb
from gatewayd.simulator.broker.broker_log import DETAILS, BrokerLog
from gatewayd.simulator.broker.mosquitto import LOG, SUBSCRIBER, MosquittoProcess, find, publish

PRODUCT = "sensor"
MANAGER, OBSERVER = "gateway-1", "observer"
TOPICS = "devices/{product}/{child}"
"""Below which a child has its topics: the default of the settings of the kind "mqtt"."""
PLUGIN = "mosquitto_dynamic_security.so"
ANSWER_TIME = 20.0
MAX_SAID = 10_000
"""Messages that are remembered of all children."""
SAID_LIMIT = 1 << 20
"""Bytes of one line of the observer."""
_ITERATIONS = 101
_PORTS = range(20_000, 32_000)
_CONFIG = """\
allow_anonymous false
listener {port} 127.0.0.1
cafile {directory}/ca.pem
certfile {directory}/server.pem
keyfile {directory}/server.key
plugin {plugin}
plugin_opt_config_file {directory}/clients.json
log_dest stderr
log_type notice
log_type warning
log_type error
"""
_NUMBER = re.compile(r"password ([0-9]+)")


class BrokerAccount:
    """A broker with two users: one that manages clients, and one that watches.

    Implements CloudAccount.  A child is named by its serial number.
    """

    def __init__(self, options: AccountOptions) -> None:
        self._options = options
        self._password = {MANAGER: secrets.token_urlsafe(12), OBSERVER: secrets.token_urlsafe(12)}
        if isinstance(options.kept, dict):
            self._password = options.kept["passwords"]
        self.verbs: Mapping[str, CloudVerb] = {"reports": self._reports, "set": self._set}
        self._directory = Path()
        self._down = False
        self._inner = self.port = options.port
        self._relay: asyncio.Server | None = None
        self._linking: asyncio.Task[None] | None = None
        self._carried: set[asyncio.StreamWriter] = set()
        self._broker: MosquittoProcess | None = None
        self._observer: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._said: list[Mapping[str, Any]] = []
        self._log = BrokerLog(Path())
        self._following: asyncio.Task[None] | None = None
        self._last_written = ""
        self._numbers = count(1)

    def write(self, directory: Path) -> None:
        """Write the files of the broker, and the manager's password for gatewayd.  Blocks."""
        self._directory = own = directory / "cloud-broker"
        self._log = BrokerLog(own / LOG, self._options.journal)
        own.mkdir(exist_ok=True)
        options = self._options
        issued = CERTIFICATES[options.certificate](options.authority, options.now)
        (own / "ca.pem").write_text(options.authority.pem)
        (own / "server.pem").write_text(issued.certificate_pem)
        write_private(own / "server.key", issued.key_pem)
        self._write_users(directory)

    def _write_users(self, directory: Path) -> None:
        """Write the broker's file of users, and the manager's password for gatewayd."""
        kept = self._options.kept["clients"] if isinstance(self._options.kept, dict) else None
        self._last_written = kept or json.dumps(self._clients())
        write_private(self._directory / "clients.json", self._last_written)
        write_private(directory / "management-password", self._password[MANAGER])

    def password(self, user: str) -> str:
        """Return the password of one of the two users."""
        return self._password[user]

    def hashed(self, user: str) -> Mapping[str, object]:
        """Return it as mosquitto keeps it: salt, digest and iterations."""
        return _hashed(self._password[user])

    def _clients(self) -> Mapping[str, object]:
        """Return what mosquitto_ctrl(1) writes by "dynsec init", and a client that watches."""
        own = ("$CONTROL/dynamic-security/#",)
        return {
            "defaultACLAccess": {
                "publishClientSend": False, "publishClientReceive": True, "subscribe": False,
                "unsubscribe": True,
            },
            "clients": [
                {"username": user, "roles": [{"rolename": user}], **_hashed(password)}
                for user, password in self._password.items()
            ],
            "groups": [],
            "roles": [_role(MANAGER, own, own), _role(OBSERVER, ("devices/#",), ("devices/#",))],
        }  # fmt: skip

    async def __aenter__(self) -> Self:
        self._inner = await asyncio.to_thread(free_port)
        text = _CONFIG.format(port=self._inner, directory=self._directory, plugin=_plugin())
        await self._run(text, self._inner)
        await self._link()
        return self

    async def _run(self, text: str, port: int) -> None:
        """Run the broker, and who watches it.  port: one that it listens on."""

        async def connect() -> tuple[object, asyncio.StreamWriter]:
            return await asyncio.open_connection(LOOPBACK, port)

        if self._options.journal is not None:
            text += DETAILS
        self._broker = MosquittoProcess(self._directory, text, connect)
        await self._broker.start()
        if self._options.journal is not None:
            self._following = asyncio.create_task(self._log.follow())
        self._observer = await asyncio.create_subprocess_exec(
            find(SUBSCRIBER), *self._where(OBSERVER), "-q", "1", "-F", "%j", "-t", "devices/#",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, limit=SAID_LIMIT,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._observe(self._observer))

    async def __aexit__(self, *_: object) -> None:
        self._cut()
        await self._end()

    async def _end(self) -> None:
        """Stop the broker, and who watches it."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        if self._observer is not None and self._reading is not None:
            with contextlib.suppress(ProcessLookupError):
                self._observer.terminate()
            await self._observer.wait()
            await self._reading
        if self._broker is not None:
            await self._broker.stop()

    # What the plant asks.

    def set_faults(self, text: str, seed: int = 0) -> None:  # noqa: ARG002  # nothing is random
        """Cut the link with "down", restore it with "".  Raises ConfigError."""
        if text not in ("", "down"):
            raise ConfigError(f"A real broker has no fault {text[:32]!a}. Use down, or none.")
        was, self._down = self._down, text == "down"
        if self._down and self._relay is not None:
            self._cut()
        elif was and not self._down:
            self._linking = asyncio.create_task(self._link())

    def facts(self) -> Mapping[str, object]:
        """Return what gatewayd's configuration needs."""
        return {
            "host": "localhost", "port": self.port, "product": PRODUCT, "manager": MANAGER,
            "identity": "password",
        }  # fmt: skip

    def truth(self) -> Mapping[str, Any]:
        """Return the state of each child."""
        return {"devices": self._ledgers(self._options.serials)}

    def ledger(self, child: str) -> Mapping[str, Any]:
        """Return the counts of a child: the number of its password is how often one was made."""
        if child not in self._options.serials:
            raise KeyError(child)
        return self._ledgers((child,))[child]

    def _ledgers(self, children: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        self._log.read_on()
        counts = self._counts(children)
        return {
            child: {"online": self._user(child) in self._log.online, "registrations": counts[child]}
            for child in children
        }

    def _user(self, child: str) -> str:
        """Return the user name of a child, which is its client id, too."""
        return f"{PRODUCT}-{child}"

    def _counts(self, children: Sequence[str]) -> Mapping[str, int]:
        """Return how often each child was registered."""
        clients = json.loads(self._written())["clients"]
        marks = {one["username"]: str(one.get("textdescription")) for one in clients}
        found = {child: _NUMBER.search(marks.get(self._user(child), "")) for child in children}
        return {child: int(number[1]) if number else 0 for child, number in found.items()}

    def kept(self) -> object:
        """Return what outlives a restart."""
        return {"passwords": self._password, "clients": self._written()}

    def _written(self) -> str:
        """Return what the broker has written last.  It is not there at once, and not all of it."""
        with contextlib.suppress(OSError, ValueError):
            text = (self._directory / "clients.json").read_text()
            json.loads(text)
            self._last_written = text
        return self._last_written

    async def _reports(self, request: Mapping[str, Any]) -> object:
        """Return what a child has said, in the order of its arrival."""
        prefix = self._topic(request["child"], "up/")
        return [
            {**one, "topic": one["topic"].removeprefix(prefix)}
            for one in self._said
            if one["topic"].startswith(prefix)
        ]

    async def _set(self, request: Mapping[str, Any]) -> object:
        """Have a child set values; return its answer."""
        child, number = request["child"], f"set-{next(self._numbers)}"
        topic = self._topic(child, f"down/set/{number}")
        await publish(self._where(OBSERVER), topic, json.dumps(request["values"]))
        awaited = self._topic(child, f"up/answer/{number}")
        async with asyncio.timeout(ANSWER_TIME):
            while not (found := [one for one in self._said if one["topic"] == awaited]):
                await asyncio.sleep(0.05)
        return found[0]["body"]

    # How it is watched.

    async def _observe(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None, "it was asked for"
        async for line in process.stdout:
            one = json.loads(line)
            body: object = one["payload"]
            with contextlib.suppress(ValueError, TypeError):
                body = json.loads(str(one["payload"]))
            self._said.append({"topic": one["topic"], "body": body})
            del self._said[:-MAX_SAID]

    def _topic(self, child: str, use: str) -> str:
        if child not in self._options.serials:
            raise KeyError(child)
        return f"{TOPICS.format(product=PRODUCT, child=child)}/{use}"

    def _where(self, user: str) -> Sequence[str]:
        return (
            "-h", "localhost", "-p", str(self._inner), "--cafile",
            str(self._directory / "ca.pem"), "-u", user, "-P", self._password[user],
        )  # fmt: skip

    # The link, which can be cut.

    async def _link(self) -> None:
        if not self._down:
            self._relay = await asyncio.start_server(self._carry, self._options.address, self.port)
            self.port = self._relay.sockets[0].getsockname()[1]

    def _cut(self) -> None:
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.close()
        for writer in tuple(self._carried):
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._carried.add(writer)
        try:
            there, back = await asyncio.open_connection(LOOPBACK, self._inner)
            peer, own = writer.get_extra_info("peername"), back.get_extra_info("sockname")
            self._log.carried(own[1], peer[0])
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(reader, back))
                    both.create_task(_pump(there, writer))
            finally:
                back.transport.abort()
        except (OSError, ExceptionGroup):
            pass  # one side has closed, and so does the other
        finally:
            self._carried.discard(writer)
            writer.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()
    raise ConnectionResetError


def _role(name: str, sends: Sequence[str], reads: Sequence[str]) -> Mapping[str, object]:
    entries = [("publishClientSend", one) for one in sends]
    for kind in ("publishClientReceive", "subscribePattern"):
        entries += [(kind, one) for one in reads]
    acls = [{"acltype": kind, "topic": topic, "allow": True} for kind, topic in entries]
    return {"rolename": name, "acls": acls}


def _hashed(password: str) -> Mapping[str, object]:
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    hashed, shown = b64encode(digest).decode(), b64encode(salt).decode()
    return {"password": hashed, "salt": shown, "iterations": _ITERATIONS}


def write_private(path: Path, text: str) -> None:
    """Write a new file that no other user can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _plugin() -> str:
    """Return the path of the plugin.  Raises OSError."""
    found = next(Path("/usr/lib").glob(f"*/{PLUGIN}"), None)
    if found is None:
        raise FileNotFoundError(f"{PLUGIN} is missing: apt install mosquitto")
    return str(found)


def free_port() -> int:
    """Return a port that nothing listens on now, and that the kernel gives to no client."""
    while True:
        port = secrets.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind((LOOPBACK, port))
            return port
