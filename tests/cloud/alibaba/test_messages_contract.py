"""The laws of any session over which a child speaks, by every route."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from gatewayd.testing.contracts.messages import MessagesContract
from tests.cloud.alibaba import direct, site
from tests.cloud.alibaba.speaking import Speaking, as_gateway, behind_the_gateway, directly


class TestDirect(MessagesContract):
    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self._folder = direct.furnish(tmp_path)

    def make_testbed(self) -> AbstractAsyncContextManager[Speaking]:
        return directly(self._folder)


class TestPreregistrationFree(MessagesContract):
    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self._folder = direct.furnish(tmp_path)

    def make_testbed(self) -> AbstractAsyncContextManager[Speaking]:
        return directly(self._folder, "direct-preregistration-free")


class TestSubDevice(MessagesContract):
    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self._folder = site.furnish(tmp_path)

    def make_testbed(self) -> AbstractAsyncContextManager[Speaking]:
        return behind_the_gateway(self._folder)


class TestGateway(MessagesContract):
    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self._folder = site.furnish(tmp_path)

    def make_testbed(self) -> AbstractAsyncContextManager[Speaking]:
        return as_gateway(self._folder)
