"""gatewayctl console alibaba: the steps in the console of Alibaba Cloud IoT Platform."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gatewayd.cli.command import (
    AddArguments,
    Command,
    add_yes,
    argument,
    arguments,
    confirm,
    no_arguments,
    read_file,
    write_file,
)
from gatewayd.cli.console.frame import Console, console_command
from gatewayd.console.access_key import AccessKey
from gatewayd.console.alibaba import provisioning
from gatewayd.console.alibaba.device_names import MAX_LIST, check_name, parse_names
from gatewayd.console.alibaba.dialect import AlibabaDialect
from gatewayd.console.alibaba.platform import IotNode, IotPlatform
from gatewayd.console.alibaba.thing_model import MAX_MODEL, Tsl, parse_model
from gatewayd.console.client import ConsoleClient
from gatewayd.console.steps import StepOutcome, Steps
from gatewayd.device.secret import Secret
from gatewayd.errors import ConsoleError
from gatewayd.settings import grammar

MAX_SECRET = 4096
"""Bytes of a file with the secret of a product."""
IN_CONFIGURATION = "secret_file or secret_credential of the product, in gatewayd's configuration"
BY_SETUP = "for gatewayctl setup --answers FILE"


def _add_place(parser: ArgumentParser) -> None:
    parser.add_argument("--region", default="", metavar="REGION",
                        help="region of the instance, as cn-shanghai")  # fmt: skip
    parser.add_argument("--instance", default="", metavar="ID",
                        help="ID of the instance, where its Overview shows one")  # fmt: skip


def _host(arguments: Namespace) -> str:
    if not arguments.region or grammar.label(arguments.region):
        raise ConsoleError(
            "The API is not asked: it is not known where it is. Use --region, as cn-shanghai"
        )
    return f"iot.{arguments.region}.aliyuncs.com"


def _dialect(key: AccessKey, _host: str, _arguments: Namespace) -> AlibabaDialect:
    return AlibabaDialect(key)


ALIBABA = Console("alibaba", _add_place, _host, _dialect)


def _platform(client: ConsoleClient, arguments: Namespace) -> IotPlatform:
    return IotPlatform(client, arguments.instance)


def device_path(text: str) -> tuple[str, str]:
    """Return product and name of a device, written PRODUCT/NAME.  Raises ArgumentTypeError."""
    product, slash, name = text.partition("/")
    if not product or not slash:
        raise ArgumentTypeError("must be PRODUCT/NAME, as gatewayctl list shows it")
    try:
        return product, check_name(name)
    except ConsoleError as error:
        raise ArgumentTypeError(str(error)) from None


def have_secret(path: Path, secret: Secret, dry_run: bool) -> StepOutcome:
    """Have the secret of a product in a file of mode 0600; see `provisioning.Write`."""
    if path.exists():
        if read_file(path, MAX_SECRET).strip() == secret.reveal().strip():
            return StepOutcome.PRESENT
        raise ConsoleError(
            f"It is not written: {path} is there with another content. Remove it, or name "
            "another file"
        )
    if not dry_run:
        write_file(path, secret.reveal().rstrip() + b"\n")
    return StepOutcome.MADE


def _listed(path: Path | None) -> tuple[str, ...]:
    return () if path is None else parse_names(read_file(path, MAX_LIST), str(path))


def _read_model(path: Path | None) -> Tsl | None:
    return None if path is None else parse_model(read_file(path, MAX_MODEL), str(path))


def _products(client: ConsoleClient, arguments: Namespace) -> Steps:
    return provisioning.list_products(_platform(client, arguments))


def _prepare(client: ConsoleClient, arguments: Namespace) -> Steps:
    wanted = provisioning.WantedProduct(
        arguments.product, IotNode(arguments.node), _listed(arguments.names),
        tuple(_files(arguments)), _read_model(arguments.model),
    )  # fmt: skip
    return provisioning.prepare(_platform(client, arguments), wanted, have_secret)


def _files(arguments: Namespace) -> Iterator[provisioning.SecretFile]:
    if arguments.secret_file is not None:
        yield provisioning.SecretFile(
            arguments.secret_file, "secret", IN_CONFIGURATION, lambda _, secret: secret
        )
    if arguments.answers is not None:
        if arguments.node != IotNode.DIRECT:
            raise ConsoleError(
                "The answers are not written: setup asks for devices that connect by "
                f"themselves. Use --node {IotNode.DIRECT}, or leave out --answers"
            )
        place = arguments.instance or arguments.region
        yield provisioning.SecretFile(
            arguments.answers, "answers", BY_SETUP, partial(_answers, place)
        )


def _answers(place: str, product: str, secret: Secret) -> Secret:
    """Return the answers to setup that are known, as TOML.  place: region or instance; or ""."""
    known = {"cloud": "alibaba", "endpoint": place, "product": product}
    known["secret"] = secret.reveal().decode()
    lines = [f"{key} = {json.dumps(answer)}" for key, answer in known.items() if answer]
    return Secret("\n".join(lines).encode())


def _register(client: ConsoleClient, arguments: Namespace) -> Steps:
    names = _listed(arguments.file)
    return provisioning.register(_platform(client, arguments), arguments.product, names)


def _show(client: ConsoleClient, arguments: Namespace) -> Steps:
    return provisioning.show(_platform(client, arguments), *arguments.device)


def _reset(client: ConsoleClient, arguments: Namespace) -> Steps:
    return provisioning.reset(_platform(client, arguments), *arguments.device)


def _delete(client: ConsoleClient, arguments: Namespace) -> Steps:
    def ask(consequence: str) -> None:
        confirm(arguments, [consequence], "Delete it?")

    product, name = arguments.device
    return provisioning.delete(_platform(client, arguments), product, name, ask)


_DEVICE: AddArguments = argument(
    "device", type=device_path, metavar="PRODUCT/NAME",
    help="ProductKey and name of the device, as gatewayctl list shows them",
)  # fmt: skip
_PREPARED: AddArguments = arguments(
    argument("--product", required=True, metavar="NAME", help="name of the product"),
    argument("--node", required=True, choices=[node.value for node in IotNode],
             help="how its devices connect: by themselves, as a gateway, or behind one"),
    argument("--names", type=Path, metavar="FILE",
             help="device names to register, one a line; - for the standard input"),
    argument("--model", type=Path, metavar="FILE",
             help="thing model of the product, JSON, as the console exports it (TSL)"),
    argument("--secret-file", type=Path, metavar="FILE",
             help="write the secret of the product, which gatewayd needs, into this new file"),
    argument("--answers", type=Path, metavar="FILE",
             help="write the answers that setup asks for, with the secret, likewise"),
)  # fmt: skip

# fmt: off
COMMANDS: tuple[Command, ...] = (
    console_command(ALIBABA, "prepare", "have a product, its model and its devices",
                    (_PREPARED,), _prepare, changes=True),
    console_command(ALIBABA, "product list", "list the products of the instance",
                    (no_arguments,), _products),
    console_command(ALIBABA, "device register",
                    "register the names of devices that the product does not have",
                    (argument("product", metavar="PRODUCT", help="ProductKey"),
                     argument("file", type=Path, metavar="FILE",
                              help="device names, one a line; - for the standard input")),
                    _register, changes=True),
    console_command(ALIBABA, "device show", "show whether a device is there, and online",
                    (_DEVICE,), _show),
    console_command(ALIBABA, "device reset", "let a device register once more (ResetThing)",
                    (_DEVICE,), _reset, changes=True),
    console_command(ALIBABA, "device delete", "delete a device for good",
                    (_DEVICE, add_yes), _delete, changes=True),
)
# fmt: on
