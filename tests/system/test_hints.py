"""Every command that we print is run on a booted gateway, as it is printed."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.pseudo_terminal import on_terminal
from tests.system.box import LOOK, PATIENCE
from tests.system.conftest import CHILDREN
from tests.system.gateway import Gateway
from tests.system.hint_plan import PLAN, Stage, Way, entry_of, filled, to_run
from tests.system.test_first_start import ANSWERS, give_files

pytestmark = pytest.mark.system

ANY_RELEASE = "trixie"
"""One is enough: the commands are ours, and are the same on all."""
INTERRUPTED, NOT_ACTIVE = 130, 3
PART = 600
"""Characters of what a command has said that are shown of its beginning, and of its end."""
HUAWEI = "0123456789.st1.iotda-device.cn-north-4.myhuaweicloud.com"
SITE = f"""\
[messages]
enabled = true
[cloud.huawei]
host = "{HUAWEI}"
products = ["6742bf260f2f9030e44210d8"]
[cloud.huawei.certificates]
template_file = "/etc/gatewayd/template.json"
"""
SIGHTING = '{"source": "mdns", "attributes": {"service": "_gatewayd-child._tcp"}}\n'


class Scene:
    """A gateway on which commands are run.  child: an id.  slot: a key slot to spare."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.box = gateway, gateway.box
        self.stage = Stage.SERVED
        self.child = self.slot = self.words = ""

    def set_up(self, request: bytes) -> None:
        """Bring the children online, with a broker and a second cloud.  request: a CSR, PEM."""
        give_files(self.gateway)
        secret = self.gateway.plant.text("product-secret").strip()
        answers = ANSWERS.format(facts=self.gateway.plant.facts, secret=secret)
        self.box.write("/root/answers.toml", answers)
        self.box.write("/root/sightings", SIGHTING)
        self.box.write("/root/request.pem", request.decode())
        self.box.run("gatewayctl", "setup", "--answers", "/root/answers.toml")
        template = self.box.run(
            "gatewayctl", "huawei", "template", "new", "--product", "6742bf260f2f9030e44210d8",
            "--node-id", "common_name",
        )  # fmt: skip
        for path in ("/etc/gatewayd/template.json", "/root/template.json"):
            self.box.write(path, template)
        self.box.write("/etc/gatewayd/conf.d/60-site.toml", SITE)
        self.box.write("/srv/try.toml", "[discovery]\nsettle = 1.0\n")
        self.gateway.systemctl("restart")
        self.gateway.await_online(CHILDREN)
        self.child = min(self.gateway.children())
        self.words = self._recovery_key()["Words"]
        self.slot = self._recovery_key()["Slot"]

    def _recovery_key(self) -> dict[str, str]:
        made: dict[str, str] = json.loads(
            self.box.run("gatewayctl", "vault", "add-recovery", "--json")
        )
        return made

    def enter(self, stage: Stage) -> None:
        """Bring about what is so in a stage."""
        if stage is Stage.ASKED:
            self.box.run("gatewayctl", "reject", self.child)
        if stage is self.stage:
            return
        self.stage = stage
        if stage is Stage.STOPPED:
            self.gateway.systemctl("stop")
        if stage is Stage.LAST:
            self.gateway.systemctl("start")
            self.gateway.await_online(CHILDREN - 1)  # one was rejected last

    def run(self, words: Sequence[str], way: Way) -> tuple[int, str]:
        """Run a command; return its exit status, and all that it says."""
        command = [*self.box.inside, *words]
        if way.typed:
            with on_terminal(command) as terminal:
                for prompt, line in way.typed:
                    terminal.wait_for(prompt)
                    terminal.type(line)
                if way.endless:
                    terminal.interrupt()
                return terminal.end(), terminal.shown
        if way.endless:
            return interrupted(command)
        ran = subprocess.run(
            command, input=way.given.replace("WORDS", self.words), text=True, timeout=150,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        return ran.returncode, ran.stdout


def interrupted(command: Sequence[str]) -> tuple[int, str]:
    """Run a command on a terminal, and press Ctrl-C once it has waited for the bus for a second.

    It may print nothing before something happens; and while Python still loads it, Ctrl-C would end
    it with a traceback.  One that ends by itself is not interrupted.
    """
    with on_terminal(command) as terminal:
        end, looks = time.monotonic() + PATIENCE, 0
        while looks * LOOK < 1.0 and time.monotonic() < end and terminal.runs():
            time.sleep(LOOK)
            looks = looks + 1 if terminal.is_served() else 0
        if terminal.runs():
            terminal.interrupt()
        return terminal.end(), terminal.shown


def fault(way: Way, status: int, said: str) -> str:
    """Return what is wrong with how a command has ended; "" for nothing."""
    if "Traceback" in said:
        return "a traceback"
    if status == (INTERRUPTED if way.endless else 0):
        return ""
    refused = status in (1, NOT_ACTIVE) and way.refused and re.search(way.refused, said)
    return "" if refused else f"exit status {status}"


@pytest.mark.parametrize("release", [ANY_RELEASE], indirect=True, ids=["once"])
def test_every_command_that_is_printed_runs(new: Gateway, tmp_path: Path) -> None:
    make = (
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout k"
    )
    request = subprocess.run(make.split(), cwd=tmp_path, capture_output=True, check=True).stdout
    scene = Scene(new)
    scene.set_up(request)
    wrong, done = [], set()
    planned = sorted((PLAN[entry_of(words)].stage, words) for words in to_run())
    for stage, words in planned:
        way = PLAN[entry_of(words)]
        command = filled(words, way, scene.child, scene.slot)
        if (entry_of(words), *command) in done:  # of another child, say
            continue
        done.add((entry_of(words), *command))
        scene.enter(stage)
        status, said = scene.run(command, way)
        if why := fault(way, status, said):
            shown = said if len(said) <= 2 * PART else f"{said[:PART]} … {said[-PART:]}"
            wrong.append(f"{' '.join(words)}: {why}: {shown}")
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
