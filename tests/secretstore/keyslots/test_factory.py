"""The settings of the vault are judged before a key slot is made from them."""

from __future__ import annotations

from typing import Any

import pytest

from gatewayd.secretstore.keyslots.factory import VaultSettings


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"key_file": "vault.db"}, "key_file"),
        ({"key_file": "vault.db-wal"}, "key_file"),
        ({"key_file": "state.db"}, "key_file"),
        ({"key_file": "keyring.db"}, "key_file"),
        ({"key_file": "lock"}, "key_file"),
        ({"tcti": "swtpm:path=/run/swtpm.sock"}, "tpm2_emulated"),
        ({"keyring_properties": {"__class__": "x"}}, "public attribute"),
        ({"keyring_properties": {"password": "CANARY"}}, "secret"),
    ],
)
def test_what_would_do_harm_is_refused(values: dict[str, Any], word: str) -> None:
    (problem,) = VaultSettings(**values).problems()
    assert word in problem
    assert "CANARY" not in problem


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"key_file": "vault.key"},
        {"tcti": "swtpm:path=/run/swtpm.sock", "tpm2_emulated": True},
        {"keyring_properties": {"file_path": "/x"}},
    ],
)
def test_what_can_be_used_has_no_problem(values: dict[str, Any]) -> None:
    assert list(VaultSettings(**values).problems()) == []
