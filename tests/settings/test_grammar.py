"""Grammars: what can be used is taken, and what could do something else is refused."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config import PLAIN
from gatewayd.plugins import CLOUDS, DISCOVERERS, SECRETSTORES
from gatewayd.settings import grammar
from gatewayd.settings.build import SettingsBuilder
from gatewayd.settings.files import Document, Problems
from tools.config_sample import ours

TAKEN = [
    (grammar.proxy, "http://[::1]:3128"),
    (grammar.proxy, "http://[::ffff:192.0.2.7]:80/"),
    (grammar.proxy, "http://proxy.example:3128"),
    (grammar.proxy, "http://192.0.2.7:3128"),
    (grammar.host, "iot.example"),
    (grammar.host, "a1b2.iot-as-mqtt.cn-shanghai.aliyuncs.com"),
    (grammar.host, "localhost"),
    (grammar.host, "MÜLLER.example"),
    (grammar.host, "xn--mller-kva.example"),
    (grammar.host, "192.0.2.7"),
    (grammar.host, "2001:db8::7"),
    (grammar.host, "fe80::1%lan0"),
    (grammar.host, f"{'a' * 63}.example"),
    (grammar.ip, "192.0.2.7"),
    (grammar.ip, "::1"),
    (grammar.network, "192.0.2.7"),
    (grammar.network, "192.0.2.16/28"),
    (grammar.network, "2001:db8::/120"),
    (grammar.network, "fe80::1%lan0"),
    (grammar.label, "cn-shanghai"),
    (grammar.interface, "enp0s31f6.4094"),
    (grammar.interface, "x" * grammar.MAX_INTERFACE),
    (grammar.credential_name, "vault.key"),
    (grammar.credential_name, "product.a1Xy@site"),
    (grammar.credential_name, "x" * grammar.MAX_NAME),
    (grammar.file_name, "development.key"),
    (grammar.file_name, ".Schlüssel der Fabrik"),
    (grammar.path_inside, "site.list"),
    (grammar.path_inside, "lists/site.list"),
    (grammar.path_inside, "/etc/gatewayd/site.list"),
    (grammar.bus_address, "system"),
    (grammar.bus_address, "unix:path=/run/dbus/system_bus_socket"),
    (grammar.bus_address, "unix:abstract=/tmp/dbus-a%2cb,guid=0123456789abcdef0123456789abcdef"),
    (grammar.backend_name, "SecretService"),
    (grammar.backend_name, "keyring.backends.SecretService.Keyring"),
    (grammar.attribute_name, "file_path"),
    (grammar.tcti, "device:/dev/tpmrm0"),
    (grammar.tcti, "device:/dev/tpm12"),
    (grammar.tcti, "swtpm:path=/run/swtpm.sock"),
    (grammar.tcti, "swtpm:host=127.0.0.1,port=2321"),
    (grammar.tcti, "swtpm:port=2321"),
]

REFUSED = [
    (grammar.proxy, "http://[proxy.example]:3128"),
    (grammar.proxy, "http://[192.0.2.7]:3128"),
    (grammar.proxy, "http://::1:3128"),
    (grammar.proxy, "http://[ab:cd]:3128"),
    (grammar.proxy, "http://[::1]"),
    (grammar.host, ""),
    (grammar.host, "mqtts://iot.example:8883"),
    (grammar.host, "iot.example:8883"),
    (grammar.host, "iot.example "),
    (grammar.host, " iot.example"),
    (grammar.host, "iot\u00a0example"),
    (grammar.host, "iot.example/path"),
    (grammar.host, "user@iot.example"),
    (grammar.host, "iot.example."),
    (grammar.host, "iot..example"),
    (grammar.host, ".example"),
    (grammar.host, "-iot.example"),
    (grammar.host, "iot_broker"),
    (grammar.host, "[2001:db8::7]"),
    (grammar.host, "192.0.2"),
    (grammar.host, "192.0.2.256"),
    (grammar.host, "0x7f000001"),
    (grammar.host, "2130706433"),
    (grammar.host, f"{'a' * 64}.example"),
    (grammar.host, ".".join(["a" * 63] * 4)),
    (grammar.host, "a" * 4096),
    (grammar.ip, "iot.example"),
    (grammar.ip, "[::1]"),
    (grammar.label, "cn.shanghai"),
    (grammar.label, "cn\u017fhanghai"),
    (grammar.network, ""),
    (grammar.network, "192.0.2.17/28"),
    (grammar.network, "192.0.2.16/33"),
    (grammar.network, "plc.example"),
    (grammar.interface, ""),
    (grammar.interface, "x" * (grammar.MAX_INTERFACE + 1)),
    (grammar.interface, "ü" * grammar.MAX_INTERFACE),
    (grammar.interface, "lan 0"),
    (grammar.interface, "lan0/"),
    (grammar.interface, "eth0:1"),
    (grammar.interface, ".."),
    (grammar.credential_name, ""),
    (grammar.credential_name, "."),
    (grammar.credential_name, ".."),
    (grammar.credential_name, "../vault.key"),
    (grammar.credential_name, "/etc/shadow"),
    (grammar.credential_name, "vault key"),
    (grammar.credential_name, "vault:key"),
    (grammar.credential_name, "%d"),
    (grammar.credential_name, "-key"),
    (grammar.credential_name, "a\nExecStartPre=/bin/sh"),
    (grammar.credential_name, "schlüssel"),
    (grammar.credential_name, "x" * (grammar.MAX_NAME + 1)),
    (grammar.file_name, ""),
    (grammar.file_name, ".."),
    (grammar.file_name, "../key"),
    (grammar.file_name, "/etc/shadow"),
    (grammar.file_name, "key\x00"),
    (grammar.file_name, "ü" * 128),
    (grammar.path_inside, ""),
    (grammar.path_inside, "../site.list"),
    (grammar.path_inside, "lists/../../site.list"),
    (grammar.path_inside, "/etc/gatewayd/../shadow"),
    (grammar.bus_address, ""),
    (grammar.bus_address, "session"),
    (grammar.bus_address, "tcp:host=192.0.2.7,port=55556"),
    (grammar.bus_address, "nonce-tcp:host=192.0.2.7,port=55556,noncefile=/tmp/nonce"),
    (grammar.bus_address, "unixexec:path=/bin/sh,argv1=-c,argv2=id"),
    (grammar.bus_address, "autolaunch:"),
    (grammar.bus_address, "launchd:env=X"),
    (grammar.bus_address, "unix:path=/run/bus;tcp:host=192.0.2.7"),
    (grammar.bus_address, "unix:path=/run/bus,path=/tmp/bus"),
    (grammar.bus_address, "unix:path=/run/bus,abstract=bus"),
    (grammar.bus_address, "unix:runtime=yes"),
    (grammar.bus_address, "unix:tmpdir=/tmp"),
    (grammar.bus_address, "unix:path=,guid=00"),
    (grammar.bus_address, "unix:path=/run/a bus"),
    (grammar.bus_address, "unix:"),
    (grammar.bus_address, "UNIX:path=/run/bus"),
    (grammar.backend_name, "os;id"),
    (grammar.backend_name, "../x.Class"),
    (grammar.attribute_name, "__class__"),
    (grammar.attribute_name, "_private"),
    (grammar.attribute_name, "a.b"),
    (grammar.attribute_name, "keyring_key"),
    (grammar.attribute_name, "Password"),
    (grammar.tcti, ""),
    (grammar.tcti, "cmd:touch /tmp/x"),
    (grammar.tcti, "device"),
    (grammar.tcti, "device:/x:/usr/bin"),
    (grammar.tcti, "device:/dev/sda"),
    (grammar.tcti, "device:/dev/tpmrm0 /usr/bin"),
    (grammar.tcti, "device:/dev/tpm0/../sda"),
    (grammar.tcti, "device:/dev/tpmrm0\nExecStartPre=/bin/sh"),
    (grammar.tcti, "mssim:host=192.0.2.7,port=2321"),
    (grammar.tcti, "swtpm:host=192.0.2.7,port=2321"),
    (grammar.tcti, "swtpm:path=/run/x,host=192.0.2.7"),
    (grammar.tcti, "libtss2-tcti-cmd.so.0:id"),
    (grammar.tcti, "/home/evil.so"),
    (grammar.tcti, "tabrmd:bus_name=x"),
]  # fmt: skip


@pytest.mark.parametrize(("of", "text"), TAKEN)
def test_what_can_be_used_is_taken(of: grammar.Grammar, text: str) -> None:
    assert of(text) == ""


@pytest.mark.parametrize(("of", "text"), REFUSED)
def test_what_cannot_be_used_is_refused_without_repeating_it(
    of: grammar.Grammar, text: str
) -> None:
    rule = of(text)
    assert rule.startswith("must ")
    assert len(text) < 8 or text not in rule


GRAMMARS = sorted({of for of, _ in TAKEN}, key=lambda of: of.__name__)


@given(st.sampled_from(GRAMMARS), st.text(max_size=300))
def test_any_text_is_judged(of: grammar.Grammar, text: str) -> None:
    assert of(text) == "" or of(text).startswith("must ")


@given(st.text(st.sampled_from("ab.:/-0189%[] \nüß_"), max_size=20))
def test_a_host_that_is_taken_can_be_asked_for(text: str) -> None:
    """It is an address, or the resolver takes the name and fails, at most, to find it."""
    if grammar.host(text):
        return
    if grammar.is_address(text):
        assert socket.getaddrinfo(text.partition("%")[0], 1, flags=socket.AI_NUMERICHOST)
        return
    with pytest.raises(socket.gaierror) as raised:
        socket.getaddrinfo(text, 1, flags=socket.AI_NUMERICHOST)
    assert raised.value.errno == socket.EAI_NONAME


@given(st.text(st.sampled_from(sorted({*"device:/tpmr0129 \n%,=.sw"})), max_size=24))
def test_a_tpm_that_is_taken_adds_nothing_to_a_unit(text: str) -> None:
    if not grammar.tcti(text):
        assert not re.search(r"[\s%]", text)
        assert text.count(":") == 1


# Every setting of such a kind has its grammar.

KINDS = [
    (r"(host|https_host)", grammar.host),
    (r"(.*_)?credentials?", grammar.credential_name),
    (r"interfaces?", grammar.interface),
    (r"tcti", grammar.tcti),
    (r"key_file", grammar.file_name),
    (r"keyring_backend", grammar.backend_name),
]
UNUSABLE = {
    grammar.host: "a b",
    grammar.credential_name: "../x",
    grammar.interface: "a b",
    grammar.tcti: "cmd:x",
    grammar.file_name: "../x",
    grammar.bus_address: "tcp:host=x",
    grammar.ip: "x",
    grammar.backend_name: "a b",
}


def sections() -> Iterator[tuple[str, type]]:
    """Yield the settings of each section and each plug-in, by name."""
    yield from PLAIN.items()
    plugins = ours()
    for group in (CLOUDS, DISCOVERERS, SECRETSTORES):
        yield from ((name, plugins.load(group, name).Settings) for name in plugins.names(group))


def declared(name: str, cls: Any) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield section, key, type and metadata of all settings, also of tables inside tables."""
    hints = get_type_hints(cls)
    for one in fields(cls):
        yield name, one.name, hints[one.name], one.metadata
        for part in (hints[one.name], *get_args(hints[one.name])):
            if is_dataclass(part):
                yield from declared(f"{name}.{one.name}", part)


