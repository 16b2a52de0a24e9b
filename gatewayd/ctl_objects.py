"""The commands of gatewayctl about what is beside the children: clouds, the store, diagnostics."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from gatewayd import ctl_text as text
from gatewayd.ctl_commands import Client, Command, Connect
from gatewayd.errors import GatewayError
from gatewayd.status.names import GATEWAY, PROVIDER, STORE, Place, provider_path


def _clouds(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    client = connect()
    return text.clouds(client.properties(_cloud(name)) for name in _configured(client))


def _cloud_test(connect: Connect, arguments: Namespace) -> Iterator[str]:
    client, name = connect(), arguments.name
    configured = _configured(client)
    if name not in configured:
        known = ", ".join(configured) or "none"
        raise GatewayError(f"There is no such cloud: configured are {known}")
    client.call("Test", at=_cloud(name))
    yield f"The cloud {text.safe(name)} can be used."


def _configured(client: Client) -> list[str]:
    return list(client.properties(GATEWAY)["Providers"])


def _cloud(name: str) -> Place:
    return Place(provider_path(name), PROVIDER)


def _store(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    return text.store(connect().properties(STORE))


def _dump(connect: Connect, arguments: Namespace) -> Iterator[str]:
    with os.fdopen(connect().call("Dump"), "rb") as diagnostics:
        found = diagnostics.read()
    if arguments.output is None:
        yield found.decode("ascii", "replace")
    else:
        _write(arguments.output, found)


def _write(path: Path, found: bytes) -> None:
    """Write a file, a new one for its owner alone: names and addresses of devices are in it."""

    def create(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    try:
        with open(path, "wb", opener=create) as file:
            file.write(found)
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {error.strerror}") from error


def _none(_parser: ArgumentParser) -> None:
    pass


def _name(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="the name of the cloud, as in the configuration")


def _output(parser: ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there")


OBJECTS = (
    Command("clouds", "list the clouds", _none, _clouds),
    Command("cloud test", "look whether a cloud could be used now; registers nothing", _name,
            _cloud_test),
    Command("store status", "tell how the secrets are kept", _none, _store),
    Command("dump", "print all that is known, for a report of a fault", _output, _dump),
)  # fmt: skip
