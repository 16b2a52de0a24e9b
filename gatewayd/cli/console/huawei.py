"""gatewayctl console huawei: the steps in the console of Huawei Cloud IoTDA, one by one."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gatewayd.cli.command import AddArguments, Command, add_yes, argument, confirm, read_file
from gatewayd.cli.console.frame import Console, console_command
from gatewayd.cli.console.huawei_files import add_proof, device_secret, prover, read_ca
from gatewayd.cloud.huawei import template as template_text
from gatewayd.cloud.huawei.settings import NODE_ID, TEMPLATE_NAME
from gatewayd.console.access_key import AccessKey
from gatewayd.console.client import ConsoleClient
from gatewayd.console.huawei import devices
from gatewayd.console.huawei.api import (
    CA,
    DEVICE,
    KINDS,
    POLICY,
    PRODUCT,
    TEMPLATE,
    Entry,
    IotdaApi,
    ThingKind,
    text_of,
)
from gatewayd.console.huawei.dialect import HuaweiDialect, region_of
from gatewayd.console.huawei.setting_up import (
    IotdaProduct,
    IotdaTemplate,
    SettingUp,
    ca_code,
    ca_detail,
)
from gatewayd.console.steps import ConsoleStep, StepOutcome, Steps
from gatewayd.errors import ConsoleError
from gatewayd.settings import grammar

MAX_SERVICES = 500 * 1024
"""Bytes of a product's model, at most (productdesc-iothub/iot_04_0010)."""
MAX_LIST = 1 << 20
"""Bytes of a list of devices."""


def _add_project(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--region", default="", metavar="REGION", help="region of the instance, as cn-north-4"
    )
    parser.add_argument(
        "--project", required=True, metavar="ID",
        help="ID of the project of that region, from My Credentials",
    )  # fmt: skip
    parser.add_argument(
        "--instance", default="", metavar="ID",
        help="ID of the instance, where the endpoint is that of the region",
    )  # fmt: skip


def _host(arguments: Namespace) -> str:
    if not arguments.region or grammar.label(arguments.region):
        raise ConsoleError(
            "The API is not asked: it is not known where it is. Use --region, as cn-north-4, or "
            "--endpoint with the instance's application access address, as its Overview shows it"
        )
    return f"iotda.{arguments.region}.myhuaweicloud.com"


def _dialect(key: AccessKey, host: str, arguments: Namespace) -> HuaweiDialect:
    return HuaweiDialect(key, region_of(host), arguments.instance)


HUAWEI = Console("huawei", _add_project, _host, _dialect)


def setting_up(client: ConsoleClient, arguments: Namespace) -> SettingUp:
    """Return the steps at the instance that the options name."""
    return SettingUp(IotdaApi(client, arguments.project))


def wanted_product(arguments: Namespace) -> IotdaProduct:
    """Return the product that the options describe.  Raises GatewayError."""
    return IotdaProduct(
        arguments.name,
        arguments.product_id,
        arguments.device_type,
        arguments.manufacturer,
        _services(arguments.services),
    )


def _services(path: Path | None) -> Sequence[Mapping[str, Any]]:
    """Return a product's model: a JSON list of services, or an object with service_capabilities.

    path: None for a product without any.  Raises GatewayError.
    """
    if path is None:
        return ()
    found = _json(path, MAX_SERVICES)
    services = found.get("service_capabilities") if isinstance(found, dict) else found
    if not isinstance(services, list) or not all(isinstance(one, dict) for one in services):
        raise ConsoleError(
            f"The product is not made: {path} has no list of services. Use the JSON of "
            "service_capabilities, as the API reference has it"
        )
    return services


def read_template(path: Path, name: str, *, replace: bool) -> IotdaTemplate:
    """Return a template, as gatewayctl huawei template new writes it.  Raises GatewayError.

    name: in place of that in the file, where it is not "".
    """
    linted = template_text.lint(read_file(path, template_text.MAX_BYTES, truncate=True))
    if linted.template is None:
        raise ConsoleError(
            f"The template is not made: {path} has mistakes. Run gatewayctl huawei template lint"
        )
    named = name or linted.template.name
    if not named or TEMPLATE_NAME.fault(named):
        raise ConsoleError(
            f"The template is not made: {path} has no name for it. Use --name NAME, of letters, "
            "digits, _ and -"
        )
    template = linted.template
    return IotdaTemplate(named, template.body(), template.description, replace)


