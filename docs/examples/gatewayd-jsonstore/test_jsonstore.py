"""The contract of secret stores, for the example."""

from pathlib import Path

from gatewayd_jsonstore import JsonStore, JsonStoreSettings

from gatewayd.secretstore.store import SecretStore
from gatewayd.testing.contracts.secretstore import SecretStoreContract


class TestJsonStore(SecretStoreContract):
    def open(self, directory: Path) -> SecretStore:
        return JsonStore(JsonStoreSettings(), directory)

    def remove_key(self, directory: Path) -> None:
        (directory / "key").rename(directory / "key.away")

    def restore_key(self, directory: Path) -> None:
        (directory / "key.away").rename(directory / "key")
