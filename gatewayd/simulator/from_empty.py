"""A site from an empty console: what its owner does by commands, each shown with its output.

The console of the simulated cloud knows no product and no device.  `gatewayctl console` brings it
to what children need, `gatewayctl setup` writes gatewayd's configuration, and then they come
online.  What no command can do is done by hand in the simulated console, and said to be.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import tomllib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from gatewayd.errors import ConfigError
from gatewayd.simulator.account import LOOPBACK
from gatewayd.simulator.alibaba import account as alibaba
from gatewayd.simulator.huawei import account as huawei
from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import without_cloud
from gatewayd.simulator.story import is_online, issued

PLACE = Path("/run")
"""Where such a site is: `gatewayctl setup` takes no file that the service would not see."""
NAME, AUTHORITY = "sensors", "demo devices"
"""Of the product and of the device CA that are made."""
INSTANCE = huawei.NAMES[0]
"""The instance of Huawei's platform at which the children are."""
GATEWAYCTL = Path(sys.executable).with_name("gatewayctl")
KEY = "access-key"
"""The file with the access key of the account."""


def check() -> None:
    """Raise ConfigError where such a site cannot be."""
    if os.geteuid() != 0:
        raise ConfigError("gatewayctl setup is for root: run script/demo --from-empty as root")


@dataclass(slots=True)
class ConsoleOwner:
    """The owner of a simulated cloud's account, who sets a site up by commands in its directory.

    site: open, with an empty cloud.  show: prints what the owner does.
    there: the options of each command at the console; they are shown once.
    """

    site: Site
    show: Callable[[str], None]
    there: Sequence[str] = ()

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the site."""
        path = self.site.directory / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.touch(mode=mode)
        path.write_text(text)

    def reach(self, keys: str, *options: str) -> None:
        """Reach the console from now on.  keys: the file in which the simulator has them."""
        found = json.loads((self.site.directory / keys).read_text())
        self.write(KEY, f"{found['access_key']}\n{found['secret_key']}\n", 0o600)
        self.there = (*options, "--ca-file", "ca.pem", "--key-file", KEY)
        self.show(f"Each command at the console has the options {shlex.join(self.there)}")

    async def console(self, *words: str) -> None:
        """Run a command at the console of the cloud, and show it.  Raises RuntimeError."""
        self._say("console", self.site.cloud, *words)
        output = await self.run("console", self.site.cloud, *words, *self.there)
        self.show("\n".join(f"  {line}" for line in output.splitlines()))

    async def product(self) -> str:
        """Return the product that was made, as the console lists it.  Raises RuntimeError."""
        listed = await self.run(
            "--json", "console", self.site.cloud, "product", "list", *self.there
        )
        found = map(json.loads, listed.splitlines())
        return next(str(one["Id"]) for one in found if one["Name"] == NAME)

    async def command(self, *words: str, into: str = "") -> None:
        """Run a command of the gateway, and show it.  Raises RuntimeError.

        into: a file for its output.
        """
        self._say(*words, into=into)
        output = await self.run(*words)
        if into:
            self.write(into, f"{output}\n")

    def by_hand(self, what: str) -> None:
        """Show what is done by hand."""
        self.show(f"(by hand, in the simulated console) {what}")

    async def set_up(self, *options: str, **answers: str) -> None:
        """Answer the questions of gatewayctl setup, and place what it writes.

        The service would place it, and open its credential.  Raises RuntimeError.
        """
        place = self.site.directory
        given = {
            "interface": self.site.interface, "cloud": self.site.cloud,
            "ca_file": f"{place}/ca.pem", "admission": "list", "list": f"{place}/serials.txt",
            **answers,
        }  # fmt: skip
        lines = (f"{key} = {json.dumps(value)}\n" for key, value in given.items())
        self.write("answers.toml", "".join(lines), 0o600)
        self._say("setup", "--answers", "answers.toml")
        words = ("setup", "--answers", "answers.toml", "--config", f"{place}/gatewayd.toml")
        output = await self.run("--json", *words, "--dry-run", *options)
        for record in map(json.loads, output.splitlines()):
            self._place(record, answers.get("secret", ""))

    def _place(self, record: Mapping[str, str], secret: str) -> None:
        """Place a file that setup has shown, below the site's directory or as a credential."""
        path = Path(record.get("File", "/"))
        if "Passed" in record:
            self.show(f"  {record['Text']}")
        elif path.is_relative_to(self.site.directory):
            name = str(path.relative_to(self.site.directory))
            self.show(f"  {name}")
            self.write(name, record["Content"])
        elif secret and path.parent.name == "credstore.encrypted":
            self.show(f"  {path.name}, a credential")
            self.write(f"credentials/{path.name}", secret, 0o600)

    def _say(self, *words: str, into: str = "") -> None:
        self.show(f"$ {shlex.join(('gatewayctl', *words))}{f' >{into}' if into else ''}")

    async def run(self, *words: str) -> str:
        """Run a command, and return its output.  Raises RuntimeError."""
        process = await asyncio.create_subprocess_exec(
            str(GATEWAYCTL), *words, cwd=self.site.directory,
            env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.site.bus},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        text = output.decode().rstrip()
        if process.returncode:
            raise RuntimeError(f"{shlex.join(('gatewayctl', *words))} has failed: {text}")
        return text


