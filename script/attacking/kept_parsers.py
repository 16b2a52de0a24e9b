"""Parsers of what lies on the disk: configuration, rules, answers, notes, records and exports.

Operators and their programs write some of it, others are moved from machine to machine, and any of
it may come from a disk that is worn.
"""

from __future__ import annotations

import re
import struct
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gatewayd.admission.policy.engine import PolicyContext
from gatewayd.admission.rules import RuleBook, read_installed
from gatewayd.cli.setup.commands import read_answers
from gatewayd.cli.setup.plan import answers_of, plan
from gatewayd.cli.setup.questions import KEPT, MachineFacts, complete, words
from gatewayd.config import differences, examine
from gatewayd.credentials import notices as credentials
from gatewayd.device.identity import DeviceId, Evidence, Trust
from gatewayd.device.move import NO_MOVES, Generation, Move, Moves
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import ConfigError, StoreError
from gatewayd.monitoring import notices as monitoring
from gatewayd.plugins import Plugins
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.vault.export import export, import_
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.settings.files import ConfigPaths, Problems
from script.attacking.fuzzer import Parser

SAMPLE = Path(__file__).parents[2] / "etc/gatewayd/gatewayd.toml"
VIEW = {
    "source": "mdns", "service": "_x._tcp", "instance": "Axis 7", "host": "axis-7.local",
    "interface": "lan0", "address": "10.77.0.2", "mac": "240ac4000001", "txt.serial": "TH20-0001",
}  # fmt: skip
"""What is known of a device on which the rules decide."""
RULES = (
    b"""
[[rule]]
name = "x"
match = { service = "_x._tcp", instance = "A*" }
action = "reject"
""",
    b"""
[[rule]]
name = "y"
match = { source = "mdns", host = "?*" }
extract = { serial = "txt.serial", last = "txt.serial ~ ([0-9]{4})$" }
action = "register"
provider = "c"
product = "p"
device_name = "{serial|upper|last4}"
list = "list"
require = { trust = "corroborated" }
commands = ["service:reboot", "set:target_*"]
""",
    b"""
[[rule]]
name = "z"
match = { txt.serial = ["TH*", "[A-Z]?"], mac = "24:0a:c4:*" }
action = "ask"
window = true
provider = "d"
product = "q"
device_name = "z-{mac}"
[rule.limits]
devices = 3
[rule.messages]
rate = 0.5
""",
)
ANSWERS = (
    b"""
interface = "lan0"
service = ["_x._tcp", "_y._udp"]
cloud = "alibaba"
endpoint = "cn-shanghai"
product = "a1product00"
secret = "s"
admission = "list"
list = "/etc/gatewayd/serials.txt"
""",
    b"""
interface = "lan0"
cloud = "huawei"
endpoint = "x.iot-mqtts.cn-north-4.myhuaweicloud.com:8883"
product = "64a5b6"
template = "/etc/gatewayd/template.json"
admission = "approval"
ca_file = "/etc/gatewayd/roots.pem"
""",
    b"""
interface = "lan0"
cloud = "huawei"
endpoint = "x.iot-mqtts.cn-north-4.myhuaweicloud.com"
product = "64a5b6"
gateway = "64a5b6/gateway-1"
secret = "s"
admission = "window"
window = 60
""",
    b"""
interface = "lan0"
cloud = "mqtt"
endpoint = "gateway-1@broker.example:8883"
product = "meter"
topics = "site/{product}/{device}"
secret = "s"
admission = "window"
serial = "sn"
""",
    b"""
interface = "lan0"
cloud = "mqtt"
endpoint = "broker.example"
product = "meter"
admission = "list"
""",
)
"""Of each cloud, by each kind of login."""
SITE = b"""
[gateway]
state_directory = "/var/lib/gatewayd"
[network]
proxy = "http://proxy.example:3128"
[discovery.mdns]
interfaces = ["lan0"]
types = ["_x._tcp"]
[discovery.dhcp-leases]
interfaces = ["lan0"]
server = "kea"
[discovery.modbus]
hosts = ["10.77.0.2", "10.77.1.0/28"]
units = [255]
[cloud.alibaba]
region = "cn-shanghai"
[cloud.alibaba.products.a1product00]
secret_credential = "product"
[cloud.west]
kind = "mqtt"
host = "broker.example"
products = ["meter"]
identity = "certificate"
[proof.vendor]
ca_files = ["/etc/gatewayd/vendor.pem"]
port = 443
[messages]
enabled = true
[messages.doors.site]
host = "broker.example"
[[messages.doors.site.topics]]
topic = "site/{name}/{key}"
[credentials.units.bridge]
child = "child-1a"
"""
_HEADER = re.compile(r"(?m)^#(?=\[{1,2}[a-z_]+(?:\]|\.))")
_TOML = (b"[[", b"]]\n", b" = ", b'"""', b"'''", b"0x", b"1e999", b"{ ", b", ", b"\n#", b"[" * 600)


