"""A broker of the site as a door, on a real mosquitto: TLS, passwords, certificates, sessions."""

from __future__ import annotations

import asyncio
import math
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from gatewayd.cloud.credentials import read_secret
from gatewayd.messages.door_settings import DoorSettings, TopicSettings
from gatewayd.messages.doors.doors import ChildCloudStatus, DoorParts, Doors
from gatewayd.messages.doors.site.topic_pattern import ChildKey
from gatewayd.runtime.clock import SYSTEM_CLOCK
from gatewayd.simulator import pki
from tests.messages.doors.intakes import CHILD, Children, Intake, until
from tests.messages.doors.own_door import running
from tests.support.mosquitto import Mosquitto, mosquitto

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)
TLS = [
    "listener {port} 127.0.0.1",
    "cafile {ca}/ca.pem",
    "certfile {ca}/server.pem",
    "keyfile {ca}/server.key",
]
USERS = {"gatewayd": "secret", "sensor": "other"}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a root, and what it has issued for the broker and for a client."""
    directory = tmp_path_factory.mktemp("ca")
    root = pki.make_ca("site", NOW - pki.LIFE, NOW + pki.LIFE)
    (directory / "ca.pem").write_text(root.pem)
    other = pki.make_ca("other", NOW - pki.LIFE, NOW + pki.LIFE)
    (directory / "other.pem").write_text(other.pem)
    server = root.issue(["localhost"], ["127.0.0.1"], NOW - pki.LIFE, NOW + pki.LIFE)
    client = root.issue_client([("2.5.4.3", "gatewayd")], NOW - pki.LIFE, NOW + pki.LIFE)
    for name, issued in (("server", server), ("client", client)):
        (directory / f"{name}.pem").write_text(issued.certificate_pem)
        key = directory / f"{name}.key"
        key.write_text(issued.key_pem)
        key.chmod(0o600)
    return directory


@dataclass
class SiteBroker:
    """A broker with TLS, and the settings of a door to it."""

    broker: Mosquitto
    ca: Path
    settings: DoorSettings

    async def say(self, payload: str) -> None:
        """Publish as a sensor does that knows its password."""
        client = await asyncio.create_subprocess_exec(
            "mosquitto_pub", "-h", "localhost", "-p", str(self.broker.port), "--cafile",
            self.ca / "ca.pem", "-u", "sensor", "-P", USERS["sensor"], "-q", "1",
            "-t", "zigbee2mqtt/kitchen", "-m", payload, stderr=subprocess.PIPE,
        )  # fmt: skip
        _, said = await client.communicate()
        assert client.returncode == 0, said


@pytest.fixture
def site(ca: Path, tmp_path: Path) -> Iterator[SiteBroker]:
    (tmp_path / "site-broker").write_text("secret\n")
    with mosquitto([line.replace("{ca}", str(ca)) for line in TLS], USERS) as broker:
        settings = DoorSettings(
            host="localhost",
            port=broker.port,
            tls=True,
            ca_file=ca / "ca.pem",
            user_name="gatewayd",
            password_credential="site-broker",
            retry_first=0.1,
            retry_last=0.5,
            topics=(TopicSettings("zigbee2mqtt/{name}"),),
        )
        yield SiteBroker(broker, ca, settings)


def make_doors(settings: DoorSettings, intake: Intake, credentials: Path) -> Doors:
    children = Children({(ChildKey.NAME, "kitchen"): CHILD})
    read = partial(read_secret, credentials)
    return Doors(
        DoorParts(intake, children, SYSTEM_CLOCK, read, "host", credentials),
        {"site": settings},
        None,
    )


async def test_a_device_speaks_through_the_broker_of_the_site(
    site: SiteBroker, tmp_path: Path
) -> None:
    intake = Intake()
    doors = make_doors(site.settings, intake, tmp_path)
    (door,) = doors._doors
    async with running(door):
        await site.say('{"temperature":21.5,"linkquality":80}')
        (message,) = await intake.until(1)
        assert (message.door, message.child, message.topic) == ("site", CHILD, "properties")
        assert message.payload == b'{"temperature":21.5,"linkquality":80}'
        assert doors.states() == {"site": ("connected", "", {})}
        assert door.status().received == 1
        doors.show(CHILD, ChildCloudStatus(True, 0, 0, 0))  # nothing is written here
    assert doors.names == ("site",)


async def test_what_comes_while_gatewayd_is_away_is_kept(site: SiteBroker, tmp_path: Path) -> None:
    first = Intake()
    async with running(make_doors(site.settings, first, tmp_path)._doors[0]):
        pass
    assert not first.absences, "this broker knew nothing of gatewayd"
    await site.say('{"v":1}')
    intake = Intake()
    async with running(make_doors(site.settings, intake, tmp_path)._doors[0]):
        await site.say('{"v":2}')
        received = await intake.until(2)
        assert [one.payload for one in received] == [b'{"v":1}', b'{"v":2}']
        assert intake.absences == [math.inf], "an earlier run of gatewayd ended at some time"


async def test_a_topic_that_was_removed_comes_no_more(site: SiteBroker, tmp_path: Path) -> None:
    wide = replace(site.settings, topics=(TopicSettings("zigbee2mqtt/#", child="kitchen"),))
    intake = Intake()
    async with running(make_doors(wide, intake, tmp_path)._doors[0]):
        await site.say('{"v":1}')
        await intake.until(1)
    narrow = replace(site.settings, topics=(TopicSettings("zigbee2mqtt/{name}/x"),))
    (door,) = make_doors(narrow, intake, tmp_path)._doors
    async with running(door):
        await site.say('{"v":2}')
    (door,) = make_doors(site.settings, intake, tmp_path)._doors
    async with running(door):
        await site.say('{"v":3}')
        received = await intake.until(2)
        assert [one.payload for one in received] == [b'{"v":1}', b'{"v":3}']
        assert not door.status().dropped


@pytest.mark.parametrize("content", ["", "{}", "[1, null]", "[" * 5000, "\0"])
async def test_a_damaged_record_of_topics_does_no_harm(
    site: SiteBroker, tmp_path: Path, content: str
) -> None:
    (tmp_path / "door-site.json").write_text(content)
    async with running(make_doors(site.settings, Intake(), tmp_path)._doors[0]):
        assert (tmp_path / "door-site.json").read_text() == '["zigbee2mqtt/+"]'


@pytest.mark.parametrize(
    ("change", "credential", "code"),
    [
        ({"ca_file": "other.pem"}, "secret", "tls-unknown-ca"),
        ({"host": "127.0.0.2"}, "secret", "tcp-refused"),
        ({}, "wrong", "broker-not-authorised"),
        ({}, "", "broker-credential-unusable"),
        ({"tls": False, "ca_file": None}, "secret", "broker-hung-up"),
    ],
)
async def test_what_keeps_a_door_closed_is_named(
    site: SiteBroker, tmp_path: Path, change: dict[str, object], credential: str, code: str
) -> None:
    (tmp_path / "site-broker").write_text(credential)
    if change.get("ca_file"):
        change["ca_file"] = site.ca / str(change["ca_file"])
    settings = replace(site.settings, **change)  # type: ignore[arg-type]  # of any field
    doors = make_doors(settings, Intake(), tmp_path)
    (door,) = doors._doors
    async with running(door, ""):
        await until(lambda: door.status().reason.code == code, door.status)
        state, explanation, _ = doors.states()["site"]
        assert state == "connecting"
        assert str(door.status().reason.remedy) in explanation


async def test_a_credential_that_was_corrected_is_used(site: SiteBroker, tmp_path: Path) -> None:
    (tmp_path / "site-broker").write_text("wrong")
    (door,) = make_doors(site.settings, Intake(), tmp_path)._doors
    async with running(door, ""):
        await until(lambda: door.status().reason.code == "broker-not-authorised", door.status)
        (tmp_path / "site-broker").write_text("secret")
        await until(lambda: door.status().state == "connected", door.status)


async def test_a_certificate_is_shown(ca: Path, tmp_path: Path) -> None:
    lines = [*TLS, "require_certificate true", "use_identity_as_username true"]
    with mosquitto([line.replace("{ca}", str(ca)) for line in lines]) as broker:
        settings = DoorSettings(
            host="localhost",
            port=broker.port,
            tls=True,
            ca_file=ca / "ca.pem",
            certificate_file=ca / "client.pem",
            private_key_file=ca / "client.key",
            retry_first=0.1,
            topics=(TopicSettings("zigbee2mqtt/{name}"),),
        )
        async with running(make_doors(settings, Intake(), tmp_path)._doors[0]):
            pass
        without = replace(settings, certificate_file=None, private_key_file=None)
        (door,) = make_doors(without, Intake(), tmp_path)._doors
        async with running(door, ""):
            codes = ("broker-certificate-unusable", "broker-hung-up")
            await until(lambda: door.status().reason.code in codes, door.status)
        mixed = replace(settings, private_key_file=ca / "server.key")
        (door,) = make_doors(mixed, Intake(), tmp_path)._doors
        async with running(door, ""):
            await until(lambda: door.status().reason.code == codes[0], door.status)