async def furnish(site: Site, show: Callable[[str], None]) -> ConsoleOwner:
    """Bring the console of a site from empty to what its children need, and configure gatewayd.

    Return who has done that.  Raises RuntimeError where a command fails.
    """
    site.configure(without_cloud(site), "")
    site.gateway = ("env", f"CREDENTIALS_DIRECTORY={site.directory}/credentials")
    owner = ConsoleOwner(site, show)
    await _BEFORE[site.cloud](owner)
    return owner


async def finish(owner: ConsoleOwner) -> None:
    """Do what can be done only while gatewayd runs.  Raises RuntimeError where a command fails."""
    if (step := _AFTER.get(owner.site.cloud)) is not None:
        await step(owner)


async def compare(site: Site) -> None:
    """Compare with what the cloud has counted.  Raises AssertionError."""
    counts = [await site.ledger(child) for child in site.plant["serials"]]
    online, once = sum(map(is_online, counts)), sum(issued(ledger) == 1 for ledger in counts)
    print(f"\nThe cloud agrees: {online} devices online, {once} registered exactly once.")
    assert online == once == len(counts), "the cloud counts differently"


async def _alibaba(owner: ConsoleOwner) -> None:
    site, plant = owner.site, owner.site.plant
    owner.write("model.json", json.dumps(alibaba.MODEL))
    owner.write("names.txt", "".join(f"{one}\n" for one in plant["serials"]))
    owner.reach("open-api.json", "--endpoint", f"{plant['host']}:{plant['open_api']}")
    await owner.console(
        "prepare", "--product", NAME, "--node", "direct", "--model", "model.json",
        "--names", "names.txt", "--secret-file", "product-secret",
    )  # fmt: skip
    product = await owner.product()
    await site.ask(do="use", product=product)
    await site.ask(do="dynreg", product=product, on=True)
    owner.by_hand(f"dynamic registration is on for product {product}: the API has no call for it")
    secret = (site.directory / "product-secret").read_text().strip()
    endpoint = f"{plant['host']}:{plant['port']}"
    await owner.set_up(endpoint=endpoint, product=product, secret=secret)


_PREPARED = ("prepare", "--name", NAME, "--template", "template.json")


async def _huawei(owner: ConsoleOwner) -> None:
    """Make product and template; the device CA is made by gatewayd, which is started then."""
    site, plant = owner.site, owner.site.plant
    host = f"{INSTANCE}.st1.iotda-app.cn-north-4.myhuaweicloud.com"
    owner.reach(
        "management.json", "--endpoint", f"{host}:{plant['management']}",
        "--address", LOOPBACK, "--project", "demo",
    )  # fmt: skip
    owner.write("model.json", json.dumps([huawei.CLIMATE]))
    endpoint = f"{plant['hosts'][INSTANCE]}:{plant['port']}"
    await owner.console(
        *_PREPARED, "--services", "model.json", "--device-host", endpoint,
        "--device-ca-file", f"{site.directory}/ca.pem", "--answers", "prepared.toml",
    )  # fmt: skip
    answers = tomllib.loads((site.directory / "prepared.toml").read_text())
    await site.ask(do="use", instance=INSTANCE, product=answers["product"])
    # No name server knows the simulated instance: gatewayd connects to this machine, and a
    # preflight by setup would not.
    text = f'{without_cloud(site)}[cloud.huawei]\naddress = "{LOOPBACK}"\n'
    site.configure(text, "")
    await owner.set_up("--no-preflight", **answers)


async def _enrol(owner: ConsoleOwner) -> None:
    """Have the platform verify gatewayd's device CA, and register its devices."""
    made = ("--cloud", "huawei", "--common-name", AUTHORITY)
    await owner.command("ca", "make", *made, into="device-ca.pem")
    prove = shlex.join((str(GATEWAYCTL), "huawei", "ca", "prove", "--cloud", "huawei"))
    await owner.console(*_PREPARED, "--ca", "device-ca.pem", "--prove-with", prove)


_Steps: TypeAlias = Callable[[ConsoleOwner], Awaitable[None]]
_BEFORE: Mapping[str, _Steps] = {"alibaba": _alibaba, "huawei": _huawei}
_AFTER: Mapping[str, _Steps] = {"huawei": _enrol}
CLOUDS = tuple(_BEFORE)
"""The clouds with a console."""
