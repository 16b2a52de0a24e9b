"""gatewayctl console huawei: the steps in the console of Huawei Cloud IoTDA."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from gatewayd.cli.command import AddArguments, Command, argument
from gatewayd.cli.console.frame import Console, console_command
from gatewayd.console.access_key import AccessKey
from gatewayd.console.client import ConsoleClient
from gatewayd.console.huawei.api import KINDS, Entry, IotdaApi, ThingKind, text_of
from gatewayd.console.huawei.dialect import HuaweiDialect, region_of
from gatewayd.console.steps import ConsoleStep, StepOutcome, Steps
from gatewayd.errors import ConsoleError
from gatewayd.settings import grammar


def _add_project(parser: ArgumentParser) -> None:
    parser.add_argument("--region", default="", metavar="REGION",
                        help="region of the instance, as cn-north-4")  # fmt: skip
    parser.add_argument("--project", required=True, metavar="ID",
                        help="ID of the project of that region, from My Credentials")  # fmt: skip
    parser.add_argument("--instance", default="", metavar="ID",
                        help="ID of the instance, where the endpoint is the region's")  # fmt: skip


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


def _api(client: ConsoleClient, arguments: Namespace) -> IotdaApi:
    return IotdaApi(client, arguments.project)


def _detail(entry: Entry) -> str:
    match entry:
        case {"verify_code": str(code), "status": bool(verified)}:
            template = text_of(entry, "template_id")
            bound = f", template {template}" if template else ""
            return ("verified" if verified else f"verification code {code}") + bound
        case {"status": str(status)}:
            return status
    return ""


def _lister(kind: ThingKind) -> Callable[[ConsoleClient, Namespace], Steps]:
    async def steps(client: ConsoleClient, arguments: Namespace) -> Steps:
        wanted = {
            "app_id": getattr(arguments, "space", ""),
            "product_id": getattr(arguments, "product", ""),
            "gateway_id": getattr(arguments, "gateway", ""),
        }
        async for entry in _api(client, arguments).listed(kind, **wanted):
            name, id_ = text_of(entry, kind.name), text_of(entry, kind.id)
            yield ConsoleStep(StepOutcome.FOUND, kind.word, name, id_, _detail(entry))

    return steps


_SPACE = argument("--space", default="", metavar="ID", help="those of this resource space alone")
_FILTERS: dict[str, tuple[AddArguments, ...]] = {
    "space": (),
    "template": (),
    "device": (
        _SPACE,
        argument("--product", default="", metavar="ID", help="those of this product alone"),
        argument("--gateway", default="", metavar="ID", help="those behind this device alone"),
    ),
}

COMMANDS: tuple[Command, ...] = tuple(
    console_command(
        HUAWEI,
        f"{word} list",
        f"list the {kind.listed} of the instance",
        _FILTERS.get(word, (_SPACE,)),
        _lister(kind),
    )
    for word, kind in KINDS.items()
)
