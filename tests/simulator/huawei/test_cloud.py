"""Connecting to the simulated Huawei cloud: names, certificates, secrets, and who is refused."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace
from datetime import timedelta
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from gatewayd.simulator import pki
from gatewayd.simulator.huawei import authentication, ledger, times
from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.options import HuaweiCloudOptions
from gatewayd.simulator.huawei.platform.device import AuthSlot, DeviceAuth, HuaweiAuthType
from gatewayd.simulator.huawei.platform.limits import InstanceLimits
from gatewayd.simulator.huawei.reasons import CODES, RefusalReason
from gatewayd.testing.waiting import until
from tests.simulator.huawei.client import (
    BEGIN,
    BY_NAME,
    CN,
    DEVICE_CA,
    END,
    GATEWAY,
    GATEWAYS,
    HOUR,
    RSA_CA,
    SECRET,
    SERIAL,
    STRANGE_CA,
    VECTORS,
    Clock,
    Hello,
    certificate,
    device,
    fingerprint,
    furnish,
    greet,
    ledger_of,
    one,
    provision,
    served,
    showing,
    vouch,
)
from tests.simulator.wire import PATIENCE, wire
from tests.support.simulated_ca import AUTHORITY, NOW

LOGIN = Hello(secret=SECRET)
NEWCOMER = f"{GATEWAYS}_gateway-0001"
BY_CERTIFICATE = Hello(NEWCOMER)
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def handshake(
    cloud: HuaweiCloud,
    shown: pki.KeyedCertificate | None = None,
    name: str | None = None,
    version: ssl.TLSVersion = TLS13,
) -> str:
    """Make a TLS connection, blocking, say CONNECT, and read; return what ends it.

    name: the instance's, if it is missing; "" for none at all.
    """
    context = showing(shown, version)
    context.check_hostname = name is None
    said = one(cloud).domain if name is None else name or None
    stage = "handshake"
    try:
        with (
            socket.create_connection(("127.0.0.1", cloud.port), PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=said) as tls,
        ):
            stage = "later"
            tls.sendall(LOGIN.packet)
            return f"CONNACK {tls.recv(4)[3]}"
    except ssl.SSLCertVerificationError as error:
        return f"server: {error.verify_message}"
    except ssl.SSLError as error:
        return f"{stage}: {error.reason}"


def counted(cloud: HuaweiCloud, name: str) -> dict[str, int]:
    truth: Any = cloud.truth()
    found: dict[str, int] = truth[name]
    return found


def strangers(cloud: HuaweiCloud) -> dict[str, int]:
    truth: Any = cloud.truth()
    found: dict[str, int] = truth["instances"]["one"]["strangers"]
    return found


@pytest.mark.parametrize("row", VECTORS["secret_connect"]["rows"], ids=lambda row: row["name"])
def test_passwords_of_the_vectors(row: dict[str, str]) -> None:
    assert authentication.password(row["secret"], row["timestamp"]) == row["password"]
    read = authentication.read(row["client_id"])
    assert read is not None
    assert (read.device_id, read.hour) == (row["username"], row["timestamp"])
    assert read.checked is (row["signature_type"] == "1")


@pytest.mark.parametrize(
    "text", ["", "gw", f"{GATEWAY}_0_0", f"{GATEWAY}_1_0_{HOUR}", f"{GATEWAY}_0_2_{HOUR}",
             f"{GATEWAY}_0_0_{HOUR}1", f"a b_0_0_{HOUR}", f"{'g' * 129}_0_0_{HOUR}"],
)  # fmt: skip
def test_client_ids_in_another_format(text: str) -> None:
    assert authentication.read(text) is None


async def test_a_secret_logs_in(cloud: HuaweiCloud) -> None:
    assert await greet(cloud, LOGIN) == 0
    await until(lambda: ledger_of(cloud)["status"] == "OFFLINE")
    one(cloud).devices.reset_secret(GATEWAY, "another-secret", slot=AuthSlot.SECONDARY)
    assert await greet(cloud, Hello(secret="another-secret")) == 0
    assert await greet(cloud, Hello(secret="third-secret")) == 4
    assert ledger_of(cloud)["logins"] == 2
    assert ledger_of(cloud)["refused_logins"] == {"4": 1}
    assert ledger_of(cloud)["reasons"] == {"password": 1}


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (replace(LOGIN, hour="2020010100"), 0),
        (replace(LOGIN, sig="1"), 0),
        (replace(LOGIN, sig="1", hour="2026010204"), 4),
        (replace(LOGIN, sig="1", hour="2026010202"), 4),
        (replace(LOGIN, keepalive=30), 0),
        (replace(LOGIN, keepalive=1200), 0),
        (replace(LOGIN, keepalive=29), 2),
        (replace(LOGIN, keepalive=0), 2),
        (replace(LOGIN, keepalive=1201), 2),
        (replace(LOGIN, client="gw-0001"), 2),
        (replace(LOGIN, hour="2026013203"), 2),  # no time
        (replace(LOGIN, hour="2026010224"), 2),
        (replace(LOGIN, hour="9999999999"), 2),
        (replace(LOGIN, username="another"), 4),
        (replace(LOGIN, password=""), 4),
        (replace(LOGIN, secret=""), 4),
        (replace(LOGIN, level=5), 1),
        (Hello(f"{GATEWAYS}_nobody", secret=SECRET), 5),
    ],
)
async def test_what_connect_must_say(cloud: HuaweiCloud, hello: Hello, code: int) -> None:
    assert await greet(cloud, hello) == code


async def test_the_hour_is_the_platforms() -> None:
    clock = Clock()
    async with served(clock=clock) as cloud:
        clock.now += 3600
        assert await greet(cloud, replace(LOGIN, sig="1")) == 4
        assert await greet(cloud, replace(LOGIN, sig="1", hour=times.hour(clock.now))) == 0


async def test_frozen_and_deleted_devices_are_refused(cloud: HuaweiCloud) -> None:
    devices = one(cloud).devices
    async with device(cloud) as gw:
        devices.freeze(GATEWAY)
        assert await gw.wire.ended() == b""
    assert await greet(cloud, LOGIN) == 5
    devices.unfreeze(GATEWAY)
    async with device(cloud) as gw:
        devices.delete(GATEWAY)
        assert await gw.wire.ended() == b""
    assert await greet(cloud, LOGIN) == 5
    assert ledger_of(cloud)["reasons"] == {"frozen": 1, "unknown-device": 1}
    assert ledger_of(cloud)["exists"] is False


async def test_a_child_does_not_connect(cloud: HuaweiCloud) -> None:
    child = one(cloud).devices.add(
        node_id="c1", product_id=GATEWAYS, gateway_id=GATEWAY, auth=DeviceAuth(secret=SECRET)
    )
    assert await greet(cloud, Hello(child.device_id, secret=SECRET)) == 5


async def test_the_newer_connection_evicts_the_older(cloud: HuaweiCloud) -> None:
    async with device(cloud) as first:
        assert ledger_of(cloud)["connected"]
        async with device(cloud) as second:
            assert await first.wire.ended() == b""
            assert (await second.add("c1"))["failed_devices"] == []
            assert ledger_of(cloud)["status"] == "ONLINE"
        assert ledger_of(cloud)["takeovers"] == 1
    await until(lambda: ledger_of(cloud)["status"] == "OFFLINE")


@pytest.mark.parametrize("version", [TLS12, TLS13])
async def test_without_a_name_there_is_an_alert(
    cloud: HuaweiCloud, version: ssl.TLSVersion
) -> None:
    async def ended(name: str | None) -> str:
        return await asyncio.to_thread(handshake, cloud, None, name, version)

    for name in ("", "127.0.0.1", "elsewhere.example"):
        assert (await ended(name)).startswith("handshake: ")
        assert "UNRECOGNIZED_NAME" in await ended(name)
    assert counted(cloud, "server")["no-name"] == 4
    assert counted(cloud, "server")["unknown-name"] == 2
    assert sum(counted(cloud, "tls_failures").values()) == 6
    assert await ended(None) == "CONNACK 0"


async def test_the_alert_for_no_name_can_be_chosen() -> None:
    alert = ssl.AlertDescription.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
    async with served(HuaweiCloudOptions(nameless=alert)) as cloud:
        assert "HANDSHAKE_FAILURE" in await asyncio.to_thread(handshake, cloud, None, "")


@pytest.mark.parametrize(("version", "stage"), [(TLS12, "handshake"), (TLS13, "later")])
async def test_a_certificate_that_does_not_count_gets_its_alert(
    cloud: HuaweiCloud, version: ssl.TLSVersion, stage: str
) -> None:
    """With TLS 1.3 the client learns of it behind the handshake."""
    expired = DEVICE_CA.issue_client([(CN, "gw")], BEGIN, NOW - timedelta(hours=1))
    early = DEVICE_CA.issue_client([(CN, "gw")], END - timedelta(days=1), END)

    async def ended(shown: pki.KeyedCertificate) -> str:
        return await asyncio.to_thread(handshake, cloud, shown, None, version)

    good = certificate("gw")
    assert await ended(good) == f"{stage}: TLSV1_ALERT_UNKNOWN_CA"
    uploaded = one(cloud).authorities.upload(DEVICE_CA.pem)
    assert await ended(good) == f"{stage}: TLSV1_ALERT_UNKNOWN_CA"
    one(cloud).authorities.delete(uploaded.certificate_id)
    certificate_id = vouch(one(cloud))
    assert await ended(good) == "CONNACK 0"  # a password beside it: a login with a secret
    assert await ended(expired) == f"{stage}: SSLV3_ALERT_CERTIFICATE_EXPIRED"
    assert await ended(early) == f"{stage}: SSLV3_ALERT_BAD_CERTIFICATE"
    assert await ended(certificate("gw", authority=STRANGE_CA)) == (
        f"{stage}: TLSV1_ALERT_UNKNOWN_CA"
    )
    one(cloud).authorities.delete(certificate_id)
    assert await ended(good) == f"{stage}: TLSV1_ALERT_UNKNOWN_CA"
    assert counted(cloud, "tls_failures") == {"CERTIFICATE_VERIFY_FAILED": 6}


async def test_versions_of_tls_can_be_restricted() -> None:
    async with served(HuaweiCloudOptions(newest=TLS12)) as cloud:
        context = showing(None)
        async with wire(cloud.port, context, LOGIN.packet, one(cloud).domain) as link:
            assert await link.code() == 0
            assert link.writer.get_extra_info("ssl_object").version() == "TLSv1.2"
    async with served(HuaweiCloudOptions(oldest=TLS13)) as cloud:
        ended = await asyncio.to_thread(handshake, cloud, None, None, TLS12)
        assert ended == "handshake: TLSV1_ALERT_PROTOCOL_VERSION"


async def test_the_servers_key_may_be_rsa() -> None:
    async with served(HuaweiCloudOptions(rsa_key=True)) as cloud:
        context = showing(None, TLS12)
        context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        async with wire(cloud.port, context, LOGIN.packet, one(cloud).domain) as link:
            assert await link.code() == 0


@pytest.mark.parametrize("authority", [DEVICE_CA, RSA_CA], ids=["EC", "RSA"])
@pytest.mark.parametrize("hello", [BY_CERTIFICATE, Hello("any", client="any id", username="me")])
async def test_a_device_registers_itself(
    cloud: HuaweiCloud, hello: Hello, authority: pki.RootAuthority
) -> None:
    provision(one(cloud), vouch(one(cloud), authority))
    shown = certificate(authority=authority, rsa_key=authority is RSA_CA)
    assert await greet(cloud, hello, shown) == 0
    made = one(cloud).devices.get(NEWCOMER)
    assert (made.node_id, made.product_id, made.name) == ("gateway-0001", GATEWAYS, None)
    assert (made.tags, made.auth.auth_type) == ({"site": "plant-7"}, HuaweiAuthType.CERTIFICATES)
    assert made.auth.fingerprint == fingerprint(shown)
    assert await greet(cloud, hello, shown) == 0
    ledger = ledger_of(cloud, NEWCOMER)
    assert (ledger["registrations"], ledger["self_registrations"], ledger["logins"]) == (1, 1, 2)
    assert ledger["certificates_sha256"] == [fingerprint(shown)]
    (stored,) = one(cloud).certificates.list()
    assert one(cloud).certificates.devices(stored.certificate_id) == [NEWCOMER]


async def test_a_new_device_is_bound_to_the_templates_policies(cloud: HuaweiCloud) -> None:
    allow = {"effect": "ALLOW", "actions": ["iotda:devices:publish"], "resources": ["topic:/t"]}
    policy = one(cloud).policies.create("policy", [allow])
    resources = {**BY_NAME["resources"], "policy": {"policy_ids": [policy.policy_id, "gone"]}}
    provision(one(cloud), vouch(one(cloud)), {**BY_NAME, "resources": resources})
    assert await greet(cloud, BY_CERTIFICATE, certificate()) == 0
    assert one(cloud).policies.targets(policy.policy_id) == [("device", NEWCOMER)]


async def test_a_deleted_device_registers_once_more(cloud: HuaweiCloud) -> None:
    provision(one(cloud), vouch(one(cloud)))
    for times_registered in (1, 2):
        assert await greet(cloud, BY_CERTIFICATE, certificate()) == 0
        assert ledger_of(cloud, NEWCOMER)["self_registrations"] == times_registered
        one(cloud).devices.delete(NEWCOMER)


async def test_a_disabled_template_lets_known_devices_in_by_their_id(cloud: HuaweiCloud) -> None:
    ca, shown = vouch(one(cloud)), certificate()
    provision(one(cloud), ca)
    assert await greet(cloud, BY_CERTIFICATE, shown) == 0
    one(cloud).authorities.update(ca, {"provision_enable": False})
    assert await greet(cloud, BY_CERTIFICATE, shown) == 0
    assert await greet(cloud, Hello("any", client="any id"), shown) == 2
    assert await greet(cloud, Hello(f"{GATEWAYS}_new"), certificate("new")) == 5
    assert strangers(cloud) == {"client-id": 1, "unknown-device": 1}


async def test_a_modified_template_makes_another_device(cloud: HuaweiCloud) -> None:
    template_id = provision(one(cloud), vouch(one(cloud)))
    shown = certificate("gateway-0001", (SERIAL, "SN1"))
    assert await greet(cloud, BY_CERTIFICATE, shown) == 0
    by_serial = {
        "parameters": {"iotda::certificate::serial_number": {"type": "String"}},
        "resources": {
            "device": {
                "node_id": {"ref": "iotda::certificate::serial_number"},
                "product_id": GATEWAYS,
            }
        },
    }
    one(cloud).templates.update(template_id, {"template_body": by_serial})
    assert await greet(cloud, BY_CERTIFICATE, shown) == 0
    assert one(cloud).devices.lookup(f"{GATEWAYS}_SN1") is None
    assert await greet(cloud, Hello("any", client="any id"), shown) == 0
    assert one(cloud).devices.get(f"{GATEWAYS}_SN1").self_registered


@pytest.mark.parametrize("name", ["aa:bb:cc:dd:ee:ff", "gateway 7"])
async def test_a_name_that_makes_no_node(cloud: HuaweiCloud, name: str) -> None:
    provision(one(cloud), vouch(one(cloud)))
    assert await greet(cloud, Hello("any"), certificate(name)) == 5
    assert strangers(cloud) == {"attribute": 1}


async def test_a_node_that_belongs_to_another_device(cloud: HuaweiCloud) -> None:
    provision(one(cloud), vouch(one(cloud)))
    one(cloud).devices.add(node_id="gateway-0001", product_id=GATEWAYS, device_id="my-own")
    assert await greet(cloud, BY_CERTIFICATE, certificate()) == 5
    assert strangers(cloud) == {"template": 1}


async def test_undocumented_codes_can_be_chosen() -> None:
    async with served(HuaweiCloudOptions(codes={**CODES, RefusalReason.ATTRIBUTE: 4})) as cloud:
        provision(one(cloud), vouch(one(cloud)))
        missing = DEVICE_CA.issue_client([(SERIAL, "SN1")], BEGIN, END)
        assert await greet(cloud, Hello("any"), missing) == 4


async def test_product_and_ca_are_in_one_resource_space(cloud: HuaweiCloud) -> None:
    made = one(cloud)
    elsewhere = made.apps.create("elsewhere").app_id
    uploaded = made.authorities.upload(DEVICE_CA.pem, elsewhere)
    proof = DEVICE_CA.issue_client([(CN, uploaded.verify_code)], BEGIN, END)
    made.authorities.verify(uploaded.certificate_id, proof.certificate_pem)
    provision(made, uploaded.certificate_id)
    assert await greet(cloud, BY_CERTIFICATE, certificate()) == 5
    assert strangers(cloud) == {"resource-space": 1}
    made.devices.add(
        node_id="gateway-0001", product_id=GATEWAYS, auth=DeviceAuth(HuaweiAuthType.CERTIFICATES)
    )
    assert await greet(cloud, BY_CERTIFICATE, certificate()) == 5
    assert ledger_of(cloud, NEWCOMER)["reasons"] == {"resource-space": 1}


async def test_a_full_instance_takes_no_newcomer() -> None:
    async with served(limits=InstanceLimits(devices=1)) as cloud:
        provision(one(cloud), vouch(one(cloud)))
        assert await greet(cloud, BY_CERTIFICATE, certificate()) == 5
        assert strangers(cloud) == {"no-room": 1}


async def test_a_device_is_bound_to_its_fingerprints(cloud: HuaweiCloud) -> None:
    devices, first, second = one(cloud).devices, certificate(), certificate()
    vouch(one(cloud))
    auth = DeviceAuth(HuaweiAuthType.CERTIFICATES, fingerprint=fingerprint(first, "sha1").upper())
    devices.add(node_id="gateway-0001", product_id=GATEWAYS, auth=auth)
    assert await greet(cloud, BY_CERTIFICATE, first) == 0
    assert await greet(cloud, BY_CERTIFICATE, second) == 4
    devices.reset_fingerprint(NEWCOMER, fingerprint(second), slot=AuthSlot.SECONDARY)
    assert await greet(cloud, BY_CERTIFICATE, second) == 0
    assert await greet(cloud, BY_CERTIFICATE, first) == 0
    devices.reset_fingerprint(NEWCOMER)
    assert await greet(cloud, BY_CERTIFICATE, second) == 0
    assert devices.get(NEWCOMER).auth.fingerprint is None
    assert await greet(cloud, BY_CERTIFICATE, first) == 0
    assert devices.get(NEWCOMER).auth.fingerprint == fingerprint(first)
    assert ledger_of(cloud, NEWCOMER)["reasons"] == {"fingerprint": 1}


async def test_a_device_proves_itself_as_it_was_registered(cloud: HuaweiCloud) -> None:
    vouch(one(cloud))
    assert await greet(cloud, Hello(GATEWAY), certificate("gw-0001")) == 4
    one(cloud).devices.update(GATEWAY, {"auth_type": "CERTIFICATES"})
    assert await greet(cloud, LOGIN) == 4
    assert await greet(cloud, Hello(GATEWAY), certificate("gw-0001")) == 0
    assert ledger_of(cloud)["reasons"] == {"auth-type": 2}


async def test_an_inactive_certificate_locks_out_all_its_devices(cloud: HuaweiCloud) -> None:
    provision(one(cloud), vouch(one(cloud)))
    shown, certificates = certificate(), one(cloud).certificates
    async with device(cloud, BY_CERTIFICATE, shown) as gw:
        (stored,) = certificates.list(fingerprint=fingerprint(shown))
        certificates.update(stored.certificate_id, "INACTIVE")
        assert await gw.wire.ended() == b""
    assert await greet(cloud, BY_CERTIFICATE, shown) == 5
    certificates.update(stored.certificate_id, "ACTIVE")
    assert await greet(cloud, BY_CERTIFICATE, shown) == 0


async def test_forced_to_disconnect(cloud: HuaweiCloud) -> None:
    async with device(cloud) as gw:
        one(cloud).devices.reset_secret(GATEWAY, "another-secret")
        await gw.served()
        one(cloud).devices.reset_secret(GATEWAY, "third-secret", force_disconnect=True)
        assert await gw.wire.ended() == b""
    async with device(cloud, Hello(secret="third-secret")) as gw:
        one(cloud).devices.reset_fingerprint(GATEWAY, force_disconnect=True)
        assert await gw.wire.ended() == b""
    async with device(cloud, Hello(secret="third-secret")) as gw:
        cloud.disconnect("one", GATEWAY)
        assert await gw.wire.ended() == b""


async def test_an_unverified_ca_may_be_refused_after_the_handshake() -> None:
    async with served(HuaweiCloudOptions(late_unverified=True)) as cloud:
        one(cloud).authorities.upload(DEVICE_CA.pem)
        assert await greet(cloud, BY_CERTIFICATE, certificate()) == 5
        assert strangers(cloud) == {"unverified-ca": 1}


async def test_a_session_of_tls_does_not_outlive_its_ca(cloud: HuaweiCloud) -> None:
    """Who resumes is not asked for a certificate; CONNECT is refused all the same."""
    ca = vouch(one(cloud))
    provision(one(cloud), ca)
    context = showing(certificate(), TLS12)

    def connect(session: ssl.SSLSession | None) -> tuple[int, bool, ssl.SSLSession | None]:
        with (
            socket.create_connection(("127.0.0.1", cloud.port), PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=one(cloud).domain, session=session) as tls,
        ):
            tls.sendall(BY_CERTIFICATE.packet)
            return tls.recv(4)[3], bool(tls.session_reused), tls.session

    code, _, session = await asyncio.to_thread(connect, None)
    assert code == 0
    assert await asyncio.to_thread(lambda: connect(session)[:2]) == (0, True)
    one(cloud).authorities.delete(ca)
    assert await asyncio.to_thread(lambda: connect(session)[:2]) == (5, True)


async def test_instances_know_nothing_of_one_another(cloud: HuaweiCloud) -> None:
    other = furnish(cloud.platform.create("two", region="eu-west-101"))
    provision(one(cloud), vouch(one(cloud)))
    provision(other, vouch(other, RSA_CA))
    here, there = certificate(), certificate(authority=RSA_CA)
    assert await greet(cloud, BY_CERTIFICATE, here) == 0
    assert await greet(cloud, BY_CERTIFICATE, there, "two") == 0
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        await greet(cloud, BY_CERTIFICATE, here, "two")
    assert await greet(cloud, LOGIN, None, "two") == 5
    assert ledger_of(cloud, NEWCOMER)["certificates_sha256"] == [fingerprint(here)]
    assert ledger_of(cloud, NEWCOMER, "two")["certificates_sha256"] == [fingerprint(there)]


async def test_what_was_there_before_is_served_too() -> None:
    async with served() as first:
        one(first).devices.add(
            node_id="c1", product_id=GATEWAYS, gateway_id=GATEWAY, auth=DeviceAuth()
        )
        async with HuaweiCloud(first.platform, authority=AUTHORITY) as cloud:
            assert await greet(cloud, LOGIN) == 0
            assert ledger_of(cloud)["registrations"] == 1
            assert ledger_of(cloud, f"{GATEWAYS}_c1")["parent"] == GATEWAY


async def test_paho_connects_with_a_certificate(cloud: HuaweiCloud) -> None:
    provision(one(cloud), vouch(one(cloud)))
    context, name, codes = showing(certificate()), one(cloud).domain, list[int]()

    class Named:
        """Says the instance's name, whatever host paho connects to."""

        check_hostname = True

        def wrap_socket(self, sock: socket.socket, **options: object) -> ssl.SSLSocket:
            return context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)

    version = getattr(mqtt, "CallbackAPIVersion", None)
    chosen = (version.VERSION2,) if version else ()
    client = mqtt.Client(*chosen, client_id=f"{NEWCOMER}_0_0_{HOUR}")
    client.username_pw_set(NEWCOMER)
    client.tls_set_context(Named())
    client.on_connect = lambda *args: codes.append(int(getattr(args[3], "value", args[3])))
    client.connect_async("127.0.0.1", cloud.port, keepalive=120)
    client.loop_start()
    try:
        await until(lambda: codes)
        assert codes == [0]
        assert ledger_of(cloud, NEWCOMER)["connected"]
    finally:
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)


def test_every_reason_has_a_code() -> None:
    assert set(CODES) == set(RefusalReason)
    assert set(CODES.values()) <= {1, 2, 3, 4, 5}


def test_ledgers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MAX_LEDGERS", 2)
    ledgers = ledger.HuaweiLedgers()
    for number in range(3):
        ledgers.gateway(f"d{number}").malformed += 1
    assert list(ledgers) == list(ledgers.gateways) == ["d1", "d2"]
    for number in range(ledger.REMEMBERED + 1):
        ledgers.of("d1").logged_in(0.0, f"{number}")
    assert len(ledgers.of("d1").certificates) == ledger.REMEMBERED
    assert "0" not in ledgers.of("d1").certificates
