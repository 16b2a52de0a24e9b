"""The contract of logins, against a real mosquitto."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gatewayd.testing.contracts.cloud import LoginContract
from tests.cloud.mqtt_broker.brokers import ManagedBroker, managed_broker
from tests.cloud.mqtt_broker.certified import CertifiedBroker, certified_broker

pytestmark = pytest.mark.integration


class TestMqttBroker(LoginContract):
    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[ManagedBroker]:
        async with managed_broker() as testbed:
            yield testbed


class TestMqttBrokerByCertificate(LoginContract):
    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[CertifiedBroker]:
        async with certified_broker() as testbed:
            yield testbed