def kept_parsers() -> Iterator[Parser]:
    """Yield all of them."""
    yield Parser("configuration: the main file", _examined, [SITE, *_sections()], (), _TOML)
    yield Parser(
        "configuration: drop-ins, in conf.d and rules.d", _drop_ins,
        [section + b"\0" + rule for section, rule in zip(_sections(), RULES * 9, strict=False)],
        (), (*_TOML, b"\0"),
    )  # fmt: skip
    yield Parser(
        "rules", _rules, RULES, (),
        (*_TOML, b"[[rule]]\n", b"match = ", b"require = ", b"window = true", b"|lower", b" ~ (",
         b"[!", b"(?P<", b")*)*"),
    )  # fmt: skip
    yield Parser("list of identities", _list, [b"TH20-0001\n# one\n", b"24:0a:c4:0c:2f:91 # a\n"])
    yield Parser("answers of gatewayctl setup", _answers, ANSWERS, (ConfigError,),
                 (*_TOML, b"secret", b"\\u0000kept", b"@", b"{device}", b"../"))  # fmt: skip
    yield from _of_the_state()


def _of_the_state() -> Iterator[Parser]:
    yield Parser(
        "notes of credentials that were given", lambda data: credentials.read_notes(_file(data)),
        [b'{"unit bridge": ["child-1a", 1, 1700000000], "user 7": ["child-2b", 2, 5]}'],
        (), (b"Infinity", b"1e999", b"[[", b"null", b'"9"'),
    )  # fmt: skip
    yield Parser(
        "notes of notices", lambda data: monitoring.read_notes(_file(data)),
        [b'[["store", "sealed"], ["cloud", "alibaba"]]'], (), (b"[[", b"{}", b"null", b"1e999"),
    )  # fmt: skip
    moved = Moves(Move(Generation("c", "p", "d", ""), 5), (Generation("o", "p", "d", ""),), 7)
    yield Parser(
        "moves of a child", lambda data: Moves.parse(data.decode("utf-8", "replace")),
        [NO_MOVES.text().encode(), moved.text().encode()],
        (KeyError, TypeError, ValueError, OverflowError, RecursionError),
        (b"Infinity", b"1e999", b"[[", b"null", b'"to":'),
    )  # fmt: skip
    whole = _Export()
    yield Parser(
        "export of a vault, as it was changed", whole.imported, [b"", struct.pack(">I", 60) + b"1"],
        (ConfigError, StoreError), (b"\0\0\0\x3c", b"\0\0\x10\0", b"recovery-", b"CREATE VIEW "),
    )  # fmt: skip


@cache
def _scratch() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="attack-")


def _file(data: bytes, name: str = "file") -> Path:
    """Return a file with this content."""
    file = Path(_scratch().name) / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    return file


@cache
def _plugins() -> Plugins:
    return Plugins.installed()


def _sections() -> Iterator[bytes]:
    """Yield the sections of the sample, with each setting set, where it has a default."""
    for section in _HEADER.split(SAMPLE.read_text())[1:]:
        settings = re.findall(r"(?m)^#?(\[.*|[a-z_]+ =.*\S)$", section)
        yield "\n".join(one for one in settings if not one.endswith("=")).encode() + b"\n"


def _examined(data: bytes) -> None:
    """Have the configuration examined as at a start; what is wrong takes a line each."""
    _check(ConfigPaths.of(_file(data, "main/gatewayd.toml")))


def _drop_ins(data: bytes) -> None:
    """Have two drop-ins examined: what follows a NUL is one of rules."""
    settings, _, rules = data.partition(b"\0")
    main = _file(next(_sections()), "layers/gatewayd.toml")
    _file(settings, "layers/conf.d/50-site.toml")
    _file(rules, "layers/rules.d/50-site.toml")
    _check(ConfigPaths.of(main))