def read_node_ids(path: Path) -> Sequence[str]:
    """Return the node IDs in a list, one a line; empty lines and comments after # are left out.

    Raises GatewayError.
    """
    text = read_file(path, MAX_LIST).decode("utf-8", "replace")
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    found = list(dict.fromkeys(filter(None, lines)))
    for one in found:
        if fault := NODE_ID.fault(one):
            raise ConsoleError(
                f"No device is registered: {one[:64]!a} in {path} {fault}. Correct the list"
            )
    return found


def _json(path: Path, limit: int) -> object:
    try:
        return json.loads(read_file(path, limit))
    except (ValueError, RecursionError):
        raise ConsoleError(f"{path} cannot be used: it is no JSON. Correct it") from None


def _detail(entry: Entry) -> str:
    if "verify_code" in entry:
        return ca_detail(entry)
    return text_of(entry, "status")


def _lister(kind: ThingKind) -> Callable[[ConsoleClient, Namespace], Steps]:
    async def steps(client: ConsoleClient, arguments: Namespace) -> Steps:
        wanted = {
            "app_id": getattr(arguments, "space", ""),
            "product_id": getattr(arguments, "product", ""),
            "gateway_id": getattr(arguments, "gateway", ""),
        }
        async for entry in IotdaApi(client, arguments.project).listed(kind, **wanted):
            name, id_ = text_of(entry, kind.name), text_of(entry, kind.id)
            detail, code = _detail(entry), ca_code(entry)
            yield ConsoleStep(StepOutcome.FOUND, kind.word, name, id_, detail, code=code)

    return steps


def _deleter(kind: ThingKind) -> Callable[[ConsoleClient, Namespace], Steps]:
    def steps(client: ConsoleClient, arguments: Namespace) -> Steps:
        if not arguments.dry_run:
            what = f"This deletes {len(arguments.words)} {kind.listed} at the platform."
            confirm(arguments, [what], "Delete them?")
        return _delete(setting_up(client, arguments), kind, arguments.words)

    return steps


async def _delete(here: SettingUp, kind: ThingKind, words: Sequence[str]) -> Steps:
    for word in dict.fromkeys(words):
        yield await here.delete(kind, word)


async def _only(step: Awaitable[ConsoleStep]) -> Steps:
    yield await step


async def _inside(here: SettingUp, space: str, make: Callable[[], Awaitable[ConsoleStep]]) -> Steps:
    """Have one step done in a resource space."""
    await here.enter(space)
    yield await make()


def _make_space(client: ConsoleClient, arguments: Namespace) -> Steps:
    return _only(setting_up(client, arguments).make_space(arguments.name))


def _make_product(client: ConsoleClient, arguments: Namespace) -> Steps:
    here, wanted = setting_up(client, arguments), wanted_product(arguments)
    return _inside(here, arguments.space, lambda: here.make_product(wanted))


def _make_template(client: ConsoleClient, arguments: Namespace) -> Steps:
    wanted = read_template(arguments.file, arguments.name, replace=arguments.replace)
    return _only(setting_up(client, arguments).make_template(wanted))


def _upload_ca(client: ConsoleClient, arguments: Namespace) -> Steps:
    here, wanted = setting_up(client, arguments), read_ca(arguments.file)
    return _inside(here, arguments.space, lambda: here.upload_ca(wanted))


def _prove_ca(client: ConsoleClient, arguments: Namespace) -> Steps:
    return _only(setting_up(client, arguments).prove_ca(arguments.ca, prover(arguments)))


def _bind_template(client: ConsoleClient, arguments: Namespace) -> Steps:
    here, replace = setting_up(client, arguments), arguments.replace
    return _only(here.bind_template(arguments.ca, arguments.template, replace=replace))


