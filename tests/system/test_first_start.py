"""apt installs the package, and gatewayd runs: with a key of its own, then with children online."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import pytest

from gatewayd.cli.main import commands_for
from gatewayd.cli.output import PROTECTION_TEXTS
from tests.support.gatewayctl import validate
from tests.support.pseudo_terminal import on_terminal
from tests.system.conftest import CHILDREN, TOP
from tests.system.gateway import KEY, Gateway, install

pytestmark = pytest.mark.system


def test_the_first_start_is_the_last_and_a_file_of_answers_brings_children_online(
    bare: Gateway, package: Path
) -> None:
    begin = time.monotonic()
    install(bare.box, package)
    _has_started_for_the_first_time(bare)
    _is_set_up_by_answers(bare)
    print(f"{time.monotonic() - begin:.1f} s from apt install to all children online")
    assert bare.shown("NRestarts") == "0"
    _exposes_little(bare)
    _takes_more_answers_and_refuses_what_is_none(bare)


def _has_started_for_the_first_time(bare: Gateway) -> None:
    assert bare.shown("ActiveState") == "active"
    assert bare.shown("NRestarts") == "0"
    bare.await_state("running")
    assert bare.box.path(KEY).stat().st_mode & 0o777 == 0o600
    made = bare.box.journal("--boot", "--unit", "gatewayd-vault-keygen")
    assert PROTECTION_TEXTS["key-on-disk"] in made
    assert bare.box.run("systemctl", "--failed", "--plain", "--no-legend") == ""


def _exposes_little(bare: Gateway) -> None:
    assert bare.box.run("systemd-analyze", "--man=no", "verify", "gatewayd.service") == ""
    told = bare.box.run("systemd-analyze", "--no-pager", "--threshold=11", "security", "gatewayd")
    assert "Overall exposure level for gatewayd.service: " in told


ANSWERS = """\
interface = "lan0"
cloud = "alibaba"
endpoint = "{facts[host]}:{facts[port]}"
ca_file = "/etc/gatewayd/ca.pem"
product = "{facts[product]}"
secret = "{secret}"
admission = "list"
"""


def give_files(gateway: Gateway) -> None:
    """Put what an operator has at hand in place."""
    for name in ("ca.pem", "serials.txt"):
        gateway.box.write(f"/etc/gatewayd/{name}", gateway.plant.text(name))


def is_set_up(gateway: Gateway) -> None:
    gateway.await_online(CHILDREN)
    gateway.await_state("running")
    assert set(gateway.plant.secrets_issued().values()) == {1}
    secret = gateway.plant.text("product-secret").strip()
    found = gateway.box.run("sh", "-c", f"grep -rl {secret} /etc /var/lib /run || true")
    assert [name for name in found.split() if not name.startswith("/run/credentials/")] == []
    assert secret not in gateway.box.journal("--boot")


def _is_set_up_by_answers(bare: Gateway) -> None:
    give_files(bare)
    secret = bare.plant.text("product-secret").strip()
    answers = ANSWERS.format(facts=bare.plant.facts, secret=secret)
    told = bare.box.run("gatewayctl", "setup", "--answers", "-", input=answers)
    assert "There is no recovery key yet" in told
    assert secret not in told
    is_set_up(bare)


def _takes_more_answers_and_refuses_what_is_none(bare: Gateway) -> None:
    words = bare.box.run("gatewayctl", "vault", "add-recovery")
    assert "Added the key slot recovery-" in words
    again = ("gatewayctl", "--json", "setup", "--answers", "-")
    told = bare.box.run(*again, input='admission = "approval"\n')
    validate(told, next(one.fields for one in commands_for(()) if one.words == "setup"), 0)
    assert "There is no recovery key yet" not in told
    assert 'action = "ask"' in bare.box.path("/etc/gatewayd/rules.d/50-setup.toml").read_text()
    is_set_up(bare)

    refused = bare.refused("gatewayctl", "setup", "--answers", "/etc/hostname")
    assert "The answers are not TOML" in refused
    is_set_up(bare)


def test_the_same_typed_on_a_terminal_and_an_image_of_it_says_cloned(new: Gateway) -> None:
    _is_set_up_on_a_terminal(new)
    _says_cloned_where_an_image_of_it_starts(new)


def _is_set_up_on_a_terminal(new: Gateway) -> None:
    give_files(new)
    facts, secret = new.plant.facts, new.plant.text("product-secret").strip()
    answers = (
        # it has one interface, which is offered
        ("On which network interface", ""), ("Which service", ""), ("Which cloud", "1"),
        ("Where is it", f"{facts['host']}:{facts['port']}"),
        ("Which root certificates", "/etc/gatewayd/ca.pem"),
        ("Which product", facts["product"]), ("What is the secret", secret),
        ("What may join", "1"), ("Which TXT record", ""), ("Where is the list", ""),
        ("Write them?", ""),
    )  # fmt: skip
    assert len(answers) <= 12
    begin = time.monotonic()
    with on_terminal([*new.box.inside, "gatewayctl", "setup", "--watch", "1"]) as terminal:
        for question, answer in answers:
            terminal.wait_for(question)
            terminal.wait_for("] " if not answer else "> ")  # typed before, it would be echoed
            terminal.type(answer)
        assert terminal.end() == 0, terminal.shown
    is_set_up(new)
    print(
        f"{time.monotonic() - begin:.1f} s from the first question to all children online: "
        f"{len(answers)} questions, {terminal.keystrokes} keystrokes"
    )
    assert secret not in terminal.shown
    assert "There is no recovery key yet" in terminal.shown

    with on_terminal([*new.box.inside, "gatewayctl", "setup", "--watch", "0"]) as terminal:
        terminal.wait_for("Which is to change")
        terminal.type("")
        assert terminal.end() == 0
    assert "(sealed)" in terminal.shown
    assert "nothing was written" in terminal.shown


def _says_cloned_where_an_image_of_it_starts(new: Gateway) -> None:
    new.box.power_off()
    (new.box.changes / "upper/etc/machine-id").write_text("")
    new.box.boot()
    new.await_state("cloned")
    assert new.shown("ActiveState") == "active"
    assert new.counts().get("online", 0) == 0


WATCHED = " --watch 20"
"""How long the quick start has a reader watch: here the state is awaited."""


@pytest.mark.parametrize("cloud", ["alibaba", "huawei"])
def test_the_quick_start_brings_the_children_of_the_simulator_online(
    new: Gateway, packages: Path, cloud: str
) -> None:
    install(new.box, *packages.glob("gatewayd-simulator_*.deb"))
    simulator, *commands = typed_without_a_cloud(cloud)
    assert len([simulator, *commands, "gatewayctl list"]) <= 6
    begun = ("systemd-run", "--quiet", "--unit=simulator")
    new.box.run(*begun, *shlex.split(simulator), "--cloud", cloud)
    new.box.until(
        new.box.path(f"{shlex.split(simulator)[-1]}/plant.json").exists, "the simulator to run"
    )
    *before, last = (command.replace(WATCHED, " --watch 0") for command in commands)
    assert last != commands[-1]
    for command in (*before, last):
        new.box.run("sh", "-c", command)
    online = re.compile("^child-[0-9a-f]+ +online", re.M)
    new.box.until(lambda: online.search(new.box.run("gatewayctl", "list")), "a child to be online")
    shown = new.box.run("sh", "-c", last)
    assert re.search("^child-[0-9a-f]+ is online", shown, re.M)


def typed_without_a_cloud(cloud: str) -> list[str]:
    """Return the commands of the quick start for the simulator of a cloud."""
    text = (TOP / "docs/quick-start.md").read_text()
    section = text.partition("## Without a cloud")[2].partition("\n## ")[0]
    typed = re.findall("^    (.+)", section, re.M)
    return [one for one in typed if cloud == "huawei" or "/etc/hosts" not in one]