def _check(paths: ConfigPaths) -> list[str]:
    """Return what is wrong with a configuration, and keeps it from being used."""
    found = examine(paths, _plugins(), as_daemon=False)
    lines = [str(problem) for problem in found.problems.found]
    assert all(line.isprintable() for line in lines), "a problem takes one line"
    if found.config is not None:
        assert not differences(found.config, found.config), "it is what it is"
        found.config.products()
    return [str(problem) for problem in found.problems.found if problem.fatal]


def _rules(data: bytes) -> None:
    _file(b"TH20-0001\n", "rules/list")
    _decide(_file(data, "rules/10-rules.toml").parent)


def _list(data: bytes) -> None:
    _file(data, "listed/list")
    _decide(_file(RULES[1], "listed/10-rules.toml").parent)


def _decide(directory: Path) -> None:
    """Read rules, look at them, and decide on a device by them."""
    problems = Problems()
    found = read_installed([directory], problems)
    found.check(problems, {"c": None, "d": {"q"}}, lambda cloud, _: cloud == "c")
    assert all(str(problem).isprintable() for problem in problems.found), "it takes one line"
    book = RuleBook(tuple(found.rules))
    book.name_rules()
    book.interest(VIEW)
    for trust in (Trust.CLAIMED, Trust.PROVEN):
        evidence = Evidence((VIEW,), book.identity_claims(VIEW), trust, addresses=("10.77.0.2",))
        book.judge(DeviceId("child-1a"), evidence, PolicyContext())


def _answers(data: bytes) -> None:
    """Have answers checked; what they lead to can be used, and is read as the same answers."""
    machine = MachineFacts(("lo", "lan0"), (), lambda path: "" if path[0] == "/" else "is relative")
    given = read_answers(data.decode("utf-8", "replace"))
    answers, faults = complete(given, machine)
    assert all(fault.isprintable() for fault in faults), "a fault takes one line"
    if faults:
        return
    made = plan(answers)
    tables: list[Mapping[str, object]] = []
    for name, text in made.files.items():
        _file(text.encode(), f"answers/{Path(name).name}")
        tables.append(tomllib.loads(text))
    assert list(tables[0]) == ["discovery", "cloud"], "nothing else is set"
    assert list(tables[1]) == ["rule"], "likewise"
    kept = {"secret": KEPT, "window": "0"}
    same = {key: kept.get(key, answer) for key, answer in answers.items()}
    assert _normal(answers_of(*tables)) == _normal(same), "setup reads what it has written"


def _normal(answers: Mapping[str, str]) -> Mapping[str, str]:
    """Return answers without what is written in several ways."""
    parted = {key: " ".join(words(answers[key])) for key in ("interface", "service")}
    paths = {key: str(Path(answers[key])) for key in ("ca_file",) if answers[key]}
    return {**answers, **parted, **paths}


class _Export:
    """An export, of which an input says the changes: an offset of four bytes, and what is there."""

    def __init__(self) -> None:
        key = X25519PrivateKey.generate()
        raw = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._key, self._made = RecoveryKey(raw), b""
        self._public = key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )

    def imported(self, changes: bytes) -> None:
        """Import it, as it is with these changes; what was not changed is whole."""
        whole = bytearray(self._made or self._make())
        for change in changes.split(b"\n"):
            if len(change) > 4:
                at = int.from_bytes(change[:4]) % len(whole)
                whole[at : at + len(change) - 4] = change[4:]
        with TemporaryDirectory(prefix="attack-") as name, closing(_vault(Path(name))) as vault:
            vault.begin()
            try:
                import_(vault, bytes(whole), self._key)
            except (ConfigError, StoreError):
                vault.rollback()
                raise
            vault.commit()
            for ref in vault.refs():
                assert vault.get(ref) == Secret(ref.device.encode()), "no wrong secret"

    def _make(self) -> bytes:
        with TemporaryDirectory(prefix="attack-") as name, closing(_vault(Path(name))) as vault:
            vault.begin()
            for number in range(1, 4):
                ref = SecretRef("cloud", DeviceId(f"child-{number}"), number)
                vault.put(ref, Secret(ref.device.encode()))
            vault.add_recovery(self._public)
            vault.commit()
            self._made = export(vault, {"state.db": b"records"})
        return self._made


def _vault(directory: Path) -> Vault:
    return Vault(VaultSettings(key="development-file"), directory)
