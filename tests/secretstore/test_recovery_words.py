"""A recovery key as words: what is written down opens, and what is mistyped is found and named."""

from __future__ import annotations

import itertools
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.errors import ConfigError
from gatewayd.secretstore.keyslots import recovery_words as words
from gatewayd.secretstore.keyslots.recovery import RecoveryKey, read_public

SEEDS = st.binary(min_size=words.SEED_SIZE, max_size=words.SEED_SIZE)
FIXED = "cccbcg dcecff cgchcr icjckd clcnce rctcuc cvbcbb bbdbec"
FIXED_SLOT = "recovery-e352e4804566bee4"


def named(text: str) -> str:
    """Return the number of the word that is refused."""
    with pytest.raises(ConfigError) as caught:
        words.decode(text)
    found = re.match(r"word (\d) of the recovery key", str(caught.value))
    assert found, str(caught.value)
    return found[1]


@given(SEEDS)
def test_the_words_give_the_key_back(seed: bytes) -> None:
    made = words.encode(seed)
    assert [len(word) for word in made] == [words.LENGTH] * words.WORDS
    for text in (" ".join(made), "-".join(made), "\n".join(made).upper(), "".join(made)):
        assert words.decode(f"  {text}\n") == seed


def test_what_was_written_down_opens_for_ever() -> None:
    """These words stand on paper somewhere: neither the letters nor the key may change."""
    made = words.encode(bytes(range(words.SEED_SIZE)))
    assert made == tuple(FIXED.split())
    assert RecoveryKey(words.private_pem(words.decode(FIXED))).kind == FIXED_SLOT


@given(SEEDS, st.integers(0, words.WORDS - 1), st.integers(0, words.LENGTH - 1), st.data())
def test_a_wrong_letter_is_found_and_its_word_named(
    seed: bytes, which: int, at: int, data: st.DataObject
) -> None:
    made = list(words.encode(seed))
    word = made[which]
    other = data.draw(st.sampled_from(sorted(set(words.LETTERS) - {word[at]})))
    made[which] = word[:at] + other + word[at + 1 :]
    assert named(" ".join(made)) == str(which + 1)


@given(SEEDS)
def test_two_letters_or_two_words_exchanged_are_found(seed: bytes) -> None:
    made = words.encode(seed)
    for a, b in itertools.combinations(range(words.LENGTH), 2):
        letters = list(made[3])
        letters[a], letters[b] = letters[b], letters[a]
        if letters[a] != letters[b]:
            assert named(" ".join((*made[:3], "".join(letters), *made[4:]))) == "4"
    for a, b in itertools.combinations(range(words.WORDS), 2):
        exchanged = list(made)
        exchanged[a], exchanged[b] = exchanged[b], exchanged[a]
        if exchanged[a] != exchanged[b]:
            assert named(" ".join(exchanged)) in (str(a + 1), str(b + 1))


@pytest.mark.parametrize(
    "text", ["", "cccccc", "a" * 48, "é" * 48, "c" * 47, "c" * 49, "1 2 3", "c" * 100_000]
)
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        words.decode(text)
    assert not text or text not in str(caught.value)


def test_a_ninth_word_is_refused() -> None:
    made = words.make(os.urandom)
    with pytest.raises(ConfigError, match="8 words, and here are 9"):
        words.decode(" ".join((*made, made[0])))


@given(SEEDS)
def test_the_vault_gets_the_public_half(seed: bytes) -> None:
    key = RecoveryKey(words.private_pem(seed))
    assert read_public(words.public_pem(seed)) == key.public
    assert words.public_pem(seed) != words.public_pem(bytes(words.SEED_SIZE)) or not any(seed)


def test_words_and_pem_are_told_apart() -> None:
    made = words.make(os.urandom)
    assert words.is_words(" ".join(made).encode())
    assert not words.is_words(words.private_pem(words.decode(" ".join(made))))


def test_the_words_are_random() -> None:
    assert words.make(os.urandom) != words.make(os.urandom)
