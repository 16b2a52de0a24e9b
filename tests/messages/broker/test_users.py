"""The list of the broker's users: what takes effect of it, and what mosquitto reads."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs, StoreUnavailable
from gatewayd.messages.broker import users as module
from gatewayd.messages.broker.users import (
    BrokerUser,
    BrokerUsers,
    Standing,
    access_list,
    child_name,
    decode,
    encode,
    password_file,
    password_line,
    program_name,
)

ONE, OTHER = DeviceId("child-0123456789ab"), DeviceId("child-ba9876543210")
LINE = password_line(Secret(b"secret"), bytes(12))


def some() -> BrokerUsers:
    return (
        BrokerUsers()
        .with_user(BrokerUser(ONE, LINE, {0xABC: 2000.0}))
        .with_user(BrokerUser(OTHER, certificates={0xDEF: 2000.0, 1: 900.0}))
        .with_user(BrokerUser("modbus", LINE, children=(ONE, OTHER)))
    )


def test_mosquitto_passwd_makes_the_same_line(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", file, "x", "secret"], check=True)
    name, _, line = file.read_text().strip().partition(":")
    _, kind, rounds, salt, _ = line.split("$")
    assert (name, kind) == ("x", "7")
    assert password_line(Secret(b"secret"), base64.b64decode(salt), int(rounds)) == line


def test_a_child_and_a_program_have_the_rights_of_their_topics() -> None:
    assert access_list(some()).splitlines() == [
        "user gatewayd", "topic read c/+/up/#", "topic write c/+/down/#",
        "user modbus",
        f"topic write c/{ONE}/up/#", f"topic read c/{ONE}/down/#",
        f"topic write c/{OTHER}/up/#", f"topic read c/{OTHER}/down/#",
        "pattern write c/%u/up/#", "pattern read c/%u/down/#",
    ]  # fmt: skip
    assert password_file(some(), {"gatewayd": "$7$x"}) == (
        f"{ONE}:{LINE}\ngatewayd:$7$x\nmodbus:{LINE}\n"
    )


def test_who_is_not_admitted_has_no_effect() -> None:
    effective = some().effective({ONE: Standing.ADMITTED, OTHER: Standing.OUT}.__getitem__)
    assert set(effective.users) == {ONE, "modbus"}
    assert effective.users["modbus"].children == (ONE,)
    assert set(effective.revoked) == {0xDEF, 1}
    assert effective.revoked_from(some()) == (OTHER,)
    assert some().effective(lambda _: Standing.ADMITTED) == some()
    assert effective.children == {ONE}


def test_who_is_undecided_may_log_in_and_no_program_speaks_for_it() -> None:
    effective = some().effective(lambda _: Standing.UNDECIDED)
    assert set(effective.users) == {ONE, OTHER, "modbus"}
    assert effective.users["modbus"].children == ()
    assert effective.revoked == {}


def test_revoked_certificates_are_kept_until_their_end() -> None:
    assert some().without(OTHER, 1000.0).revoked == {0xDEF: 2000.0}
    gone = some().without(OTHER, 0.0).without(ONE, 1500.0)
    assert set(gone.revoked) == {0xDEF, 0xABC}
    assert set(gone.users) == {"modbus"}
    with pytest.raises(InvalidArgs):
        some().without("nothing", 0.0)


def test_a_child_that_is_forgotten_is_not_spoken_for() -> None:
    left = some().without_child(ONE, 0.0)
    assert set(left.users) == {OTHER, "modbus"}
    assert left.users["modbus"].children == (OTHER,)
    assert left.without_child(DeviceId("child-000000000000"), 0.0) == left


def test_the_numbers_of_users_and_certificates_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    users = some()
    for serial in range(module.MAX_CERTIFICATES - 1):
        users = users.with_certificate(ONE, serial, 3000.0, 1000.0)
    with pytest.raises(InvalidArgs):
        users.with_certificate(ONE, 99, 3000.0, 1000.0)
    assert set(users.with_certificate(ONE, 99, 4000.0, 3500.0).users[ONE].certificates) == {99}
    monkeypatch.setattr(module, "MAX_USERS", 3)
    assert some().with_user(BrokerUser(ONE)).users[ONE].password == ""
    with pytest.raises(InvalidArgs):
        some().with_user(BrokerUser("further"))
    monkeypatch.setattr(module, "MAX_REVOKED", 1)
    with pytest.raises(InvalidArgs):
        some().without(OTHER, 0.0)


@pytest.mark.parametrize(
    "name", ["", "gatewayd", "gatewayd2", "child-x", "gateway-alibaba", "a:b", "a/b", "+", "A",
             "1a", "a" * 33, "a\nb", "ä"],
)  # fmt: skip
def test_what_cannot_be_the_name_of_a_program(name: str) -> None:
    with pytest.raises(InvalidArgs):
        program_name(name)


def test_the_names_of_children_are_those_of_gatewayd() -> None:
    for name in (ONE, "gateway-alibaba", "gateway-huawei_2"):
        assert child_name(name) == name
        assert not BrokerUser(name).is_program
    for name in ("child-", "child-xyz", "gatewayd", "modbus", f"{ONE}/#", f"{ONE}\n"):
        with pytest.raises(InvalidArgs):
            child_name(name)


NAMES = st.from_regex(r"child-[0-9a-f]{12}", fullmatch=True).map(DeviceId)
ENDS = st.dictionaries(st.integers(1, 1 << 159), st.integers(0, 1 << 40).map(float), max_size=3)


@settings(max_examples=30)
@given(
    st.dictionaries(NAMES, st.builds(BrokerUser, NAMES, st.sampled_from(["", LINE]), ENDS)),
    st.lists(NAMES, max_size=3),
    ENDS,
)
def test_what_is_kept_is_read_again(
    users: dict[str, BrokerUser], children: list[DeviceId], revoked: dict[int, float]
) -> None:
    program = BrokerUser("modbus", LINE, children=tuple(children))
    listed = {user.name: user for user in (*users.values(), program)}
    assert decode(encode(BrokerUsers(listed, revoked))) == BrokerUsers(listed, revoked)


@pytest.mark.parametrize("version", [b"1e999", b"Infinity", b"[" * 100_000, b'"x"'])
def test_a_list_of_no_version_is_damaged(version: bytes) -> None:
    with pytest.raises(StoreUnavailable, match="damaged"):
        decode(b'{"version": ' + version + b', "revoked": {}}\n')


@pytest.mark.parametrize(
    "changes",
    [{"name": "gatewayd"}, {"name": "a\nuser gatewayd"}, {"password": "x"}, {"name": 7},
     {"password": f"{LINE}\ngatewayd:{LINE}"}, {"children": ["#"]}, {"children": 7},
     {"certificates": {"7": 10**400}}, {"certificates": {"xyz": 1}}, {"certificates": []}],
)  # fmt: skip
def test_what_is_kept_is_checked_when_it_is_read(changes: dict[str, object]) -> None:
    head, first, *_ = encode(some()).decode().splitlines()
    damaged = json.dumps({**json.loads(first), **changes})
    with pytest.raises(StoreUnavailable, match="damaged"):
        decode(f"{head}\n{damaged}\n".encode())


@pytest.mark.parametrize("data", [b"", b"\n", b"x", b"{}", b"\xff", b'{"version": 1}', b"[" * 9999])
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(StoreUnavailable, match="damaged"):
        decode(data)


def test_the_list_of_a_newer_version_is_refused() -> None:
    with pytest.raises(StoreUnavailable, match="version 2"):
        decode(encode(some()).replace(b'"version": 1', b'"version": 2'))
