"""The configuration of a site: templates, to be formatted with the site."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatewayd.errors import ConfigError
from gatewayd.simulator.alibaba import account as alibaba
from gatewayd.simulator.broker.site_broker import COMMAND, RESULT, TOPIC

if TYPE_CHECKING:
    from gatewayd.simulator.site import Site

_COMMON = """\
[gateway]
state_directory = "{site.directory}/state"
[bus]
address = "{site.bus}"
"""

SWIFT = """\
[discovery]
settle = 0.5
probe_wait = 0.5
probe_spread = 0.5
probe_gap = 1
[discovery.mdns]
interfaces = ["{site.interface}"]
types = ["_gatewayd-child._tcp"]
[registration]
quiet_time = 1
retry_first = 1
[sessions]
retry_first = 1
retry_refused = 2
per_minute = 60
"""
"""Waits that are short enough for a test or a demo."""

ANNOUNCED = 'source = "mdns", service = "_gatewayd-child._tcp"'
"""The match of a rule for the children's announcements."""

_VAULT = """\
[secretstore.vault]
key = "development-file"
"""

_ALIBABA = """\
[cloud.alibaba]
host = "{site.plant[host]}"
port = {site.plant[port]}
ca_file = "{site.directory}/ca.pem"
preregistration_free = true
[cloud.alibaba.products.{site.plant[product]}]
secret_file = "{site.directory}/product-secret"
"""
_DEVICE_SECRETS = 'device_directory = "{site.directory}/device-secrets"\n'

_ALIBABA_GATEWAY = """\
[cloud.alibaba.products.{key}]
secret_file = "{directory}/gateway-secret"
[cloud.alibaba.gateway]
product = "{key}"
device = "{name}"
register = true
report_found = true
"""
"""The further settings for sub-devices."""

_HUAWEI = """\
[cloud.{name}]
kind = "huawei"
host = "{host}"
address = "127.0.0.1"
port = {site.plant[port]}
ca_file = "{site.directory}/ca.pem"
products = ["{site.plant[product]}"]
services = {{ "{site.plant[gateways]}" = "gateway" }}
[cloud.{name}.certificates]
template_file = "{site.directory}/template.json"
key_algorithm = "{site.key_algorithm}"
[cloud.{name}.gateway]
product = "{site.plant[gateways]}"
device = "{site.plant[gateway]}"
login = "secret"
secret_file = "{site.directory}/{name}-gateway-secret"
"""

_MQTT = """\
[cloud.plant]
kind = "mqtt"
host = "{site.plant[host]}"
port = {site.plant[port]}
ca_file = "{site.directory}/ca.pem"
products = ["{site.plant[product]}"]
identity = "{site.plant[identity]}"
"""
_MANAGEMENT = """\
[cloud.plant.management]
user = "{site.plant[manager]}"
password_file = "{site.directory}/management-password"
"""

_MESSAGES = """\
[messages]
enabled = true
[messages.broker]
enabled = false
[messages.doors.site]
socket = "{socket}"
[[messages.doors.site.topics]]
topic = "{topic}"
values = {{ {values} }}
"""
"""The door to the site's broker: a child publishes under its name at the cloud."""

_VALUES: Mapping[str, str] = {
    "alibaba": 'CurrentTemperature = "temperature"',
    "huawei": '"climate:temperature" = "temperature"',
    "mqtt": 'temperature = "temperature"',
}
"""What a child measures, as each cloud's model of its product names it."""

_COMMANDS = """\
[[messages.doors.site.commands]]
kind = "set"
topic = "{topic}"
values = {{ {values} }}
answer = "{answer}"
"""
_SETTINGS: Mapping[str, str] = {
    "alibaba": 'ReportInterval = "interval"',
    "huawei": '"climate:interval" = "interval"',
    "mqtt": 'interval = "interval"',
}
"""What the cloud may set of a child, as its model names it."""

_RULE = """\
# A sensor on the operator's list is admitted; any other waits for approval.
[[rule]]
name = "{name}"
match = {{ {found}, "txt.serial" = "{serials}" }}
extract = {{ serial = "txt.serial ~ (TH20-[0-9A-F]{{6}})" }}
list = "{directory}/serials.txt"
action = "{action}"
provider = "{provider}"
product = "{product}"
device_name = "{{serial}}"
route = "{route}"
limits = {{ devices = 100000 }}
commands = {commands}
"""


_LOOK = """\
[discovery.mdns]
interfaces = ["{site.interface}"]
types = ["_gatewayd-child._tcp"]
"""
PLACE = Path("/etc/gatewayd")
"""Where an installed gatewayd has its files."""
_OPEN, _SECRET = "0644", "0640"
_FILES: Mapping[str, Mapping[str, str]] = {
    "alibaba": {"ca.pem": _OPEN, "serials.txt": _OPEN, "product-secret": _SECRET},
    "huawei": {
        "ca.pem": _OPEN, "serials.txt": _OPEN, "template.json": _OPEN,
        "east-gateway-secret": _SECRET, "west-gateway-secret": _SECRET,
    },
    "mqtt": {"ca.pem": _OPEN, "serials.txt": _OPEN, "management-password": _SECRET},
}  # fmt: skip
"""The files of a plant that an installed gatewayd needs, and their modes."""


