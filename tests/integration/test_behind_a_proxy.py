"""A factory's firewall: nothing leads out but a proxy, and that only to the cloud's host."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

import pytest

from gatewayd.simulator.site import Site, run
from gatewayd.simulator.site_files import config, rules
from tests.integration.lan import CHILDREN, NETWORK, namespaces
from tests.support.tinyproxy import tinyproxy

pytestmark = [pytest.mark.integration, pytest.mark.namespace]

WORD = "Zk7qXv92"
LATE = ("--children", "3", "--interface", CHILDREN, "--network", NETWORK)
"""The cloud is on the loopback interface of the children's namespace: gatewayd has no way to it."""

ROUTES = {"alibaba": "sub-device-secret", "huawei": "sub-device"}
ONLY = ["^127[.]0[.]0[.]1$"]
"""What the proxy lets through: the cloud's host, as it is seen from there."""


def proxied(site: Site, proxy: str, *, transport: str = "tcp") -> str:
    text = config(site)
    text = re.sub(r"(?m)^(ca_file = .*)$", rf'\1\ntransport = "{transport}"', text)
    return text + f'[network]\nproxy = "{proxy}"\nproxy_file = "{site.directory}/proxy-secret"\n'


@pytest.mark.parametrize("cloud", list(ROUTES))
async def test_children_come_online_through_the_proxy_alone(cloud: str, tmp_path: Path) -> None:
    """By MQTT over TLS, and after a restart by WebSocket: registered once, and no word is told."""
    with namespaces() as (gateway, children):
        site = Site(tmp_path, gateway, children, "lan0", LATE, cloud, ROUTES[cloud])
        lines = [f"BasicAuth factory {WORD}"]
        with tinyproxy(lines, allowed=ONLY, address=CHILDREN, inside=children) as proxy:
            async with site.open():
                port = site.plant["port"]
                with pytest.raises(RuntimeError, match="refused"):
                    await run(*gateway, "bash", "-c", f"</dev/tcp/127.0.0.1/{port}")
                file = tmp_path / "proxy-secret"
                file.touch(mode=0o600)
                file.write_text(f"factory:{WORD}\n")
                url = f"http://{CHILDREN}:{proxy.port}"
                for transport in ("tcp", "websocket"):
                    site.configure(proxied(site, url, transport=transport), rules(site))
                    await site.start()
                    for child in site.plant["serials"]:
                        await site.wait_for(child, "online")
                        ledger = await site.ledger(child)
                        assert (ledger["online"], ledger["registrations"]) == (True, 1)
                    truth = (await site.ask(do="truth"))["cloud"]
                    upgrades = truth["server"].get("websockets", 0)
                    assert (upgrades > 0) is (transport == "websocket")
                    assert await site.stop() == 0
        log = site.log()
    for secret in (WORD, b64encode(f"factory:{WORD}".encode()).decode()):
        assert secret not in log