SETTINGS = [one for name, cls in sections() for one in declared(name, cls)]


@pytest.mark.parametrize(
    ("section", "key", "kind", "meta"), SETTINGS, ids=[f"{s}.{k}" for s, k, *_ in SETTINGS]
)
def test_each_setting_of_a_kind_declares_it(section: str, key: str, kind: Any, meta: Any) -> None:
    for pattern, of in KINDS:
        if re.fullmatch(pattern, key) and section != "tables":
            assert meta["grammar"] is of, f"{section}.{key}"
    if key == "port" or key.endswith("_port"):
        assert (meta["low"] in (0, 1), meta["high"]) == (True, 65535)
    if key.endswith(("_file", "_directory")) and Path in (kind, *get_args(kind)):
        assert meta["file"] is not None or key == "state_directory"


@pytest.mark.parametrize(("name", "cls"), list(sections()), ids=[name for name, _ in sections()])
def test_a_wrong_value_is_refused_where_it_stands(name: str, cls: type) -> None:
    for one in fields(cls):
        of = one.metadata["grammar"]
        if of is None:
            continue
        several = get_type_hints(cls)[one.name] == tuple[str, ...]
        text = UNUSABLE.get(of, "#/ x")
        raw = [text] if several else text
        problems = Problems()
        document = Document(Path("/x.toml"), {}, {(name,): 3, (name, one.name): 7})
        assert SettingsBuilder(document, problems).build(cls, {one.name: raw}, (name,)) is None
        (problem,) = (p for p in problems.found if p.line == 7)
        assert problem.text.startswith(f"{name}.{one.name} must ")
