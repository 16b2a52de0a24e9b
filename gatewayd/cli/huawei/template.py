"""Commands about provisioning templates of Huawei: write, lint and preview one.

They need no running daemon and no cloud.  Lint and preview replace the console's "Debug".
"""

from __future__ import annotations

import io
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from gatewayd.cli.command import (
    Command,
    CommandFailed,
    Connect,
    argument,
    read_file,
    write_file,
)
from gatewayd.cli.output import properties, safe
from gatewayd.cli.output.fields import FieldKind, Record, anything, maybe, text
from gatewayd.cloud.huawei import settings, subject
from gatewayd.cloud.huawei import template as template_text
from gatewayd.cloud.huawei.subject import ATTRIBUTES, PREFIX, full_name
from gatewayd.cloud.huawei.template import (
    ProvisioningTemplate,
    Ref,
    Tag,
    TemplateDiagnostic,
    Value,
    lint,
)
from gatewayd.cloud.huawei.template_device import ProvisionedDevice, preview
from gatewayd.errors import ConfigError, GatewayError

MAX_LINE = 4096
MAX_ANSWERS = settings.MAX_TAGS
USAGE = 2
"""The exit status that argparse has for wrong usage."""
_WORDS = ", ".join(parameter.removeprefix(PREFIX) for parameter in ATTRIBUTES)


def reference(text: str) -> Ref:
    """Return the reference to an attribute, named by the last word of its parameter or all of it.

    There may be an @ before it, as there must be where a text could be meant.
    Raises ArgumentTypeError.
    """
    try:
        return Ref(full_name(text.removeprefix("@")))
    except KeyError:
        raise ArgumentTypeError(f"{text[:64]!a} is none of {_WORDS}") from None


def _value(text: str, rule: settings.Field) -> Value:
    """Return a reference for what begins with @, which no ID or tag does, else the text itself."""
    if text.startswith("@"):
        return reference(text)
    if fault := rule.fault(text):
        raise ArgumentTypeError(f"{text[:64]!a} {fault}")
    return text


def product(text: str) -> Value:
    """Return a product ID, or the reference to one.  Raises ArgumentTypeError."""
    return _value(text, settings.PRODUCT_ID)


def tag(text: str) -> Tag:
    """Return a tag written KEY=VALUE.  Raises ArgumentTypeError."""
    key, _, value = text.partition("=")
    return Tag(_value(key, settings.TAG_KEY), _value(value, settings.TAG_VALUE))


@dataclass(frozen=True, slots=True)
class TemplateOption:
    """An option of `huawei template new`, and the question to ask where it is missing.

    parse: raises ArgumentTypeError.  many: whether it may be given more than once.
    ask: the question; "" for an option that is never asked for.
    """

    flag: str
    metavar: str
    parse: Callable[[str], object]
    help: str
    ask: str = ""
    required: bool = False
    many: bool = False

    @property
    def key(self) -> str:
        """The name of its value among the arguments."""
        return self.flag.strip("-").replace("-", "_")


# fmt: off
OPTIONS = (
    TemplateOption(
        "--product", "ID|@ATTR", product, "product ID, or the attribute that holds it",
        "Product ID, or @ and the attribute that holds it", required=True),
    TemplateOption(
        "--node-id", "ATTR", reference, "the attribute that holds the node ID",
        f"Attribute that holds the node ID ({_WORDS})", required=True),
    TemplateOption(
        "--device-name", "ATTR", reference, "the attribute that holds the device's name",
        "Attribute that holds the device's name, or empty"),
    TemplateOption(
        "--device-id", "ATTR", reference, "the attribute that holds the device ID (default: "
        "product ID, underscore and node ID)"),
    TemplateOption(
        "--tag", "KEY=VALUE|KEY=@ATTR", tag, "a tag of the device; may be given more than once",
        "Tag as KEY=VALUE or KEY=@attribute, or empty", many=True),
    TemplateOption(
        "--policy", "ID", str, "ID of a device policy; may be given more than once",
        "ID of a device policy, or empty", many=True),
    TemplateOption(
        "--name", "NAME", str, "write the complete request that creates a template of this name",
        "Name, to write the complete request that creates it, or empty for the body alone"),
    TemplateOption("--description", "TEXT", str, "description of the template"),
)
# fmt: on


