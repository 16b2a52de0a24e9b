"""Setup for a broker of one's own: a real mosquitto is tried, and clients are created by what is
written."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.cli.setup.plan import SetupPlan, plan
from gatewayd.cli.setup.questions import KEPT, complete
from gatewayd.cloud.provider import Issued
from gatewayd.config import ConfiguredPlugin, load
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.plugins import Plugins
from gatewayd.settings.files import ConfigPaths
from gatewayd.testing.contracts.cloud import RecordingKeeper
from tests.cli.setup.test_questions import MACHINE
from tests.cloud.mqtt_broker.brokers import MANAGER, PASSWORD, ManagedBroker, managed_broker
from tests.support.pseudo_terminal import on_terminal

OFFERED = {
    "Which service",
    "Answer these",
    "Below which topics",
    "Which TXT record",
    "Where is the",
}
"""The beginnings of questions with an answer that Enter accepts."""
GATEWAYCTL = "import sys; from gatewayd.cli.main import main; sys.exit(main())"
TOPICS = "plants/7/{product}/{device}"


class SetupSite:
    """A directory that the service would see, unlike those below /tmp, and gatewayctl there."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._config = directory, directory / "gatewayd.toml"
        self._config.touch()
        self.list = directory / "serials.txt"
        self.list.write_text("PM-0001\n")

    def answers(self, one: ManagedBroker, roots: Path) -> Mapping[str, str]:
        """Return the answers by which a broker of a test is reached.  roots: its CA, or another."""
        ca_file = self._directory / "ca.pem"
        ca_file.write_text(roots.read_text())
        return {
            "interface": "lo", "cloud": "mqtt", "endpoint": f"{MANAGER}@localhost:{one.relay.port}",
            "ca_file": str(ca_file), "product": "meter", "topics": TOPICS, "secret": PASSWORD,
            "admission": "list", "list": str(self.list),
        }  # fmt: skip

    def written(self, todo: SetupPlan) -> ConfiguredPlugin:
        """Write the files of a plan; return the cloud that gatewayd reads there."""
        for name, text in todo.files.items():
            file = self._directory / name
            file.parent.mkdir()
            file.write_text(text)
            file.chmod(0o644)
        (cloud,) = load(ConfigPaths.of(self._config), Plugins.installed()).clouds
        return cloud

    def typed(self, typed: Sequence[tuple[str, str]]) -> str:
        """Type answers to questions, in a run that writes nothing; return what was shown."""
        with on_terminal(self._command("--dry-run")) as terminal:
            for question, answer in typed:
                terminal.wait_for(question)
                terminal.wait_for("] " if question in OFFERED else "> ")  # else it is echoed
                terminal.type(answer)
            assert terminal.end() == 0, terminal.shown
        return self._untouched(terminal.shown)

    def refused(self, answers: Mapping[str, str]) -> str:
        """Give a file of answers that does not do; return what was shown."""
        file = self._directory / "answers.toml"
        file.write_text("".join(f"{key} = {answer!r}\n" for key, answer in answers.items()))
        with on_terminal(self._command("--answers", str(file))) as terminal:
            assert terminal.end() == 1, terminal.shown
        return self._untouched(terminal.shown)

    def _untouched(self, shown: str) -> str:
        assert PASSWORD not in shown
        assert list(self._directory.glob("*.d")) == []
        return shown

    def _command(self, *options: str) -> list[str]:
        program = (sys.executable, "-c", GATEWAYCTL)
        return [*program, "setup", "--config", str(self._config), *options]


@pytest.fixture
def site() -> Iterator[SetupSite]:
    with tempfile.TemporaryDirectory(dir="/srv", prefix="setup-") as name:
        yield SetupSite(Path(name))


@pytest.mark.integration
@pytest.mark.root
async def test_what_is_written_creates_the_client_of_a_child(site: SetupSite) -> None:
    async with managed_broker() as one:
        given = await asyncio.to_thread(site.answers, one, one.directory / "ca.pem")
        answers, faults = complete(given, replace(MACHINE, interfaces=("lo",)))
        assert not faults
        todo = plan(answers)
        cloud = await asyncio.to_thread(site.written, todo)
        sealed = {todo.credential: Secret(todo.secret.encode())}
        provider = cloud.plugin(cloud.name, cloud.settings, lambda name, _: sealed[name])
        child, kept = CloudName(cloud.name, "meter", "PM-0001"), RecordingKeeper()
        assert isinstance(await provider.register(child, kept.keep), Issued)
        session = await provider.connect(child, kept.secrets[0])
        await session.close()
        await provider.close()
        clients = await asyncio.to_thread(one.store.read_text)
    assert '"meter-PM-0001"' in clients
    assert '"plants/7/meter/PM-0001/up/#"' in clients


@pytest.mark.integration
@pytest.mark.root
async def test_it_is_asked_on_a_terminal_and_tried_at_once(site: SetupSite) -> None:
    async with managed_broker() as one:
        given = await asyncio.to_thread(site.answers, one, one.directory / "ca.pem")
        place = (("Which root certificates", given["ca_file"]), ("Which product", "meter"))
        typed = (
            ("On which network interface", "lo"), ("Which service", ""), ("Which cloud", "3"),
            ("Where is it", f"{MANAGER}@localhost:1"), *place,
            ("Answer these", ""), ("Where is it", given["endpoint"]), *place,
            ("Below which topics", TOPICS), ("What is the secret", "not the password"),
            ("Answer these", ""), ("Where is it", given["endpoint"]), *place,
            ("What is the secret", PASSWORD),
            ("What may join", "1"), ("Which TXT record", ""), ("Where is the", given["list"]),
        )  # fmt: skip
        assert len({question for question, _ in typed}) <= 12, "with the one about writing them"
        shown = await asyncio.to_thread(site.typed, typed)
    away, refused, found = shown.split("Answer these")
    assert "failed  tcp" in away
    assert "ok      tls" in refused
    assert "failed  management" in refused
    assert "ok      management" in found
    assert 'password_credential = "management.mqtt"' in found


@pytest.mark.integration
@pytest.mark.root
async def test_a_broker_of_another_site_is_refused_before_anything_is_written(
    site: SetupSite,
) -> None:
    async with managed_broker() as one:
        foreign = await asyncio.to_thread(one.foreign_ca)
        given = await asyncio.to_thread(site.answers, one, foreign)
        shown = await asyncio.to_thread(site.refused, given)
    assert "failed  tls" in shown
    assert "nothing was written" in shown


def test_the_password_is_not_asked_again_where_it_is_sealed() -> None:
    site = {"interface": "lan0", "cloud": "mqtt", "endpoint": "gateway-1@broker.example",
            "product": "meter", "secret": KEPT, "admission": "approval"}  # fmt: skip
    answers, faults = complete(site, MACHINE)
    assert not faults
    assert (plan(answers).secret, plan(answers).credential) == ("", "management.mqtt")
