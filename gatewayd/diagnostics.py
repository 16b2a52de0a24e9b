"""The dump of a running gateway, for a bug report: its views and the daemon's own settings.

No secret is in it.  Settings of plug-ins are left out: those of other authors may hold anything.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from gatewayd.config import PLAIN, Config
from gatewayd.dbus.names import ObjectInterface
from gatewayd.device.views import DeviceView

Rules = Iterable[tuple[str, str, str, int]]

REFUSED = ("at", "discoverer", "interface", "sender", "name", "cause", "times")
"""The fields of what discovery has refused."""


def dump(
    config: Config,
    views: Mapping[ObjectInterface, object],
    rules: Rules,
    devices: Iterable[DeviceView],
    refused: Iterable[tuple[int, str, str, str, str, str, int]],
) -> int:
    """Return a descriptor of a file in memory that holds the report, at its beginning.  Blocks.

    refused: what discovery has refused, as ListRefused() of D-Bus returns it.
    Raises OSError.
    """
    report = {
        "machine": machine(),
        "settings": {name: asdict(getattr(config, name)) for name in PLAIN},
        "proofs": {name: asdict(proof) for name, proof in config.proofs.items()},
        "plugins": plugins(config),
        "objects": {place.path: plain(view) for place, view in views.items()},
        "rules": [list(rule) for rule in rules],
        "devices": [plain(view) for view in devices],
        "refused": [dict(zip(REFUSED, one, strict=True)) for one in refused],
    }
    return in_memory(json.dumps(report, indent=1, default=str).encode("ascii"))


def machine() -> dict[str, str]:
    """Return the facts of the machine and of this process."""
    return {
        "python": sys.version.split()[0],
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "memory": _resident(),
    }


def plugins(config: Config) -> dict[str, list[str]]:
    """Return the plug-ins in use, each as "name (kind)"."""
    used = {"discovery": config.discoverers, "cloud": config.clouds, "store": (config.store,)}
    return {group: [f"{one.name} ({one.kind})" for one in all_] for group, all_ in used.items()}


def plain(view: object) -> object:
    """Return a view as what JSON can hold."""
    assert is_dataclass(view)
    assert not isinstance(view, type)
    facts: dict[str, Any] = asdict(view)
    return facts


def in_memory(text: bytes) -> int:
    """Return a descriptor of a file in memory that holds a text and is sealed against changes."""
    descriptor = os.memfd_create("gatewayd-dump", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(text)
        os.lseek(descriptor, 0, os.SEEK_SET)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _resident() -> str:
    """Return the resident memory, as the kernel writes it; "" if it is not known."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("VmRSS")), "")
