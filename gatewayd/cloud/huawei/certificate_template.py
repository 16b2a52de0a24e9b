"""The template file, as it is now: by it the subjects of certificates are chosen.

It is read at the start, which ends where it cannot be used, and again for each certificate, so
that a file that was replaced counts at once.
"""

from __future__ import annotations

import logging
from pathlib import Path

from gatewayd.cloud.huawei.template import Template
from gatewayd.cloud.huawei.template_lint import lint
from gatewayd.errors import ConfigError

MAX_BYTES = 1 << 20

log = logging.getLogger(__name__)


def read_template(path: Path) -> bytes:
    """Return what a file holds, or enough of it to be found too large.

    Blocks; raises ConfigError.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


class TemplateFile:
    """Reads a template at once.  Blocks; raises ConfigError with all that is wrong, a line each.

    template: that which was read last and can be used.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._data = path, b""
        self.template = self._lint(read_template(path))

    def read(self) -> Template:
        """Return the template as it is now.  Blocks; raises ConfigError."""
        data = read_template(self._path)
        if data != self._data:
            self.template = self._lint(data)
        return self.template

    def _lint(self, data: bytes) -> Template:
        linted = lint(data)
        if linted.template is None:
            raise ConfigError("\n".join(f"{self._path}: {one}" for one in linted.findings))
        for finding in linted.findings:
            log.warning("%s: %s.", self._path, finding)
        self._data = data
        return linted.template
