"""Common mistakes in a site, and why a site is not as it should be: for the demo, and its tests.

A mistake is made in a site that is open and not started; what gatewayd or the cloud then says is to
name it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gatewayd.simulator.alibaba import account as alibaba
from gatewayd.simulator.huawei.account import CLIMATE
from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules

Spoil: TypeAlias = Callable[[Site], Awaitable[None]]
_FINE = frozenset({"online", "pending"})
"""States of devices that need no explanation."""
_NOWHERE = "none.st1.iotda-device.cn-north-4.myhuaweicloud.com"
"""A domain of the vendor's form, of no instance."""
SHOWN = 5
"""Reasons that are shown, the most frequent first."""


async def _nothing(_: Site) -> None:
    """Leave the site as it is: the mistake is in the options of its plant."""


async def _unknown_host(site: Site) -> None:
    """Name a host that is no instance's."""
    text = config(site).replace(site.plant["hosts"]["east"], _NOWHERE)
    site.configure(text, rules(site))


async def _other_instance(site: Site) -> None:
    """Name the host of another instance of the same account."""
    hosts = site.plant["hosts"]
    site.configure(config(site).replace(hosts["east"], hosts["west"]), rules(site))


async def _other_region(site: Site) -> None:
    """Name a region in which the account has no instance."""
    host = f'host = "{site.plant["host"]}"'
    text = config(site)
    assert host in text, "as site_files.py has it"
    there = f'region = "{alibaba.OTHER_REGION}"\naddress = "{site.plant["host"]}"'
    site.configure(text.replace(host, there), rules(site))


async def _wrong_password(site: Site) -> None:
    """Give gatewayd another password than the broker has of its manager."""
    (site.directory / "management-password").write_text("another")


async def _unfit_tsl(site: Site) -> None:
    """Have a product whose model lacks a property that its devices report."""
    reported = alibaba.MODEL["properties"]
    kept = [one for one in reported if one["identifier"] != "RelativeHumidity"]
    await site.ask(do="model", tsl={**alibaba.MODEL, "properties": kept})


async def _unfit_model(site: Site) -> None:
    """Have a product whose model lacks a property that its devices report."""
    reported = CLIMATE["properties"]
    assert isinstance(reported, list), "as account.py has it"
    kept = [one for one in reported if one["property_name"] != "humidity"]
    await site.ask(do="model", services=[{**CLIMATE, "properties": kept}])


@dataclass(frozen=True, slots=True)
class SiteMistake:
    """A mistake.  plant: options of the simulator.  spoil: makes it in an open site."""

    plant: tuple[str, ...] = ()
    spoil: Spoil = _nothing


MISTAKES: Mapping[str, Mapping[str, SiteMistake]] = {
    "alibaba": {
        "route": SiteMistake(plant=("--node", "sub-device")),  # the rule says nothing: direct
        "region": SiteMistake(spoil=_other_region),
        "model": SiteMistake(spoil=_unfit_tsl),
    },
    "huawei": {
        "host": SiteMistake(spoil=_unknown_host),
        "instance": SiteMistake(spoil=_other_instance),
        "model": SiteMistake(spoil=_unfit_model),
    },
    "mqtt": {
        "password": SiteMistake(spoil=_wrong_password),
        "authority": SiteMistake(plant=("--certificate", "wrong-host")),
    },
}
"""By cloud and name."""


async def explain(site: Site) -> list[str]:
    """Return why devices are not online, with what to do about it; nothing where all are."""
    found = Counter[str]()
    for row in await site.call("ListDevices"):
        if row[1] in _FINE:
            continue
        properties = await site.call("DescribeDevice", "s", row[0])
        said = {name: value["data"] for name, value in properties.items()}
        if said["Reason"]:
            found[f"{said['Explanation']}  {said['Remedy']}".rstrip()] += 1
    return [
        f"{count} device{'s' if count > 1 else ''}: {reason}"
        for reason, count in found.most_common(SHOWN)
    ]


async def check_report(site: Site, child: str) -> str:
    """Have a child's reading reported; return why the cloud discards it, or ""."""
    why = await site.ask(do="report", child=child)
    return f"The cloud discards what {child} reports: {why}." if why else ""
