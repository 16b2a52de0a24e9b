"""A recovery key as words: shown once, typed when the vault does not open any more."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gatewayd.cli.client import BusRefusal, refusal
from gatewayd.cli.command import CommandFailed
from gatewayd.cli.vault import recovery
from gatewayd.errors import GatewayError, StoreFull, StoreSealed
from gatewayd.secretstore.keyslots import recovery_words
from gatewayd.storage.records import DirectoryLock
from tests.cli.test_vault import Operator
from tests.support.pseudo_terminal import on_terminal

pytestmark = pytest.mark.integration

SEED = bytes(range(recovery_words.SEED_SIZE))
WORDS = recovery_words.encode(SEED)
WORD = re.compile(rf"\b[{recovery_words.LETTERS}]{{{recovery_words.LENGTH}}}\b")
"""What may be a word of a recovery key."""


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def shown_words(printed: str) -> str:
    """Return the words that `add-recovery` has shown."""
    return "\n".join(line for line in printed.splitlines() if line.startswith("    "))


def answers(*lines: str) -> Callable[[str], str]:
    left = iter(lines)
    return lambda _prompt: next(left)


def test_the_words_open_what_the_key_of_the_machine_does_not(operator: Operator) -> None:
    operator.succeeds("init", "--no-recovery")
    printed = operator.succeeds("add-recovery")
    kind = printed.partition("Added the key slot ")[2].partition(".")[0]
    words = operator.directory / "words"
    words.write_text(shown_words(printed))
    assert kind in operator.succeeds("status")
    (operator.state / "development.key").unlink()
    assert "State: unsealed" in operator.succeeds("status", "--recovery-key", str(words))
    with words.open() as stdin:
        printed = operator.succeeds("recover", stdin=stdin.fileno())
    assert "State: unsealed" in printed
    assert "State: unsealed" in operator.succeeds("status")


def test_words_are_typed_on_a_terminal_and_a_wrong_one_is_asked_for_again(
    operator: Operator,
) -> None:
    operator.succeeds("init", "--no-recovery")
    words = shown_words(operator.succeeds("add-recovery")).split()
    (operator.state / "development.key").unlink()
    wrong = words[2][:-1] + ("c" if words[2][-1] != "c" else "b")
    lines = (*words[:2], wrong, words[2].upper(), " ".join(words[3:]))
    with on_terminal(operator.command("recover"), operator.environ) as terminal:
        for line in lines:
            terminal.wait_for("of 8: ")
            terminal.type(line)
        assert terminal.end() == 0, terminal.shown
    assert "word 3 of the recovery key" in terminal.shown
    assert not any(word in terminal.shown for word in words)
    assert "State: unsealed" in operator.succeeds("status")


def test_the_words_of_another_vault_open_nothing(operator: Operator) -> None:
    operator.succeeds("init", "--no-recovery")
    operator.succeeds("add-recovery")
    words = operator.directory / "words"
    words.write_text(" ".join(WORDS))
    assert "State: sealed" in operator.succeeds("status", "--recovery-key", str(words))
    assert "no recovery key of this vault" in operator.fails(
        "recover", "--recovery-key", str(words)
    )
    words.write_text(" ".join((*WORDS[:-1], "cccccc")))
    assert "word 8 " in operator.fails("status", "--recovery-key", str(words))


def _no_vault(operator: Operator) -> None:
    shutil.rmtree(operator.state)


def _no_key(operator: Operator) -> None:
    (operator.state / "development.key").unlink()


def _another_store(operator: Operator) -> None:
    keyring = '[secretstore]\nbackend = "keyring"\n[secretstore.keyring]\nbackend = "SecretService"'
    (operator.directory / "gatewayd.toml").write_text(keyring)


def _no_configuration(operator: Operator) -> None:
    (operator.directory / "gatewayd.toml").write_text("key = 1\n")


def _held(operator: Operator) -> None:
    """Another process has it, and is no daemon on the bus."""
    operator.environ["GATEWAYD_BUS"] = "unix:path=/nonexistent"


def _damaged(operator: Operator) -> None:
    (operator.state / "vault.db").write_bytes(b"no database" * 100)


PLACES = (_no_vault, _no_key, _another_store, _no_configuration, _damaged, _held)


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["people", "json"])
@pytest.mark.parametrize("place", PLACES)
def test_no_words_are_shown_where_the_key_is_not_added(
    operator: Operator, place: Callable[[Operator], None], as_json: tuple[str, ...]
) -> None:
    operator.succeeds("init", "--no-recovery")
    place(operator)
    lock = DirectoryLock(operator.state) if place is _held else None
    status, printed, said = operator.ends("add-recovery", *as_json)
    if lock is not None:
        lock.close()
    assert status == 1
    (line,) = (printed or said).splitlines()
    assert "recovery key" not in printed
    assert "Words" not in printed
    assert not WORD.search(line), line


def refused(error: BaseException) -> recovery.AddedKey:
    def add(_pem: bytes) -> str:
        raise error

    return recovery.add_key(None, add, lambda size: SEED[:size])


@pytest.mark.parametrize(
    "error",
    [
        StoreFull("the disk is full"),
        StoreSealed("the vault has no key"),
        BusRefusal("org.gatewayd1.Error.StoreSealed", "The vault is sealed"),
        BusRefusal("org.freedesktop.DBus.Error.ServiceUnknown", "gatewayd is not running"),
        refusal("GDBus.Error:org.freedesktop.DBus.Error.AccessDenied: No.", sent=True),
        refusal("Could not connect: No such file or directory"),
    ],
)
def test_what_was_refused_is_raised_and_no_key_shown(error: GatewayError) -> None:
    with pytest.raises(type(error), match=str(error)):
        refused(error)


@pytest.mark.parametrize(
    "error",
    [
        refusal("Timeout was reached", sent=True),
        refusal("GDBus.Error:org.freedesktop.DBus.Error.NoReply: It has left.", sent=True),
        refusal("The connection is closed", sent=True),
        KeyboardInterrupt(),
    ],
)
def test_where_no_reply_comes_the_words_are_shown_with_that(error: BaseException) -> None:
    """The daemon may have added the key: it must not be that nobody has its words."""
    made = refused(error)
    lines = made.lines()
    shown = next(lines)
    assert set(WORDS) <= set(shown.split())
    assert "Added" not in shown
    with pytest.raises(CommandFailed, match="not known whether"):
        next(lines)
    records = made.record()
    assert next(records) == {"Slot": made.slot, "Added": False, "Words": " ".join(WORDS)}
    with pytest.raises(CommandFailed, match="not known whether"):
        next(records)


def test_the_words_are_those_of_the_key_that_was_added() -> None:
    added: list[bytes] = []

    def add(pem: bytes) -> str:
        added.append(pem)
        return "recovery-0"

    made = recovery.add_key(None, add, lambda size: SEED[:size])
    assert added == [recovery_words.public_pem(SEED)]
    (shown,) = made.lines()
    assert set(WORDS) <= set(shown.split())
    assert "Added the key slot recovery-0." in shown
    assert list(made.record()) == [{"Slot": "recovery-0", "Added": True, "Words": " ".join(WORDS)}]


def test_words_that_cannot_be_printed_are_no_success(operator: Operator) -> None:
    operator.succeeds("init", "--no-recovery")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            operator.command("add-recovery"), env=operator.environ, stdin=subprocess.DEVNULL,
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, "could not be shown" in done.stderr) == (1, True), done.stderr
    (slot,) = re.findall(r"recovery-\w+", operator.succeeds("status"))
    operator.succeeds("remove-slot", slot)


def test_several_words_are_typed_at_once_and_an_empty_line_is_asked_again() -> None:
    said: list[str] = []
    ask = answers("", " ".join(WORDS[:3]), "", f"{WORDS[3]} {WORDS[3]}", "-".join(WORDS[4:]))
    assert recovery.ask_words(ask, said.append) == list(WORDS)
    assert len(said) == 1
    assert said[0].startswith("word 5 ")


def test_what_is_on_the_standard_input_is_checked(operator: Operator) -> None:
    operator.succeeds("init", "--no-recovery")
    assert "8 words, and here are 0" in operator.fails("recover")
