"""A site of two clouds, one of them dead: half of the children are that cloud's."""

from __future__ import annotations

from collections.abc import Sequence

from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from tests.support.dead_names import DEAD

MANY = ("--children", "0", "--late", "40", "--seed", "7")
"""Children that are announced one by one, for the plant of such a site."""
NAMES, TLS = "names", "tls"
"""How it is dead: its name is never answered, or its port accepts and says nothing."""
DEAD_CLOUD = """
[cloud.dead]
kind = "alibaba"
host = "iot-1.{domain}"
{address}
port = {port}
ca_file = "{site.directory}/ca.pem"
connect_timeout = 5
[cloud.dead.products.{site.plant[product]}]
secret_file = "{site.directory}/product-secret"
"""


def add_dead_cloud(site: Site, how: str, port: int) -> tuple[Sequence[str], Sequence[str]]:
    """Configure both clouds; return the children of the dead one, and of the healthy one.

    port: of this machine, where TCP is accepted, and then nothing comes.
    The daemon is to be started with tests.support.dead_names.
    """
    address = "" if how == NAMES else 'address = "127.0.0.1"'
    dead = DEAD_CLOUD.format(site=site, domain=DEAD, address=address, port=port)
    rule = rules(site)
    odd = rule.replace('name = "sensors"', 'name = "doomed"').replace(
        '"TH20-*"', '"TH20-*[13579BDF]"'
    )
    site.configure(config(site) + dead, odd.replace('"alibaba"', '"dead"') + rule)
    children: Sequence[str] = site.plant["serials"]
    doomed = [child for child in children if child[-1] in "13579BDF"]
    return doomed, [child for child in children if child not in doomed]
