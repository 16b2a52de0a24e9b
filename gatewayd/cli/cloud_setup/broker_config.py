"""The command that prints what a broker needs to be the cloud of this gateway.

It needs no running daemon, and asks the broker nothing.  What it prints was tried with mosquitto
2.0.11 and 2.0.21, as Debian 12 and 13 have them: mosquitto.conf(5), mosquitto_ctrl_dynsec(1).
"""

from __future__ import annotations

import shlex
import sysconfig
from argparse import Namespace
from collections.abc import Iterator, Sequence

from gatewayd.cli.command import Command, Connect, add_config, argument, arguments
from gatewayd.cli.output import safe
from gatewayd.cli.output.fields import Record, text, texts
from gatewayd.cloud.mqtt_broker.dynamic_security import REQUEST
from gatewayd.cloud.mqtt_broker.settings import (
    CERTIFICATE,
    BrokerManagement,
    MqttBrokerSettings,
)
from gatewayd.config import ConfiguredPlugin, load
from gatewayd.errors import GatewayError
from gatewayd.plugins import Plugins
from gatewayd.settings.files import ConfigPaths

_DEFAULT = "x86_64-linux-gnu"
CLIENTS = "/var/lib/mosquitto/clients.json"
CONFIGURATION = "/etc/mosquitto/conf.d/gateways.conf"
ACCESS = "/etc/mosquitto/gateways.acl"
DEVICES, REVOKED = "devices-ca.pem", "revoked.pem"
"""The certificate of the device CA, and the list of what it has revoked."""
ROLE = "gateways"
"""The role of the users by which gateways manage their clients."""
_CERTIFICATES = "/etc/mosquitto/certs"
_RIGHTS = ("publishClientSend", "publishClientReceive", "subscribePattern")


def configuration_lines(settings: MqttBrokerSettings, multiarch: str) -> Sequence[str]:
    """Return the lines of CONFIGURATION.

    multiarch: Debian's word for the architecture of the broker's machine, as "x86_64-linux-gnu".
    """
    websocket = ["protocol websockets"] if settings.websocket else []
    server = (f"certfile {_CERTIFICATES}/server.pem", f"keyfile {_CERTIFICATES}/server.key")
    if settings.identity == CERTIFICATE:
        return (
            "per_listener_settings false",
            "allow_anonymous false",
            f"acl_file {ACCESS}",
            f"listener {settings.port}",
            *server,
            f"cafile {_CERTIFICATES}/{DEVICES}",
            f"crlfile {_CERTIFICATES}/{REVOKED}",
            "require_certificate true",
            "use_identity_as_username true",
        )
    return (
        "per_listener_settings false",
        "allow_anonymous false",
        f"listener {settings.port}",
        *websocket,
        f"cafile {_CERTIFICATES}/ca.pem",
        *server,
        f"plugin /usr/lib/{multiarch}/mosquitto_dynamic_security.so",
        f"plugin_opt_config_file {CLIENTS}",
    )


def access_lines(settings: MqttBrokerSettings) -> Sequence[str]:
    """Return the lines of ACCESS: each user has its own topics alone; none for dynamic security.

    A child reads what it says, too: so it finds out whether it may say it.
    """
    if settings.identity != CERTIFICATE:
        return ()
    up, down = settings.templates.patterns()
    return (f"pattern readwrite {up}", f"pattern read {down}")


def first_commands(settings: MqttBrokerSettings) -> Sequence[str]:
    """Return the commands of root on the machine of the broker.

    For dynamic security they make the first client, its administrator.
    """
    if settings.identity == CERTIFICATE:
        return (
            f"chown mosquitto: {ACCESS}",
            f"chmod 0600 {ACCESS}",
            "systemctl restart mosquitto",
        )
    return (
        f"mosquitto_ctrl dynsec init {CLIENTS} admin",
        f"chown mosquitto: {CLIENTS}",
        "systemctl restart mosquitto",
    )


