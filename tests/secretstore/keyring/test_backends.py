"""A keyring backend is found by name, and by nothing else."""

from __future__ import annotations

import re
import sys
import types
from importlib.metadata import EntryPoint

import pytest

from gatewayd.errors import PluginError
from gatewayd.secretstore.keyring import backends
from gatewayd.secretstore.keyring.backends import GROUP, UNSAFE, find, installed, make
from tests.support.keyrings import FaultyKeyring

FAULTY = "tests.support.keyrings.FaultyKeyring"
ENTRY = "tests.support.keyrings:FaultyKeyring"


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, GROUP)


@pytest.mark.parametrize(
    ("name", "points"),
    [
        (FAULTY, ()),
        ("mine", (point("mine", ENTRY),)),
        ("mine", (point("mine", ENTRY),) * 2),
    ],
)
def test_found(name: str, points: tuple[EntryPoint, ...]) -> None:
    assert find(name, points) is FaultyKeyring


def test_the_module_of_an_entry_point_is_enough_where_it_has_one_backend() -> None:
    assert find("SecretService", installed()).__module__ == "keyring.backends.SecretService"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no-such-backend", "correct the name"),
        ("nowhere.at.All", r"cannot be imported \(ModuleNotFoundError\)"),
        ("tests.support.keyrings.Nothing", r"cannot be imported \(AttributeError\)"),
        ("tests.support.keyrings.SecretService", "is no keyring backend"),
        ("keyring.backend.KeyringBackend", "is no keyring backend"),
        ("two", "FileKeyring, .*FaultyKeyring, .*LockableKeyring: write one"),
        ("function", "has these keyring backends: none"),
        ("twice", "claimed twice"),
        ("../../etc", "is no name"),
        ("", "is no name"),
    ],
)
def test_not_found(name: str, why: str) -> None:
    points = [
        point("two", "tests.support.keyrings"),
        point("function", "tests.support.keyrings:secret_service"),
        point("twice", ENTRY),
        point("twice", "tests.support.keyrings:FileKeyring"),
    ]
    with pytest.raises(PluginError, match=why):
        find(name, points)


@pytest.mark.parametrize(
    "name",
    [
        "keyring.backends.fail.Keyring",
        "keyring.backends.null.Keyring",
        "keyring.backends.chainer.ChainerBackend",
        "chainer",
        "keyrings.alt.file.PlaintextKeyring",
        "keyrings.alt.file.EncryptedKeyring",
        "keyrings.alt.multi.MultipartKeyringWrapper",
        "keyrings.alt.Google.DocsKeyring",
        "gatewayd.secretstore.vault.keyring_backend.VaultKeyring",
    ],
)
def test_the_unsafe_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(PluginError, match=re.escape(f"{name} is refused")):
        find(name, installed())


@pytest.mark.parametrize("unsafe", UNSAFE)
def test_who_derives_from_an_unsafe_one_is_refused_too(
    unsafe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, kind = unsafe.rpartition(".")
    base = type(kind, (FaultyKeyring,), {"__module__": module, "__qualname__": kind})
    mine = types.ModuleType("mine")
    mine.Mine = type("Mine", (base,), {"__module__": "mine"})  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "mine", mine)
    with pytest.raises(PluginError, match=re.escape(UNSAFE[unsafe])):
        find("mine.Mine", ())


def test_properties_come_from_us_and_not_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEYRING_PROPERTY_PRIORITY", "99")
    made = make(FaultyKeyring, {"appid": "ours"})
    assert (made.priority, made.appid) == (1, "ours")
    assert isinstance(made, FaultyKeyring)


def test_nothing_is_loaded_to_find_a_name() -> None:
    broken = point("broken", "no.such.module")
    assert find("mine", (broken, point("mine", ENTRY))) is FaultyKeyring
    assert backends.refusal("SecretService") == ""
