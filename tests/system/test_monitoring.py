"""A booted gateway is watched: node_exporter serves its metrics, and each cause starts a unit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gatewayd.monitoring.causes import Cause
from tests.system import roots
from tests.system.conftest import CHILDREN, EXPORTER
from tests.system.gateway import KEY, Gateway

pytestmark = pytest.mark.system

PRODUCT = "6742bf260f2f9030e44210d8"
SITE = f"""\
[log]
level = "debug"
[metrics]
enabled = true
every = 1
[notices]
hold = 2
pending_after = 1
certificate_days = 3650
outbox_percent = 1
[messages]
enabled = true
keep = 1048576
[messages.child]
share = 1048576
[cloud.alibaba]
port = 9
[cloud.huawei]
host = "0123456789.st1.iotda-device.cn-north-4.myhuaweicloud.com"
products = ["{PRODUCT}"]
[cloud.huawei.certificates]
template_file = "/etc/gatewayd/template.json"
"""
"""Nothing listens at port 9: the cloud of the children is away."""

AWAY = """\
[site]
name = "plant"
gateway = "gateway-a"
endpoints = ["https://127.0.0.1:9"]
"""
"""No etcd is there."""

NOTIFY = """\
[Service]
Type=oneshot
ExecStart=sh -c 'echo "%i: $(cat /run/gatewayd-notices/standing/%i)" >> /root/noticed'
"""

TEXTS = "/var/lib/prometheus/node-exporter"
SERVE = (
    "systemd-run", "--quiet", "--unit=exporter", "--property=DynamicUser=yes",
    f"/opt/exporter/usr/bin/{EXPORTER}",
    "--collector.disable-defaults", "--collector.textfile",
    f"--collector.textfile.directory={TEXTS}", "--web.listen-address=127.0.0.1:9100",
)  # fmt: skip
FETCH = (
    "python3", "-c",
    "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9100/metrics').read().decode())",
)  # fmt: skip


def noticed(gateway: Gateway) -> list[str]:
    """The causes for which the operator's unit was started, in their order."""
    path = gateway.box.path("/root/noticed")
    return (
        [line.partition(":")[0] for line in path.read_text().splitlines()] if path.exists() else []
    )


def await_notice(gateway: Gateway, cause: Cause, times: int = 1) -> None:
    gateway.box.until(lambda: noticed(gateway).count(cause) >= times, f"a notice of {cause}")


def begin(gateway: Gateway) -> None:
    """Configure the gateway, with a unit of the operator's; its children are pending."""
    box = gateway.box
    template = box.run("gatewayctl", "huawei", "template", "new", "--product", PRODUCT,
                       "--node-id", "common_name")  # fmt: skip
    box.write("/etc/gatewayd/template.json", template)
    box.write("/etc/gatewayd/conf.d/60-watched.toml", SITE)
    box.write("/etc/systemd/system/gatewayd-notify@.service", NOTIFY)
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "enable", "--now", "--quiet", "gatewayd-notices.path")
    gateway.configure(action="ask")
    box.until(lambda: gateway.counts().get("pending") == CHILDREN, "the children to be pending")


def have_metrics_served(gateway: Gateway, exporter: Path) -> None:
    """Serve the metrics by node_exporter, as a user who may read what everyone may."""
    box = gateway.box
    (box.path("/opt") / exporter.name).write_bytes(exporter.read_bytes())
    box.run("dpkg-deb", "--extract", f"/opt/{exporter.name}", "/opt/exporter")
    box.run("mkdir", "-p", TEXTS)
    box.run("ln", "-s", "/run/gatewayd-metrics/gatewayd.prom", f"{TEXTS}/")
    box.run(*SERVE)
    pending = f'gatewayd_children{{cloud="",state="pending"}} {CHILDREN}'
    box.until(lambda: pending in _served(gateway), "node_exporter to serve them")
    assert "node_textfile_scrape_error 0" in _served(gateway)


def _served(gateway: Gateway) -> str:
    return gateway.box.run("sh", "-c", '"$@" 2>&1 || true', "sh", *FETCH)


def test_metrics_are_served_and_each_cause_starts_a_unit_once(
    new: Gateway, root: Path, tmp_path: Path
) -> None:
    box = new.box
    begin(new)
    (exporter,) = roots.spares(root, (EXPORTER,))
    have_metrics_served(new, exporter)
    await_notice(new, Cause.PENDING)
    await_notice(new, Cause.STORE)  # its key lies on the same disk

    child = min(new.children())
    box.run("gatewayctl", "approve", child)
    await_notice(new, Cause.CLOUD)
    box.run("gatewayctl", "ca", "make", "--cloud", "huawei")
    await_notice(new, Cause.CERTIFICATE)
    password = box.run("gatewayctl", "door", "password", child)
    authority = tmp_path / "ca.pem"
    authority.write_text(box.run("gatewayctl", "door", "authority"))
    full = json.dumps({"Text": "x" * 20_000})
    box.until(lambda: new.publish(child, password, authority, full) == 0, "the child to publish")
    await_notice(new, Cause.OUTBOX)

    box.write("/etc/gatewayd/conf.d/70-site.toml", AWAY)
    new.systemctl("restart")
    await_notice(new, Cause.SITE)

    key = bytes.fromhex(box.run("sh", "-c", f"systemd-creds decrypt {KEY} - | od -An -v -tx1"))
    new.systemctl("stop")
    box.run("rm", KEY)
    new.systemctl("start")
    await_notice(new, Cause.STORE, times=2)  # sealed
    box.until(lambda: _written(new) > 0, "metrics of the gateway that is sealed")
    counted = _written(new)
    box.until(lambda: _written(new) > counted + 5, "it to look some times more")
    assert sorted(noticed(new)) == sorted([*Cause, Cause.STORE]), new.journal()
    has_no_secret(new, [password, new.plant.text("product-secret"), key.hex()])
    texts = box.path("/root/noticed").read_text()
    assert f"{CHILDREN} children wait for an operator" in texts
    assert (
        box.run("systemctl", "show", "--value", "-p", "ActiveState", "gatewayd-notices.path")
        == "active"
    )


def has_no_secret(gateway: Gateway, secrets: list[str]) -> None:
    """Look for secrets in the dump, which has the journal of what happened at the lowest level."""
    dumped = json.loads(gateway.box.run("gatewayctl", "dump", "--no-preflight"))
    lines = dumped["journal"]["lines"]
    assert dumped["journal"]["fault"] == ""
    assert any(" is pending" in line for line in lines)
    assert any("gatewayd-notices" in line for line in lines)
    assert dumped["versions"]["packages"]["gatewayd"]
    text = json.dumps(dumped)
    assert all(len(one.strip()) >= 8 for one in secrets)
    assert [one for one in secrets if one.strip() in text] == []


def _written(gateway: Gateway) -> int:
    """When the metrics were written last, in seconds: some moments after it has looked."""
    written = "stat --format=%Y /run/gatewayd-metrics/gatewayd.prom || echo 0"
    return int(gateway.box.run("sh", "-c", written))
