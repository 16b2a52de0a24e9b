"""Cockpit on a booted gateway, for a browser outside: its own socket, its own login."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator

from selenium.webdriver.common.keys import Keys

from tests.support.browser import Browser
from tests.system.gateway import Gateway

PORT = 9090
ALONE = "/cockpit/@localhost/gatewayd/index.html"
FRAME = "cockpit1:localhost/gatewayd"
PASSWORD = "p4ssword-of-a-test"


@contextlib.contextmanager
def reachable(gateway: Gateway) -> Iterator[str]:
    """Yield the address at which a browser of this machine reaches Cockpit, until the block ends.

    The listening socket is of this network, and what accepts from it is in that of the gateway.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        script = (
            f"exec 3<&{listening.fileno()}; export LISTEN_PID=$$ LISTEN_FDS=1;"
            f" exec systemd-socket-proxyd 127.0.0.1:{PORT}"
        )
        proxy = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{gateway.namespace}", "env",
             "PATH=/usr/lib/systemd:/lib/systemd:/usr/bin:/bin", "bash", "-c", script],
            pass_fds=[listening.fileno()],
        )  # fmt: skip
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            proxy.terminate()
            proxy.wait()


def give_passwords(gateway: Gateway, *users: str) -> None:
    """Let these users log in, even root, whom Debian 13 lists as one who may not."""
    gateway.box.run("chpasswd", input="".join(f"{user}:{PASSWORD}\n" for user in users))
    gateway.box.write("/etc/cockpit/disallowed-users", "")


def log_in(browser: Browser, address: str, user: str, *, alone: bool = False) -> None:
    """Log in as a user, by the keyboard, and go into the page of gatewayd, once it shows something.

    alone: without what Cockpit shows around a page.
    """
    browser.driver.delete_all_cookies()
    browser.open(f"{address}{ALONE if alone else '/gatewayd'}")
    browser.until(lambda: browser.shown("#login-user-input"), "the login")
    browser.tab_to("login-user-input")
    browser.press(*user, Keys.TAB)
    browser.press(*PASSWORD, Keys.ENTER)
    if not alone:
        browser.into(FRAME)
    browser.until(lambda: browser.shown("html[data-ready='yes']"), "the page")