def _unbind_template(client: ConsoleClient, arguments: Namespace) -> Steps:
    return _only(setting_up(client, arguments).unbind_template(arguments.ca))


def _make_policy(client: ConsoleClient, arguments: Namespace) -> Steps:
    publish, subscribe = arguments.publish, arguments.subscribe
    if not publish and not subscribe:
        raise ConsoleError(
            "The policy is not made: it allows nothing. Use --publish or --subscribe"
        )
    here = setting_up(client, arguments)
    return _inside(
        here, arguments.space, lambda: here.make_policy(arguments.name, publish, subscribe)
    )


def _bind_policy(client: ConsoleClient, arguments: Namespace) -> Steps:
    targets = {kind: getattr(arguments, kind) for kind in ("device", "product", "app")}
    if not any(targets.values()):
        raise ConsoleError(
            "The policy is not bound: no target is named. Use --device, --product or --space"
        )
    return _bind(setting_up(client, arguments), arguments.policy, targets)


async def _bind(here: SettingUp, policy: str, targets: Mapping[str, Sequence[str]]) -> Steps:
    for kind, ids in targets.items():
        if ids:
            yield await here.bind_policy(policy, kind, ids)


def _add_devices(client: ConsoleClient, arguments: Namespace) -> Steps:
    new = devices.NewDevices(arguments.product, read_node_ids(arguments.file), arguments.gateway)
    return devices.register(IotdaApi(client, arguments.project), new)


def _make_device(client: ConsoleClient, arguments: Namespace) -> Steps:
    if fault := NODE_ID.fault(arguments.node_id):
        raise ConsoleError(f"The device is not registered: its node ID {fault}. Use another")
    secret = device_secret(arguments.secret_file, dry_run=arguments.dry_run)
    new = devices.NewDevices(arguments.product, [arguments.node_id], secret=secret)
    return devices.register(IotdaApi(client, arguments.project), new)


def _reset_secret(client: ConsoleClient, arguments: Namespace) -> Steps:
    secret = device_secret(arguments.secret_file, dry_run=arguments.dry_run)
    step = devices.reset_secret(
        IotdaApi(client, arguments.project), arguments.device, secret,
        secondary=arguments.secondary, disconnect=arguments.disconnect,
    )  # fmt: skip
    return _only(step)


# fmt: off
IN_SPACE = argument("--space", default="", metavar="SPACE",
                    help="name or ID of the resource space (default: the default one)")
SERVICES = argument("--services", type=Path, metavar="FILE",
                    help="the product's model: JSON, a list of service_capabilities")
DEVICE_TYPE = argument("--device-type", default="device", metavar="WORD",
                       help="device type of the product (default: device)")
MANUFACTURER = argument("--manufacturer", default="", metavar="NAME",
                        help="manufacturer of the product")
PRODUCT_ID = argument("--product-id", default="", metavar="ID",
                      help="an ID of your own for it (default: the platform chooses one)")
SECRET_FILE = argument(
    "--secret-file", type=Path, required=True, metavar="FILE",
    help="file of mode 0600 with the device's secret; made, with a random one, where it is missing")
_REPLACE = argument("--replace", action="store_true",
                    help="replace another one, which may lock devices out")
_ONLY_SPACE = argument("--space", default="", metavar="ID",
                       help="those of this resource space alone")
_OF_PRODUCT = argument("--product", required=True, metavar="ID", help="ID or name of the product")
_FILTERS: Mapping[str, Sequence[AddArguments]] = {
    "space": (),
    "template": (),
    "device": (
        _ONLY_SPACE,
        argument("--product", default="", metavar="ID", help="those of this product alone"),
        argument("--gateway", default="", metavar="ID", help="those behind this device alone"),
    ),
}  # fmt: skip
_CA_ARGUMENT = argument("ca", help="ID of the device CA, or its common name")


