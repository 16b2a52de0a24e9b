"""The clouds at which script/soak site plays: what gateways need there, and what each cloud says.

At all of them a child is named by its serial number.  What differs: how a user of MQTT names a
child, what a gateway is configured with, what an operator does before the first child, and where
the cloud counts how often a child was given a secret.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatewayd.simulator.alibaba.account import GATEWAY
from gatewayd.simulator.broker.account import PRODUCT
from gatewayd.simulator.huawei.account import NAMES, device_id, home
from gatewayd.simulator.site import Site

if TYPE_CHECKING:
    from script.soaking.site.gateways import SitePlant

AskPlant = Callable[..., Awaitable[Any]]
"""Sends a plant a request: a verb of simulator/control.py, with its arguments."""
_OWN_NAME = re.compile(r'services = .*\n|\[cloud\.\w+\.gateway\]\n(?:\w+ = ".*"\n)+')
"""What a configuration says of the gateway's own name at Huawei."""
RATE_OK = 3
"""CONNACK of a login that was too soon after others, which says nothing of the secret."""


class SoakCloud:
    """A cloud of the kind alibaba: children register by themselves.

    Also what others differ from.  node: as of gatewayd-simulator.  route: of all children.
    """

    kind = "alibaba"
    files: Sequence[str] = ("ca.pem", "product-secret", "gateway-secret", "serials.txt")
    value = "CurrentTemperature"
    node, route, piece = "direct", "", ""

    def child(self, user: str) -> str:
        """Return the child of a user of MQTT; "" for a user that is none."""
        return user.partition("&")[0]

    def configuration(self, text: str, _address: str) -> str:
        """Return a configuration for a plant on another host.  address: of the cloud there."""
        return text

    async def own_secret(self, _plant: SitePlant) -> str:
        """Return the secret of the gateways' own name, as their operator would copy it; or ""."""
        return ""

    async def prepare(self, site: Site, name: str, ask: AskPlant) -> None:
        """Do what an operator does at a gateway that runs, before the first child.

        name: of the gateway.  ask: sends the plant a request.
        """

    def ledgers(self, truth: Mapping[str, Any], product: str) -> Mapping[str, Mapping[str, Any]]:
        """Return what the cloud counts of each child.  truth: what it says of itself."""
        found: Mapping[str, Mapping[str, Any]] = truth["devices"][product]
        return found

    def refused(self, ledger: Mapping[str, Any]) -> int:
        """Return how many logins of a child were refused for what it showed."""
        codes: Mapping[str, int] = ledger.get("refused_logins", {})
        return sum(count for code, count in codes.items() if int(code) != RATE_OK)

    def issued(self, _ledger: Mapping[str, Any]) -> int:
        """Return how many secrets a child was given, where registrations are no CONNECTs."""
        return 1


class BehindCloud(SoakCloud):
    """Alibaba, with all children behind the gateways' own name, which is one piece."""

    node = route = "sub-device"
    piece = "/".join(GATEWAY)

    def configuration(self, text: str, _address: str) -> str:
        """Have all gateways log in by one secret, which their operator has copied."""
        own = Path(text.partition('secret_file = "')[2].partition('"')[0]).parent / "own-secret"
        return text.replace("register = true", f'secret_file = "{own}"')

    async def own_secret(self, plant: SitePlant) -> str:
        """Return the secret of the gateways' own name, as their operator would copy it."""
        product, name = GATEWAY
        await plant.ask(do="use", product=product)
        secret = await plant.ask(do="secret", child=name)
        await plant.ask(do="use", product=plant.facts["product"])
        return str(secret)


class HuaweiCloud(SoakCloud):
    """Two instances of Huawei, with children that have certificates of a CA of each gateway."""

    kind, route = "huawei", "certificate"
    files = ("ca.pem", "template.json", "serials.txt")
    value = '"climate:temperature"'

    def child(self, user: str) -> str:
        """Return the child: a user is the id of a device."""
        return user.rpartition("_")[2]

    def configuration(self, text: str, address: str) -> str:
        """Leave out the gateway's own name, which children with certificates do not need."""
        return _OWN_NAME.sub("", text).replace("127.0.0.1", address)

    async def prepare(self, site: Site, name: str, ask: AskPlant) -> None:
        """Make a device CA for each instance, and have that verify it."""
        for cloud in NAMES:
            named = ("common-name", "s", f"{cloud} of {name}")
            options = ("2", *named, "algorithm", "s", "ec-p256")
            made = await site.authority(cloud, "Make", "a{sv}", *options)
            code = await ask(do="upload", instance=cloud, pem=made)
            proof = await site.authority(cloud, "Prove", "s", code)
            await ask(do="verify", instance=cloud, pem=proof)

    def ledgers(self, truth: Mapping[str, Any], _product: str) -> Mapping[str, Mapping[str, Any]]:
        """Return what the instance of each child counts of it."""
        devices = [one["devices"] for one in truth["instances"].values()]
        children = {self.child(device): device for known in devices for device in known}
        return {
            child: truth["instances"][home(child)]["devices"][device]
            for child, device in children.items()
            if device == device_id(child)
        }

    def issued(self, ledger: Mapping[str, Any]) -> int:
        """Return how many certificates a child has logged in with."""
        return len(ledger["certificates_sha256"])


class BrokerCloud(SoakCloud):
    """A broker, at which gateways create a client with a password for each child."""

    kind = "mqtt"
    files = ("ca.pem", "management-password", "serials.txt")
    value = "temperature"

    def child(self, user: str) -> str:
        """Return the child; who manages clients is none."""
        return user.removeprefix(f"{PRODUCT}-") if user.startswith(f"{PRODUCT}-") else ""

    def configuration(self, text: str, address: str) -> str:
        """Have the broker reached at its address; its certificate is of another name."""
        return text.replace("[cloud.plant]\n", f'[cloud.plant]\naddress = "{address}"\n', 1)

    def ledgers(self, truth: Mapping[str, Any], _product: str) -> Mapping[str, Mapping[str, Any]]:
        """Return whether each child is online, and the number of its password."""
        found: Mapping[str, Mapping[str, Any]] = truth["devices"]
        return found

    def issued(self, ledger: Mapping[str, Any]) -> int:
        """Return how many passwords a child was given."""
        return int(ledger["registrations"])


CLOUDS: Mapping[str, type[SoakCloud]] = {
    "alibaba": SoakCloud,
    "alibaba-behind": BehindCloud,
    "huawei": HuaweiCloud,
    "mqtt": BrokerCloud,
}
"""By what is given to --cloud."""