def template_new(arguments: Namespace, terminal: TextIO, out: TextIO, notes: TextIO) -> int:
    """Write a template to arguments.output, or to out; return 1 if it would not be valid.

    terminal: where missing options are asked for; return 2 if it is not a terminal.
    notes: where questions and diagnostics go.
    Raises GatewayError if the file cannot be written, or a question is not answered.
    """
    given = {one.key: getattr(arguments, one.key) for one in OPTIONS}
    missing = [one.flag for one in OPTIONS if one.required and given[one.key] is None]
    if missing and not terminal.isatty():
        print(f"gatewayctl: {' and '.join(missing)} must be given", file=notes)
        return USAGE
    if missing:
        asked = [one for one in OPTIONS if one.ask and given[one.key] is None]
        given |= {one.key: _ask(one, terminal, notes) for one in asked}
    written = _text(given)
    linted = lint(written.encode())
    for diagnostic in linted.diagnostics:
        print(safe(diagnostic), file=notes)
    if linted.template is not None:
        if arguments.output is None:
            out.write(written)
        else:
            write_file(arguments.output, written.encode(), mode=0o666)
    return int(linted.template is None)


def _ask(one: TemplateOption, terminal: TextIO, notes: TextIO) -> object:
    """Ask until the answer is valid; return it, or None, or a list of many."""
    answers: list[object] = []
    while len(answers) < MAX_ANSWERS:
        print(f"{one.ask}: ", end="", file=notes, flush=True)
        line = terminal.readline(MAX_LINE)
        if not line:
            raise GatewayError("Input ended before all questions were answered. Nothing is written")
        if not line.strip() and not one.required:
            return answers or None
        try:
            answer = one.parse(line.strip())
        except ArgumentTypeError as error:
            print(error, file=notes)
            continue
        if not one.many:
            return answer
        answers.append(answer)
    return answers


def _text(given: Mapping[str, Any]) -> str:
    """Return the JSON of the template with these values."""
    bare = ProvisioningTemplate(
        (),
        given["node_id"],
        given["product"],
        given["device_id"],
        given["device_name"],
        tuple(given["tag"] or ()),
        tuple(given["policy"] or ()),
        given["name"] or "",
        given["description"] or "",
    )
    used = bare.references()
    template = replace(bare, parameters=tuple(name for name in ATTRIBUTES if name in used))
    whole = template.name or template.description
    return json.dumps(template.request() if whole else template.body(), indent=2) + "\n"


def _new_options(parser: ArgumentParser) -> None:
    for one in OPTIONS:
        action = "append" if one.many else "store"
        parser.add_argument(
            one.flag, type=one.parse, metavar=one.metavar, help=one.help, action=action
        )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write to this new file (default: standard output)",
    )
    parser.epilog = (
        f"ATTR is an attribute of the certificate's subject: {_WORDS}.  On a terminal, if "
        "--product or --node-id is missing, it and every other missing option is asked for."
    )


def template_lint(file: Path, out: TextIO) -> int:
    """Print the diagnostics of a template; return 1 if any is an error.

    Raises GatewayError if the file cannot be read.
    """
    linted = lint(read_file(file, template_text.MAX_BYTES, truncate=True))
    _show(file, linted.diagnostics, out)
    if linted.template is not None:
        print(f"{safe(file)} can be used.", file=out)
    return int(linted.template is None)


@dataclass(frozen=True, slots=True)
class TemplatePreview:
    """The device that the platform would register, None for none, and what is wrong.

    linted: diagnostics of the template.  about: those of the certificate.
    """

    device: ProvisionedDevice | None
    linted: Sequence[TemplateDiagnostic]
    about: Sequence[TemplateDiagnostic]


def template_preview(template: Path, certificate: Path, out: TextIO) -> int:
    """Print the device that the platform would register; return 1 if none.

    The other arguments and what is raised: as of `previewed`.
    """
    made = previewed(template, certificate)
    _show(template, made.linted, out)
    _show(certificate, made.about, out)
    _show_device(made.device, out)
    return int(made.device is None)


