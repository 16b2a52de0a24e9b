"""A small keyring backend: a file, which is locked while there is another beside it."""

from __future__ import annotations

import json
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError

NAME = "tests.secretstore.locker.Locker"


class Locker(KeyringBackend):  # type: ignore[misc]  # it has no types
    """Keeps its entries in `file_path`; locked while `file_path`.locked is there."""

    priority = 1
    file_path = ""

    def get_password(self, service: str, username: str) -> str | None:
        return self._entries().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        entries = {**self._entries(), f"{service} {username}": password}
        Path(self.file_path).write_text(json.dumps(entries))

    def delete_password(self, service: str, username: str) -> None:
        entries = self._entries()
        if entries.pop(f"{service} {username}", None) is None:
            raise PasswordDeleteError("it is not there")
        Path(self.file_path).write_text(json.dumps(entries))

    def _entries(self) -> dict[str, str]:
        if Path(f"{self.file_path}.locked").exists():
            raise KeyringLocked("it is locked")
        path = Path(self.file_path)
        return dict(json.loads(path.read_text())) if path.exists() else {}
