"""What is said to connect, by the vendor's and other implementations' values."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any

import pytest

from gatewayd.cloud.huawei.login import certificate_login, keyed_hash, secret_fault, secret_login
from gatewayd.device.secret import Secret
from tests.cloud.huawei.vectors import VECTORS


def seconds(row: dict[str, Any]) -> float:
    return dt.datetime.fromisoformat(row["utc"]).timestamp()


@pytest.mark.parametrize("row", VECTORS["secret_connect"]["rows"], ids=lambda row: str(row["name"]))
def test_login_with_a_secret(row: dict[str, Any]) -> None:
    secret = Secret(row["secret"].encode())
    assert not secret_fault(secret)
    checked = row["signature_type"] == "1"
    login = secret_login(row["device_id"], secret, seconds(row), check_timestamp=checked)
    assert (login.client_id, login.user_name) == (row["client_id"], row["username"])
    assert login.client_id.endswith(row["timestamp"])
    assert login.password.reveal().decode() == row["password"]


@pytest.mark.parametrize("row", VECTORS["x509_connect"]["rows"], ids=lambda row: row["client_id"])
def test_login_with_a_certificate(row: dict[str, Any]) -> None:
    checked = "_0_1_" in row["client_id"]
    login = certificate_login(row["device_id"], seconds(row), check_timestamp=checked)
    assert (login.client_id, login.user_name) == (row["client_id"], row["username"])
    assert (login.password.reveal() or None) == row["password"]


def test_the_last_moment_of_an_hour() -> None:
    end = dt.datetime(2026, 1, 2, 4, tzinfo=dt.UTC).timestamp()
    assert certificate_login("d", end - 0.001).client_id == "d_0_0_2026010203"
    assert certificate_login("d", end).client_id == "d_0_0_2026010204"


@pytest.mark.parametrize("secret", ["", "a" * 7, "a" * 33, "aaaa aaaa", "aaaaaaaa\n", "ääääääää"])
def test_what_is_no_secret(secret: str) -> None:
    fault = secret_fault(Secret(secret.encode()))
    assert fault == "must be 8 to 32 characters: letters, digits, _ and -"


def test_the_hash_is_the_one_that_the_vendor_prints() -> None:
    printed = VECTORS["fn_hmacsha256_doc_check"]
    content, key = json.loads(printed["expr"])["Fn::HmacSHA256"]
    assert keyed_hash(key.encode(), content.encode()) == printed["published"]


def test_the_hash_is_the_one_of_the_vendors_other_service() -> None:
    """Its secrets of groups are derived by the same function, twice."""
    row = VECTORS["bootstrap_group_secret"]
    group = base64.b64decode(row["group_secret_b64"])
    derived = keyed_hash(row["device_id"].encode(), group)
    assert derived == row["derived_device_secret"]
    assert keyed_hash(row["timestamp"].encode(), derived.encode()) == row["password"]