def _targets(parser: ArgumentParser) -> None:
    parser.add_argument("policy", help="ID or name of the policy")
    for option, kind in (("--device", "device"), ("--product", "product"), ("--space", "app")):
        parser.add_argument(option, dest=kind, action="append", default=[], metavar="ID",
                            help=f"bind it to the {option[2:]} of this ID; may be repeated")


def topics(parser: ArgumentParser) -> None:
    """Add the options that name the topics of a policy."""
    for option in ("--publish", "--subscribe"):
        parser.add_argument(option, action="append", default=[], metavar="TOPIC",
                            help=f"custom topic that it lets devices {option[2:]} to; * and ? are "
                                 "wildcards; may be repeated")


COMMANDS: tuple[Command, ...] = (
    *(console_command(HUAWEI, f"{word} list", f"list the {kind.listed} of the instance",
                      _FILTERS.get(word, (_ONLY_SPACE,)), _lister(kind))
      for word, kind in KINDS.items()),
    *(console_command(HUAWEI, f"{kind.word} delete", f"delete {kind.listed}",
                      (argument("words", nargs="+", metavar=kind.word,
                                help="its ID" if kind is DEVICE else "its ID or name"), add_yes),
                      _deleter(kind), changes=True)
      for kind in (PRODUCT, TEMPLATE, CA, POLICY, DEVICE)),
    console_command(HUAWEI, "space make", "make a resource space",
                    (argument("name", help="its name"),), _make_space, changes=True),
    console_command(HUAWEI, "product make", "make a product, for MQTT and JSON",
                    (argument("name", help="its name"), IN_SPACE, PRODUCT_ID, DEVICE_TYPE,
                     MANUFACTURER, SERVICES), _make_product, changes=True),
    console_command(HUAWEI, "template make", "make a provisioning template",
                    (argument("file", type=Path, help="as huawei template new has written it"),
                     argument("--name", default="", metavar="NAME",
                              help="its name (default: that in the file)"), _REPLACE),
                    _make_template, changes=True),
    console_command(HUAWEI, "ca upload", "upload the certificate of a device CA",
                    (argument("file", type=Path, help="certificate, PEM; a key in it stays here"),
                     IN_SPACE), _upload_ca, changes=True),
    console_command(HUAWEI, "ca prove", "prove possession of a device CA's key, and verify it",
                    (_CA_ARGUMENT, lambda parser: add_proof(parser, required=True)), _prove_ca,
                    changes=True),
    console_command(HUAWEI, "ca bind", "let devices of a CA register themselves by a template",
                    (_CA_ARGUMENT, argument("--template", required=True, metavar="TEMPLATE",
                                            help="ID or name of the template"), _REPLACE),
                    _bind_template, changes=True),
    console_command(HUAWEI, "ca unbind", "let no device of a CA register itself any more",
                    (_CA_ARGUMENT,), _unbind_template, changes=True),
    console_command(HUAWEI, "policy make", "make a device policy, for custom topics",
                    (argument("name", help="its name"), topics, IN_SPACE), _make_policy,
                    changes=True),
    console_command(HUAWEI, "policy bind", "bind a policy to devices, products or spaces",
                    (_targets,), _bind_policy, changes=True),
    console_command(HUAWEI, "device add", "register the devices of a list beforehand",
                    (argument("file", type=Path, help="node IDs, one a line; - for the standard "
                                                      "input"),
                     _OF_PRODUCT,
                     argument("--gateway", default="", metavar="ID",
                              help="device ID of the gateway that they are behind (default: they "
                                   "log in themselves, with certificates)")),
                    _add_devices, changes=True),
    console_command(HUAWEI, "device make", "register a device that logs in with a secret",
                    (argument("node_id", help="its node ID"), _OF_PRODUCT, SECRET_FILE),
                    _make_device, changes=True),
    console_command(HUAWEI, "device reset-secret", "set the secret of a device",
                    (argument("device", help="device ID"), SECRET_FILE,
                     argument("--secondary", action="store_true",
                              help="set the second one, beside that in use"),
                     argument("--disconnect", action="store_true",
                              help="close its connection, so that it logs in again")),
                    _reset_secret, changes=True),
)
# fmt: on
