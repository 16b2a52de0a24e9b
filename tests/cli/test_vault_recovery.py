"""A recovery key as words: shown once, typed when the vault does not open any more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gatewayd.cli.vault import recovery
from gatewayd.errors import GatewayError
from gatewayd.secretstore.keyslots import recovery_words
from tests.cli.test_vault import Operator
from tests.support.pseudo_terminal import on_terminal

SEED = bytes(range(recovery_words.SEED_SIZE))
WORDS = recovery_words.encode(SEED)


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


def test_words_for_a_vault_that_does_not_open_say_that_they_are_void(operator: Operator) -> None:
    operator.succeeds("init", "--no-recovery")
    (operator.state / "development.key").unlink()
    status, printed, said = operator.ends("add-recovery")
    assert (status, recovery.OPENS_NOTHING in said) == (1, True)
    assert len(shown_words(printed).split()) == recovery_words.WORDS
    assert "recovery-" not in operator.succeeds("status")


def test_nothing_is_added_before_the_words_are_shown() -> None:
    added: list[bytes] = []

    def add(pem: bytes) -> str:
        added.append(pem)
        return "recovery-0"

    lines = recovery.add_key(None, add, lambda size: SEED[:size])
    shown: list[str] = []
    while set(WORDS) - set(" ".join(shown).split()):
        shown.append(next(lines))
        assert not added
    assert any("recovery-0" in line for line in lines)
    assert added == [recovery_words.public_pem(SEED)]


def test_several_words_are_typed_at_once_and_an_empty_line_is_asked_again() -> None:
    said: list[str] = []
    ask = answers("", " ".join(WORDS[:3]), "", f"{WORDS[3]} {WORDS[3]}", "-".join(WORDS[4:]))
    assert recovery.ask_words(ask, said.append) == list(WORDS)
    assert len(said) == 1
    assert said[0].startswith("word 5 ")


def test_what_is_on_the_standard_input_is_checked(operator: Operator) -> None:
    operator.succeeds("init", "--no-recovery")
    assert "8 words, and here are 0" in operator.fails("recover")


def test_a_daemon_that_refuses_is_not_hidden() -> None:
    def add(_pem: bytes) -> str:
        raise GatewayError("the vault is sealed")

    lines = recovery.add_key(None, add, lambda size: SEED[:size])
    with pytest.raises(GatewayError, match=recovery.OPENS_NOTHING):
        list(lines)