def previewed(template: Path, certificate: Path) -> TemplatePreview:
    """Return the device that the platform would register for a certificate.

    certificate: PEM; the first of a chain counts.
    Raises GatewayError if a file cannot be read, or is not a certificate.
    """
    linted = lint(read_file(template, template_text.MAX_BYTES, truncate=True))
    try:
        pem = read_file(certificate, subject.MAX_BYTES, truncate=True)
        name = subject.read_certificate(pem).subject
    except ConfigError as error:
        raise GatewayError(f"{certificate} cannot be used: {error}") from error
    if linted.template is None:
        return TemplatePreview(None, linted.diagnostics, ())
    made = preview(linted.template, subject.subject_of(name))
    return TemplatePreview(made.device, linted.diagnostics, made.diagnostics)


def _previewed(_connect: Connect, arguments: Namespace) -> Iterator[Record]:
    made = previewed(arguments.template, arguments.cert)
    device = None if made.device is None else _facts(made.device)
    yield {"device": device, "diagnostics": _items((*made.linted, *made.about))}
    if device is None:
        raise CommandFailed("No device would be registered")


def _linted(_connect: Connect, arguments: Namespace) -> Iterator[Record]:
    linted = lint(read_file(arguments.file, template_text.MAX_BYTES, truncate=True))
    yield {"diagnostics": _items(linted.diagnostics)}
    if linted.template is None:
        raise CommandFailed(f"{arguments.file} cannot be used")


def _items(diagnostics: Iterable[TemplateDiagnostic]) -> Sequence[Record]:
    return [asdict(one) | {"fatal": one.fatal} for one in diagnostics]


def _written(_connect: Connect, arguments: Namespace) -> Iterator[Record]:
    out, notes = io.StringIO(), io.StringIO()
    status = template_new(arguments, io.StringIO(), out, notes)
    if status:
        raise CommandFailed(" ".join(notes.getvalue().split()).removeprefix("gatewayctl: "))
    if arguments.output is None:
        yield {"template": json.loads(out.getvalue())}
    else:
        yield {"File": str(arguments.output)}


def _show(file: Path, diagnostics: Iterable[TemplateDiagnostic], out: TextIO) -> None:
    for diagnostic in diagnostics:
        print(safe(f"{file}: {diagnostic}"), file=out)


def _show_device(device: ProvisionedDevice | None, out: TextIO) -> None:
    if device is None:
        print("No device would be registered.", file=out)
        return
    facts = _facts(device) | {"tags": [f"{key}={value}" for key, value in device.tags]}
    for line in properties(facts):
        print(line, file=out)


def _facts(device: ProvisionedDevice) -> dict[str, Any]:
    """Return a device under the names that the platform's API has for its fields."""
    return {
        "device_id": device.device_id,
        "node_id": device.node_id,
        "product_id": device.product_id,
        "device_name": device.name,
        "tags": [{"tag_key": key, "tag_value": value} for key, value in device.tags],
        "policy_ids": list(device.policy_ids),
    }


def _preview_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--template", type=Path, required=True, metavar="FILE", help="template, JSON"
    )
    parser.add_argument(
        "--cert", type=Path, required=True, metavar="FILE", help="device certificate, PEM"
    )


_DIAGNOSTICS = anything("diagnostics", "what is wrong with the files", FieldKind.OBJECTS)

# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("huawei template lint", "check a provisioning template for mistakes",
            argument("file", type=Path, help="template, JSON: its body or the complete request"),
            lambda _, a: template_lint(a.file, sys.stdout), _linted, (_DIAGNOSTICS,)),
    Command("huawei template preview", "show the device that the platform would register",
            _preview_options,
            lambda _, a: template_preview(a.template, a.cert, sys.stdout), _previewed,
            (anything("device", "as the platform's API shows it; null for none"), _DIAGNOSTICS)),
    Command("huawei template new", "write a provisioning template", _new_options,
            lambda _, a: template_new(a, sys.stdin, sys.stdout, sys.stderr), _written,
            maybe(anything("template", "the template"), text("File", "with --output: the file"))),
)
# fmt: on