def authority_commands(cloud: str) -> Sequence[str]:
    """Return the commands on the gateway whose output the broker needs, as DEVICES and REVOKED."""
    return (
        f"gatewayctl ca make --cloud {cloud} >{DEVICES}",
        f"gatewayctl ca revoked --cloud {cloud} >{REVOKED}",
    )


def user_commands(management: BrokerManagement) -> Iterator[str]:
    """Yield the administrator's commands that make the user of this gateway, and its role."""
    topic, user = shlex.quote(f"{REQUEST.rpartition('/')[0]}/#"), management.user
    yield f"mosquitto_ctrl dynsec createRole {ROLE}"
    for right in _RIGHTS:
        yield f"mosquitto_ctrl dynsec addRoleACL {ROLE} {right} {topic} allow"
    yield f"mosquitto_ctrl dynsec createClient {user}"
    yield f"mosquitto_ctrl dynsec addClientRole {user} {ROLE}"


def _chosen(arguments: Namespace) -> Sequence[ConfiguredPlugin]:
    """Return the clouds that are brokers.  Raises GatewayError."""
    configured = load(ConfigPaths.of(arguments.config), Plugins.installed()).clouds
    brokers = [one for one in configured if isinstance(one.settings, MqttBrokerSettings)]
    chosen = [one for one in brokers if arguments.name in ("", one.name)]
    if not brokers:
        raise GatewayError(
            'No cloud of the kind "mqtt" is configured. Follow /usr/share/doc/gatewayd/mqtt.md'
        )
    if not chosen:
        names = ", ".join(one.name for one in brokers)
        raise GatewayError(
            f'{arguments.name!a} is no cloud of the kind "mqtt". Use one of: {names}'
        )
    return chosen


def _records(_connect: Connect, arguments: Namespace) -> Iterator[Record]:
    multiarch = sysconfig.get_config_var("MULTIARCH") or _DEFAULT
    for one in _chosen(arguments):
        own, access = one.settings.management, access_lines(one.settings)
        commands = authority_commands(one.name) if own is None else user_commands(own)
        yield {
            "Cloud": one.name,
            "File": CONFIGURATION,
            "Configuration": "\n".join((*configuration_lines(one.settings, multiarch), "")),
            "AccessFile": ACCESS if access else "",
            "Access": "".join(f"{line}\n" for line in access),
            "FirstCommands": [*first_commands(one.settings)],
            "Commands": [*commands],
        }


def _lines(connect: Connect, arguments: Namespace) -> Iterator[str]:
    for one in _records(connect, arguments):
        access = one["Access"].splitlines()
        if access:
            yield f"# On the gateway; what is printed belongs into {_CERTIFICATES} of the broker:"
            yield from one["Commands"]
        yield f"# On the machine of the broker of {safe(one['Cloud'])}, {one['File']}:"
        yield from one["Configuration"].splitlines()
        if access:
            yield f"# There, {one['AccessFile']}:"
            yield from access
            yield "# Then, as root:"
            yield from one["FirstCommands"]
            continue
        yield "# Then, as root, unless it has dynamic security already:"
        yield from one["FirstCommands"]
        yield "# Then, with the options that name the broker and its administrator:"
        yield from one["Commands"]


# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("broker-config",
            "print what a broker needs to be a cloud of this gateway (asks it nothing)",
            arguments(argument("name", nargs="?", default="",
                               help='name of a cloud of the kind "mqtt" (default: all)'),
                      add_config),
            _lines, _records,
            (text("Cloud", "its name"), text("File", "where the broker's configuration belongs"),
             text("Configuration", "the lines of that file"),
             text("AccessFile", 'where the access list belongs; "" for none'),
             text("Access", 'the lines of that file; "" for none'),
             texts("FirstCommands", "what root runs at the broker; for passwords it makes the "
                                    "first client"),
             texts("Commands", "what makes the user of this gateway and its role, by the "
                               "broker's administrator; for certificates what runs on the "
                               "gateway"))),
)
# fmt: on
