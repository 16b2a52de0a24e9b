"""Takes pictures of the page in Cockpit, on a booted gateway with simulated children.

python -m tools.cockpit_pictures PACKAGES DIRECTORY [bookworm|trixie]

PACKAGES: what script/deb has built.  Each view is taken light and dark, 1,440 and 360 pixels wide:
overview-light-1440.png.  As root, with what script/setup test installs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.integration.lan import namespaces
from tests.support.browser import Browser, browser
from tests.system import cockpit
from tests.system.conftest import booted, gateway_root, in_memory
from tests.system.gateway import Gateway, install
from tests.system.plant import plant

CHILDREN, WAITING = 12, 4
SIZES = ((1440, 900), (360, 740))
STYLE = """
localStorage.setItem("shell:style", arguments[0]);
const event = { detail: { style: arguments[0] } };
for (const one of [window, window.parent])
    one.dispatchEvent(new CustomEvent("cockpit-style", event));
"""


def main(packages: Path, pictures: Path, release: str = "trixie") -> None:
    """Boot a gateway, bring some of its children online, and take the pictures."""
    pictures.mkdir(parents=True, exist_ok=True)
    root = gateway_root(release, packages)
    with (
        tempfile.TemporaryDirectory() as scratch,
        namespaces() as (inside, children),
        plant(Path(scratch) / "plant", children, "--children", str(CHILDREN)) as running,
    ):
        memory = Path(scratch) / "memory"
        memory.mkdir()
        with (
            in_memory(memory),
            booted([root], (inside[-1], running), memory) as gateway,
            cockpit.reachable(gateway) as address,
            browser() as page,
        ):
            _prepare(gateway, packages)
            cockpit.log_in(page, address, "root")
            _take_all(gateway, page, pictures)


def _prepare(gateway: Gateway, packages: Path) -> None:
    """Install all, and have some children online and others wait."""
    install(gateway.box, *(one for one in packages.glob("*.deb") if "simulator" not in one.name))
    cockpit.give_passwords(gateway, "root")
    gateway.configure(action="ask")
    gateway.box.until(lambda: gateway.counts().get("pending") == CHILDREN, "the children to wait")
    for child in sorted(gateway.children())[WAITING:]:
        gateway.call("Approve", "ss", child, "")
    gateway.await_online(CHILDREN - WAITING)


def _take_all(gateway: Gateway, page: Browser, pictures: Path) -> None:
    child = min(gateway.children())
    _take(page, pictures, "overview")
    page.use("tab Children")
    page.until(lambda: len(page.texts("tbody tr")) == CHILDREN, "the children")
    _take(page, pictures, "children")
    page.use(f"open {child}")
    page.until(lambda: page.shown(".history"), "the history")
    _take(page, pictures, "child")
    page.use("ignore")
    page.until(lambda: page.shown("dialog .code"), "the rule")
    _take(page, pictures, "ignore")
    page.press("\ue00c")
    page.use("tab Setup")
    page.until(lambda: page.shown("[name=interface]"), "the questions")
    _take(page, pictures, "setup")


def _take(page: Browser, pictures: Path, view: str) -> None:
    for style in ("light", "dark"):
        page.driver.execute_script(STYLE, style)
        for width, height in SIZES:
            page.picture(pictures / f"{view}-{style}-{width}.png", width, height)
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
