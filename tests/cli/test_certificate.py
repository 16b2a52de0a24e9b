"""gatewayctl certificate, from files and manifests to what the daemon keeps."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from gatewayd.ca.certificates import to_pem
from gatewayd.ca.keys import key_pem, make_key
from gatewayd.cli.cloud_setup.certificate import COMMANDS
from gatewayd.cli.cloud_setup.manifest import ImportEntry, Passphrases, read_manifest
from gatewayd.cloud.ca.given import GivenIdentities
from gatewayd.cloud.ca.service import AuthorityService
from gatewayd.dbus.methods import AUTHORITY_METHODS
from gatewayd.dbus.names import AUTHORITY, ObjectInterface, provider_path
from gatewayd.dbus.objects import ExportedObject
from gatewayd.errors import ConfigError, GatewayError
from gatewayd.simulator.bus import PrivateBus
from tests.cli.test_ca import no_such_device
from tests.cloud.guarded import device_ca, subject
from tests.cloud.huawei.certified import Certified, certified, child, furnish
from tests.cloud.huawei.site import SENSORS
from tests.cloud.mqtt_broker.certified import MemoryStore
from tests.dbus.support import RecordingCommands, run, served
from tests.support.gatewayctl import GATEWAYCTL, ctl, validate

PASSPHRASE = "open sesame"
CA = device_ca("made elsewhere")


@pytest.fixture
async def site(bus: PrivateBus, tmp_path: Path) -> AsyncIterator[Certified]:
    """A provider whose certificates are kept in memory, served on the bus."""
    async with certified(furnish(tmp_path)) as one:
        issuer = one.provider.issuer
        assert issuer is not None
        given = GivenIdentities("huawei", MemoryStore(), 30, time.time)
        issuer.authority.set_slots(one.slots.port, given=given)
        service = AuthorityService(
            "huawei", issuer, no_such_device, lambda _: None, lambda _: False, str
        )
        place = ObjectInterface(provider_path("huawei"), AUTHORITY)
        exported = ExportedObject(place, None, AUTHORITY_METHODS.bind(service), "huawei")
        async with served(bus, RecordingCommands(), further=(exported,)):
            yield one


def made(folder: Path, number: int, passphrase: str = PASSPHRASE) -> None:
    """Write the certificate of a child, and its key with a passphrase."""
    key = make_key("ec-p256")
    named = subject(
        common_name=f"SEN-{number:04}", organizational_unit_name=SENSORS, country_name="CN"
    )
    leaf = CA.sign(named, key.public_key(), 50, time.time())
    (folder / f"{number}.pem").write_text(to_pem(leaf) + CA.pem)
    path = folder / f"{number}.key"
    if not passphrase:
        path.write_bytes(key_pem(key))
        return
    encryption = serialization.BestAvailableEncryption(passphrase.encode())
    pkcs8 = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, encryption))


async def has(one: Certified, number: int) -> bool:
    assert one.provider.issuer is not None
    return await one.provider.issuer.authority.given_to(child(number)) is not None


@pytest.mark.integration
async def test_a_certificate_is_imported_and_removed(
    bus: PrivateBus, site: Certified, tmp_path: Path
) -> None:
    await asyncio.to_thread(made, tmp_path, 1)
    words = ("certificate", "import", str(tmp_path / "1.pem"), "--key", str(tmp_path / "1.key"))
    (tmp_path / "passphrase").write_text(f"{PASSPHRASE}\n")
    status, printed = await ctl(bus, *words, "--json")
    assert status == 1
    assert "--passphrase-file, --passphrase-fd or --passphrase-credential" in printed
    given = (*words, "--passphrase-file", str(tmp_path / "passphrase"))
    status, printed = await ctl(bus, *given)
    assert status == 0, printed
    assert f"{SENSORS}/SEN-0001, not known here yet: valid until" in printed
    assert "The cloud has to trust its issuer" in printed
    status, printed = await ctl(bus, *given, "--json")
    validate(printed, COMMANDS[0].fields, status)
    assert await has(site, 1)
    whose = ("--product", SENSORS, "--node-id", "SEN-0001")
    assert await ctl(bus, "certificate", "remove", *whose) == (0, "")
    assert not await has(site, 1)
    status, printed = await ctl(bus, "certificate", "remove", *whose)
    assert status == 1
    assert "No certificate was imported" in printed


@pytest.mark.integration
async def test_a_manifest_is_read_whole_before_the_first_is_imported(
    bus: PrivateBus, site: Certified, tmp_path: Path
) -> None:
    """Keys and passphrases come by files, credentials, and a descriptor for the others."""
    for number, passphrase in ((1, PASSPHRASE), (2, "another "), (3, ""), (4, "third ")):
        await asyncio.to_thread(made, tmp_path, number, passphrase)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "key-2").write_text("another \n")
    (tmp_path / "third").write_text("third \n")
    text = (tmp_path / "3.pem").read_text()
    manifest = tmp_path / "list.toml"
    rows = [
        'certificate = "1.pem"\nkey = "1.key"\n',
        'certificate = "2.pem"\nkey = "2.key"\npassphrase_credential = "key-2"\n',
        f'certificate = """{text}"""\nkey = "3.key"\nproduct = "{SENSORS}"\nnode_id = "SEN-0003"\n',
        'certificate = "4.pem"\nkey = "4.key"\npassphrase_file = "third"\n',
    ]
    manifest.write_text("".join(f"[[certificate]]\n{row}\n" for row in rows))
    reader, writer = os.pipe()
    os.write(writer, PASSPHRASE.encode())
    os.close(writer)
    words = ("certificate", "import", "--manifest", str(manifest), "--passphrase-fd", str(reader))
    process = await asyncio.create_subprocess_exec(
        *GATEWAYCTL, "--bus", bus.address, *words, "--json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, pass_fds=(reader,),
        env={**os.environ, "CREDENTIALS_DIRECTORY": str(credentials)},
    )  # fmt: skip
    os.close(reader)
    async with asyncio.timeout(60):
        printed, _ = await process.communicate()
    assert process.returncode == 0, printed
    found = [json.loads(line)["NodeId"] for line in printed.splitlines()]
    assert found == [f"SEN-{number:04}" for number in (1, 2, 3, 4)]
    for number in (1, 2, 3, 4):
        assert await has(site, number)


def entry(folder: Path, number: int) -> ImportEntry:
    return ImportEntry(str(folder / f"{number}.pem"), str(folder / f"{number}.key"))


def test_a_passphrase_that_was_typed_fits_the_other_keys(tmp_path: Path) -> None:
    prompts = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return PASSPHRASE

    for number in (1, 2):
        made(tmp_path, number)
    known = Passphrases(None, True, ask)
    for number in (1, 2):
        assert known.open(entry(tmp_path, number)).chain == (CA.certificate,)
    assert prompts == [f"Passphrase of {tmp_path / '1.pem'}: "]
    made(tmp_path, 3, "another")
    with pytest.raises(GatewayError, match=r"3\.pem: The private key cannot be read"):
        known.open(entry(tmp_path, 3))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lacks 'certificate'"),
        ("[[certificate]]", "lacks 'certificate'"),
        ('[[certificate]]\ncertificate = "a"\npassphrase = "x"', "must not hold any"),
        ('[[certificate]]\ncertificate = "a"\nkey_file = "x"', "unknown key 'key_file'"),
        (
            '[[certificate]]\ncertificate = "a"\nproduct = "x"',
            "product and node_id need each other",
        ),
        ('[[certificate]]\ncertificate = "a"\nid = "x"\nproduct = "x"\nnode_id = "n"', "exclude"),
        ("certificate = 1", "must be an array of tables"),
        ("[[", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_manifest_is_named(tmp_path: Path, text: str, says: str) -> None:
    manifest = tmp_path / "list.toml"
    manifest.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_manifest(manifest)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "Name the file"),
        (("x", "--manifest", "y"), "leave out the others"),
        (("x", "--product", "p"), "Product and node_id need each other"),
        (("--manifest", "/nowhere"), "cannot be read"),
        (("/nowhere",), "cannot be read"),
        (("x", "--passphrase-fd", "1000000"), "Descriptor 1000000 cannot be read"),
        (("x", "--passphrase-credential", "none"), "without credentials"),
    ],
)
async def test_a_mistake_on_the_command_line_is_named_before_the_daemon_is_asked(
    words: tuple[str, ...], says: str
) -> None:
    command = (*GATEWAYCTL, "--bus", "unix:path=/nowhere", "certificate", "import", *words)
    status, printed = await run(*command)
    assert status == 1
    assert says in printed
