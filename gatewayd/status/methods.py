"""What each method asks of the port behind its object: two tables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from gatewayd.errors import InvalidArgs
from gatewayd.glib import Variant
from gatewayd.status.names import AUTHORITY, DEVICE, LOG_CONTROL, MANAGER, PROVIDER, SECRET_STORE
from gatewayd.status.ports import AuthorityCommands, Commands, Facts

Key: TypeAlias = tuple[str, str]
"""Interface and method; or interface and property, for what sets one."""

Arguments: TypeAlias = tuple[Any, ...]
Change: TypeAlias = Callable[[Any, Arguments, str], Awaitable[object]]
Question: TypeAlias = Callable[[Any, Arguments], object]


async def _one(answer: Awaitable[object]) -> tuple[object]:
    """Return what a method with one result returns."""
    return (await answer,)


async def _reregister(commands: Commands, arguments: Arguments, caller: str) -> None:
    device, again, options = arguments
    if options:
        raise InvalidArgs("Reregister takes no options")
    await commands.reregister(device, again, caller)


async def _show(commands: AuthorityCommands) -> tuple[Mapping[str, Variant]]:
    return (variants(await commands.show()),)


def variants(facts: Facts) -> Mapping[str, Variant]:
    """Return named facts as an a{sv} wants them: s, b, t and as."""
    return {name: Variant(_signature(fact), fact) for name, fact in facts.items()}


def _signature(fact: object) -> str:
    known = ((bool, "b"), (int, "t"), (str, "s"))
    return next((signature for kind, signature in known if isinstance(fact, kind)), "as")


_OF_A_CHILD: Mapping[str, Change] = {
    "Approve": lambda commands, a, caller: commands.approve(a[0], a[1], caller),
    "Reject": lambda commands, a, caller: commands.reject(a[0], a[1], caller),
    "Retry": lambda commands, a, caller: commands.retry(a[0], caller),
    "Forget": lambda commands, a, caller: commands.forget(a[0], caller),
}
"""Methods of a child's own object, and of the manager with the id before all else."""

CHANGES: Mapping[Key, Change] = {
    **{(MANAGER, name): change for name, change in _OF_A_CHILD.items()},
    **{(DEVICE, name): change for name, change in _OF_A_CHILD.items()},
    (MANAGER, "Reregister"): _reregister,
    (MANAGER, "Rename"): lambda commands, a, caller: commands.rename(a[0], a[1], caller),
    (MANAGER, "PermitJoin"): lambda commands, a, caller: commands.permit_join(a[0], a[1], caller),
    (MANAGER, "Discover"): lambda commands, a, caller: commands.discover(a[0], a[1], caller),
    (MANAGER, "Reload"): lambda commands, _, caller: commands.reload(caller),
    (MANAGER, "Dump"): lambda commands, _, caller: _one(commands.dump(caller)),
    (SECRET_STORE, "Rotate"): lambda store, _, caller: store.rotate(caller),
    (SECRET_STORE, "Reseal"): lambda store, a, caller: store.reseal(a[0], caller),
    (SECRET_STORE, "AddRecoveryKey"): lambda store, a, caller: store.add_recovery_key(a[0], caller),
    (SECRET_STORE, "Export"): lambda store, a, caller: store.export(a[0], caller),
    (SECRET_STORE, "AcceptRollback"): lambda store, _, caller: store.accept_rollback(caller),
    (PROVIDER, "Test"): lambda provider, _, caller: provider.test(caller),
    (AUTHORITY, "Make"): lambda ca, a, caller: _one(ca.make(a[0], caller)),
    (AUTHORITY, "Import"): lambda ca, a, caller: _one(ca.import_authority(a[0], caller)),
    (AUTHORITY, "Prove"): lambda ca, a, caller: _one(ca.prove(a[0], caller)),
    (AUTHORITY, "Issue"): lambda ca, a, caller: _one(ca.issue(a[0], a[1], a[2], caller)),
    (AUTHORITY, "Renew"): lambda ca, a, caller: ca.renew(a[0], caller),
    (LOG_CONTROL, "LogLevel"): lambda log, a, caller: log.set_level(a[0], caller),
}
"""Methods that change something: only for whom authorization.py lets through."""

QUESTIONS: Mapping[Key, Question] = {
    (MANAGER, "GetDevice"): lambda commands, a: commands.resolve(a[0]),
    (MANAGER, "DescribeDevice"): lambda commands, a: commands.resolve(a[0]),
    (MANAGER, "TestAdmission"): lambda commands, a: commands.test_admission(a[0]),
    (MANAGER, "ListRules"): lambda commands, _: (commands.list_rules(),),
    (AUTHORITY, "Show"): lambda ca, _: _show(ca),
}
"""Methods that only the event loop can answer; everybody may ask."""
