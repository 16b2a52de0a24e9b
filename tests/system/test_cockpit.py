"""The page in Cockpit, in a browser, by the keyboard alone: Cockpit 287 of Debian 12, 337 of 13."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support.browser import BACK, Browser, browser
from tests.system import cockpit
from tests.system.gateway import Gateway, install
from tests.system.test_first_start import give_files

pytestmark = pytest.mark.system

OPERATOR, STRANGER = "olga", "mallory"
METERS = 5000
HOSTILE = "<img src=x onerror=alert(1)>"
MAC = "00:80:f4:00:00:01"
PHONE = (360, 740)
SITE_RULES = "/etc/gatewayd/rules.d/40-site.toml"


@pytest.fixture
def page() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture
def served(new: Gateway, packages: Path) -> Iterator[tuple[Gateway, str]]:
    """A gateway that is not set up, with 5,000 listed meters and Cockpit, and its address."""
    (package,) = packages.glob("cockpit-gatewayd_*.deb")
    install(new.box, package)
    meters = [f"meter-{number:04}" for number in range(METERS - 1)] + [HOSTILE]
    new.box.write("/etc/gatewayd/conf.d/60-meters.toml", "[discovery]\nsettle = 0.5\n" + "".join(
        f'[[discovery.static.devices]]\nkey = "{key}"\nserial = "PM-{number:05}"\n'
        f'address = "10.77.{2 + number // 250}.{1 + number % 250}"\n'
        + (f'mac = "{MAC}"\n' if key == HOSTILE else "")
        for number, key in enumerate(meters)
    ))  # fmt: skip
    give_files(new)
    new.box.run("useradd", "--create-home", "--groups", "gatewayd-operator", OPERATOR)
    new.box.run("useradd", "--create-home", STRANGER)
    cockpit.give_passwords(new, "root", OPERATOR, STRANGER)
    with cockpit.reachable(new) as address:
        yield new, address


def test_the_gateway_is_worked_by_the_keyboard_alone(
    served: tuple[Gateway, str], page: Browser
) -> None:
    gateway, address = served
    cockpit.log_in(page, address, "root")
    _sets_up(gateway, page)
    _ignores(gateway, page)
    first = _sensors(gateway)[0]

    cockpit.log_in(page, address, STRANGER, alone=True)
    _is_refused(gateway, page, first)

    cockpit.log_in(page, address, OPERATOR, alone=True)
    _sees_why_and_approves(gateway, page, first)
    _rejects(gateway, page)
    _opens_the_window(gateway, page)
    _searches(page)
    _fits_a_phone(page)
    assert [one for one in page.complaints() if "/gatewayd/" in one] == []


def _sensors(gateway: Gateway) -> list[str]:
    """Return the ids of the simulated children."""
    filters = ("a{sv}su", "1", "text", "s", "TH-20", "", "0")
    return [row[0] for row in gateway.call("ListDevicesFiltered", *filters)]


def _state(gateway: Gateway, child: str) -> str:
    return str(gateway.call("DescribeDevice", "s", child)["State"]["data"])


def _sets_up(gateway: Gateway, page: Browser) -> None:
    facts, secret = gateway.plant.facts, gateway.plant.text("product-secret").strip()
    page.use("tab Setup")
    page.until(lambda: page.shown("[name=interface]"), "the questions")
    page.choose("cloud", "alibaba")
    for name, answer in (
        ("endpoint", f"{facts['host']}:{facts['port']}"), ("ca_file", "/etc/gatewayd/ca.pem"),
        ("product", facts["product"]), ("secret", secret),
    ):  # fmt: skip
        page.tab_to(name)
        page.type(answer)
    page.choose("admission", "approval")
    page.use("run")
    page.until(lambda: "Done" in page.texts("main .alert strong"), "the end of setup")
    assert secret not in page.driver.page_source
    gateway.box.until(
        lambda: gateway.counts().get("pending") == METERS + len(gateway.plant.facts["serials"]),
        "the children to wait",
    )


def _is_refused(gateway: Gateway, page: Browser, child: str) -> None:
    """Everybody sees; polkit decides who changes, and its refusal is shown."""
    page.until_text("Waiting for approval (5,0", "main")
    page.use(f"approve {child}")
    page.until_text("org.gatewayd1.approve-device", "[data-refusal]")
    assert _state(gateway, child) == "pending"
    page.use("tab Setup")
    page.until_text("turn on administrative access", "main")


def _sees_why_and_approves(gateway: Gateway, page: Browser, child: str) -> None:
    page.use(f"why {child}")
    page.until_text("Rule setup leaves the decision to the operator", "main .explanation")
    page.until_text("Seen", "main .history")
    page.use("tab Overview")
    page.use(f"approve {child}")
    gateway.box.until(lambda: _state(gateway, child) == "online", "it to be online")
    page.until_text("is approved", "#live")
    page.until(lambda: not page.shown(f"[data-id='{child}']"), "the queue without it")
    page.until(
        lambda: str(page.focused()[0]).startswith("approve "), "the keyboard to go on with the next"
    )
    gateway.await_entry(f"Approved by {OPERATOR}")


def _rejects(gateway: Gateway, page: Browser) -> None:
    meter = str(page.focused()[0]).removeprefix("approve ")
    page.use(f"reject {meter}")
    page.until(lambda: "note" in page.focused(), "the dialog")
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.shown("dialog"), "the end of the dialog")
    page.until(lambda: f"reject {meter}" in page.focused(), "the focus where it was")
    page.press(Keys.ENTER)
    page.until(lambda: "note" in page.focused(), "the dialog")
    page.type("not ours")
    page.press(Keys.ENTER)
    gateway.box.until(lambda: _state(gateway, meter) == "rejected", "it to be rejected")
    (decision,) = gateway.call("ListDecisions", "a{sv}u", "1", "device", "s", meter, "0")
    assert decision[2:5] == ["rejected", meter, OPERATOR]
    assert decision[6] == "not ours"


def _opens_the_window(gateway: Gateway, page: Browser) -> None:
    page.use("join")
    page.until(lambda: "minutes" in page.focused(), "the dialog")
    page.type("2")
    page.press(Keys.ENTER)
    page.until(lambda: page.text(".clock").startswith("1:"), "the clock")
    assert gateway.property("JoinState") == "open"
    page.use("join")
    page.until(lambda: not page.shown(".clock"), "the end of the window")
    assert gateway.property("JoinState") == "closed"


def _searches(page: Browser) -> None:
    page.use("tab Children")
    page.until(lambda: len(page.texts("tbody tr")) == 50, "the first page")
    page.use("list next")
    page.until_text("100 of 5,003", ".pager")
    page.tab_to("search", BACK)
    page.type("pm-04321")
    page.until(lambda: page.texts("tbody th a") == ["meter-4321"], "the one")
    page.type(HOSTILE)
    page.until(lambda: page.texts("tbody th a") == [HOSTILE], "its name, as a text")
    assert not page.shown("img")
    page.type("nothing of the kind")
    page.until_text("No child matches", "main")
    page.type("")
    page.choose("state", "rejected")
    page.until(lambda: page.texts("tbody .label") == ["Rejected", "Rejected"], "the two")
    page.until_text("1–2 of 2", ".pager")  # noqa: RUF001  # as the page has it


def _fits_a_phone(page: Browser) -> None:
    page.resize(*PHONE)
    for view in ("Setup", "Children", "Overview"):
        page.use(f"tab {view}")
        page.until(lambda: page.shown("main .card, main .alert"), view)
        assert page.excess() <= 0, view


def _ignores(gateway: Gateway, page: Browser) -> None:
    """A device on which no rule decides, by its vendor."""
    page.use("tab Children")
    page.tab_to("search")
    page.type(HOSTILE)
    page.until(lambda: len(page.texts("tbody tr")) == 1, "the one")
    child = page.text("tbody th .mono")
    page.use(f"open {child}")
    page.use("ignore")
    page.until(lambda: page.shown("dialog .code"), "the rule")
    assert 'action = "ignore"' in page.text("dialog .code")
    page.use("Ignore")
    page.until_text("has action ignore", "main .explanation")
    assert _state(gateway, child) == "rejected", "it is listed, so it stays to be seen"
    assert 'action = "ignore"' in gateway.box.run("cat", SITE_RULES)
