"""What `gatewayctl huawei template lint` and `preview` do: the console's "Debug", without one.

They need no running daemon, and no cloud.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from gatewayd.cloud.huawei import subject, template_text
from gatewayd.cloud.huawei.findings import Finding
from gatewayd.cloud.huawei.preview import Device, preview
from gatewayd.cloud.huawei.template_lint import lint
from gatewayd.ctl_commands import Command
from gatewayd.ctl_huawei_new import NEW
from gatewayd.ctl_text import properties, safe
from gatewayd.errors import ConfigError, GatewayError


def template_lint(file: Path, out: TextIO) -> int:
    """Print what is wrong with a template; return 1 if any of it is an error.

    Raises GatewayError if the file cannot be read.
    """
    linted = lint(_read(file, template_text.MAX_BYTES))
    _show(file, linted.findings, out)
    if linted.template is not None:
        print(f"{safe(file)} can be used.", file=out)
    return int(linted.template is None)


def template_preview(template: Path, certificate: Path, out: TextIO, *, as_json: bool) -> int:
    """Print which device the platform would register; return 1 if none.

    certificate: PEM; of a chain the first counts.  as_json: print one JSON object, with the keys
    device, as the platform's API shows it, or null, and findings.
    Raises GatewayError if a file cannot be read, or is no certificate.
    """
    linted = lint(_read(template, template_text.MAX_BYTES))
    try:
        name = subject.read_certificate(_read(certificate, subject.MAX_BYTES)).subject
    except ConfigError as error:
        raise GatewayError(f"{certificate} cannot be used: {error}") from error
    device, findings = None, linted.findings
    about: tuple[Finding, ...] = ()
    if linted.template is not None:
        made = preview(linted.template, subject.subject_of(name))
        device, about = made.device, made.findings
    if as_json:
        _show_json(device, (*findings, *about), out)
    else:
        _show(template, findings, out)
        _show(certificate, about, out)
        _show_device(device, out)
    return int(device is None)


def _read(file: Path, limit: int) -> bytes:
    """Return what a file holds, or one byte more than the limit."""
    try:
        with file.open("rb") as opened:
            return opened.read(limit + 1)
    except OSError as error:
        raise GatewayError(f"{file} cannot be read: {error.strerror}") from error


def _show(file: Path, findings: Iterable[Finding], out: TextIO) -> None:
    for finding in findings:
        print(safe(f"{file}: {finding}"), file=out)


def _show_device(device: Device | None, out: TextIO) -> None:
    if device is None:
        print("No device would be registered.", file=out)
        return
    facts = _facts(device) | {"tags": [f"{key}={value}" for key, value in device.tags]}
    for line in properties(facts):
        print(line, file=out)


def _show_json(device: Device | None, findings: Iterable[Finding], out: TextIO) -> None:
    told = [asdict(finding) | {"fatal": finding.fatal} for finding in findings]
    facts = None if device is None else _facts(device)
    print(json.dumps({"device": facts, "findings": told}, indent=2), file=out)


def _facts(device: Device) -> dict[str, Any]:
    """Return a device under the names that the platform's API has for its fields."""
    return {
        "device_id": device.device_id,
        "node_id": device.node_id,
        "product_id": device.product_id,
        "device_name": device.name,
        "tags": [{"tag_key": key, "tag_value": value} for key, value in device.tags],
        "policy_ids": list(device.policy_ids),
    }


def _file(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a template, JSON: its body or the whole request")


def _template_and_certificate(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--template", type=Path, required=True, metavar="FILE", help="a template, JSON"
    )
    parser.add_argument(
        "--cert", type=Path, required=True, metavar="FILE", help="a device certificate, PEM"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


HUAWEI_TEMPLATE = (
    Command("huawei template lint", "say what is wrong with a provisioning template", _file,
            lambda _, a: template_lint(a.file, sys.stdout)),
    Command("huawei template preview", "show the device that would be registered",
            _template_and_certificate,
            lambda _, a: template_preview(a.template, a.cert, sys.stdout, as_json=a.json)),
    NEW,
)  # fmt: skip
"""The commands of the group "huawei template"."""