@dataclass(frozen=True, slots=True)
class InstalledSite:
    """An installed gatewayd on the machine of a plant.

    plant: its plant.json.  interface: name of the one on which the children are.
    """

    plant: Mapping[str, Any]
    interface: str
    directory: Path = PLACE
    key_algorithm: str = "ec-p256"
    commanded: bool = False

    @property
    def cloud(self) -> str:
        """The kind of the plant's cloud."""
        return str(self.plant["cloud"])

    @property
    def route(self) -> str:
        """That of all rules."""
        return "sub-device" if self.plant["node"] == "sub-device" else ""

    def printed(self, plant: Path) -> Iterator[str]:
        """Yield what brings the plant's children online, as commands and files.

        plant: its directory.
        """
        files = dict(_FILES[self.cloud])
        if self.cloud == "alibaba" and self.route:
            files["gateway-secret"] = _SECRET
        yield "# As root:"
        for name, mode in files.items():
            owner = " -g gatewayd" if mode == _SECRET else ""
            yield f"install -m {mode}{owner} {plant / name} {self.directory / name}"
        yield f"# {self.directory}/conf.d/60-plant.toml:"
        yield _LOOK.format(site=self) + _CLOUDS[self.cloud](self)
        yield f"# {self.directory}/rules.d/60-plant.toml:"
        yield rules(self)
        yield "# Then: systemctl restart gatewayd"

    def answers(self, plant: Path) -> Iterator[str]:
        """Yield the answers to gatewayctl setup, as lines of TOML; they hold the secret.

        plant: its directory.  Raises OSError if the secret cannot be read, and ConfigError for a
        plant that gatewayctl setup cannot set up.
        """
        facts, instance, user = self.plant, "east", ""
        if self.cloud == "huawei":
            host, secret = facts["hosts"][instance], f"{instance}-gateway-secret"
        elif self.cloud == "alibaba" and not self.route:
            host, secret = facts["host"], "product-secret"
        elif self.cloud == "mqtt" and facts["identity"] == "password":
            host, secret, user = facts["host"], "management-password", f"{facts['manager']}@"
        else:
            raise ConfigError(
                "gatewayctl setup cannot set this simulator up. Use --configuration in place of "
                "--answers"
            )
        answers = {
            "interface": self.interface, "cloud": self.cloud,
            "endpoint": f"{user}{host}:{facts['port']}",
            "ca_file": f"{self.directory}/ca.pem", "product": facts["product"],
            "secret": (plant / secret).read_text().strip(), "admission": "list",
        }  # fmt: skip
        if self.cloud == "huawei":
            answers["gateway"] = f"{facts['gateways']}/{facts['gateway']}"
        yield from (f"{name} = {json.dumps(value)}" for name, value in answers.items())


def without_cloud(site: Site) -> str:
    """Return gatewayd.toml without what `gatewayctl setup` writes: a cloud, and where to look."""
    mdns = SWIFT[SWIFT.index("[discovery.mdns]") : SWIFT.index("[registration]")]
    return (_COMMON + SWIFT.replace(mdns, "") + _VAULT).format(site=site) + _door(site)


def config(site: Site, tuning: str = SWIFT) -> str:
    """Return gatewayd.toml.

    tuning: the tables discovery, registration and sessions, to be formatted with the site.
    """
    return (_COMMON + tuning + _VAULT).format(site=site) + _CLOUDS[site.cloud](site) + _door(site)


def _door(site: Site) -> str:
    if site.broker is None:
        return ""
    said, set_, answer = (one.format(child="{name}") for one in (TOPIC, COMMAND, RESULT))
    text = _MESSAGES.format(socket=site.broker.socket, topic=said, values=_VALUES[site.cloud])
    if site.commanded:
        text += _COMMANDS.format(topic=set_, values=_SETTINGS[site.cloud], answer=answer)
    return text


def rules(site: Site | InstalledSite, *, found: str = ANNOUNCED, action: str = "register") -> str:
    """Return the rules: one for each provider.  action: for a listed child."""
    return "".join(
        _RULE.format(
            name=name, found=found, serials=serials, action=action, provider=provider,
            product=site.plant["product"], route=site.route or route, directory=site.directory,
            commands=json.dumps(["set"] if site.commanded else []),
        )
        for name, serials, provider, route in _PROVIDERS[site.cloud]
    )  # fmt: skip


def _alibaba(site: Site | InstalledSite) -> str:
    text = _ALIBABA.format(site=site)
    if not isinstance(site, InstalledSite):
        text += _DEVICE_SECRETS.format(site=site)
    if site.route.startswith("sub-device"):
        key, name = alibaba.GATEWAY
        text += _ALIBABA_GATEWAY.format(directory=site.directory, key=key, name=name)
    return text


def _huawei(site: Site | InstalledSite) -> str:
    hosts = site.plant["hosts"]
    return "".join(_HUAWEI.format(site=site, name=name, host=hosts[name]) for name in hosts)


def _mqtt(site: Site | InstalledSite) -> str:
    by_password = "manager" in site.plant
    return (_MQTT + _MANAGEMENT if by_password else _MQTT).format(site=site)


_CLOUDS: Mapping[str, Callable[[Site | InstalledSite], str]] = {
    "alibaba": _alibaba,
    "huawei": _huawei,
    "mqtt": _mqtt,
}
_PROVIDERS: Mapping[str, tuple[tuple[str, str, str, str], ...]] = {
    "alibaba": (("sensors", "TH20-*", "alibaba", ""),),
    "huawei": (
        ("east-sensors", "TH20-*[02468ACE]", "east", "certificate"),
        ("west-sensors", "TH20-*[13579BDF]", "west", "sub-device"),
    ),
    "mqtt": (("sensors", "TH20-*", "plant", ""),),
}
"""Name of the rule, its serial numbers, its provider, and the route where the site has none."""
