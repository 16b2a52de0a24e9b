"""How setup changes the machine: files, a sealed secret, the service; and what it sees of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gatewayd.cli.output import safe
from gatewayd.cli.setup.plan import (
    NAME,
    SetupPlan,
    answers_of,
    cloud_settings,
    credential_of,
)
from gatewayd.cli.setup.questions import (
    ALIBABA,
    KEPT,
    LOOPBACK,
    MQTT,
    Answers,
    MachineFacts,
    by_certificate,
    split_user,
)
from gatewayd.cli.systemd_creds import SERVICE, SystemdCredentials
from gatewayd.cloud.alibaba.settings import AlibabaProduct
from gatewayd.cloud.mqtt_broker.settings import BrokerManagement
from gatewayd.cloud.preflight import Check, CheckResult, PreflightContext, checks
from gatewayd.config import check
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, GatewayError
from gatewayd.plugins import CLOUDS, Plugins
from gatewayd.runtime.private_files import write_private
from gatewayd.settings import grammar
from gatewayd.settings.daemon_user import DAEMON_USER, HIDDEN, hiding_directory
from gatewayd.settings.files import ConfigPaths, parse

ROUTES, ROUTES6 = Path("/proc/net/route"), Path("/proc/net/ipv6_route")
MAX_FILE = 1 << 20
"""Bytes of a file that setup has written."""
STEPS = ("endpoint", "dns", "tcp", "tls", "root", "clock")
"""The steps of a preflight that the first answers suffice for."""
MANAGEMENT = "management"
"""The step that needs the password of a broker's user."""
TIMEOUT = 120.0
"""Seconds that systemctl may take: longer than the start of the daemon."""


class ServiceFailed(GatewayError):
    """The service does not start; the text is what systemctl says."""


@dataclass(frozen=True, slots=True)
class SetupTarget:
    """Where setup writes.

    directory: of the configuration.  systemd: the credentials of this machine.
    systemctl: the program.
    """

    config: Path
    systemd: SystemdCredentials = field(default_factory=SystemdCredentials)
    systemctl: Sequence[str] = ("systemctl",)

    @property
    def directory(self) -> Path:
        """Where conf.d and rules.d are."""
        return self.config.parent

    def answers(self) -> dict[str, str]:
        """Return the answers that were given before; none where there were none.

        Raises GatewayError where the files of setup are no longer such.
        """
        found = [self._read(f"{kind}.d/{NAME}.toml") for kind in ("conf", "rules")]
        return answers_of(*found) if all(found) else {}

    def paths(self, plan: SetupPlan) -> list[Path]:
        """Return the files that a plan writes."""
        files = [self.directory / name for name in plan.files]
        if plan.secret:
            files.append(self.systemd.file(plan.credential))
        return [*files, self.drop_in] if plan.drop_in else files

    @property
    def drop_in(self) -> Path:
        """The drop-in of the service."""
        return self.systemd.units[0] / f"{SERVICE}.d" / f"{NAME}.conf"

    def has(self, plan: SetupPlan) -> bool:
        """Whether all of a plan is there already, and the secret opens here."""
        texts = {self.directory / name: text for name, text in plan.files.items()}
        if plan.drop_in:
            texts[self.drop_in] = plan.drop_in
        try:
            if any(path.read_text(encoding="utf-8") != text for path, text in texts.items()):
                return False
        except (OSError, ValueError):
            return False
        if plan.credential and not self.systemd.exists(plan.credential):
            return False
        try:
            return not plan.secret or self.systemd.decrypt(plan.credential) == plan.secret.encode()
        except GatewayError:  # sealed on another machine
            return False

    def write(self, plan: SetupPlan) -> None:
        """Write a plan, check the whole configuration, and remove a secret that it does not need.

        Each file is replaced completely or not at all.  Raises GatewayError; then the files are as
        they were.
        """
        self._write(plan, lambda: None)

    def put_in_force(self, plan: SetupPlan) -> None:
        """Write a plan, and have the service use it.

        Raises GatewayError; then the files are as they were, and the service uses them again.
        """
        try:
            self._write(plan, self.restart)
        except ServiceFailed as error:
            with contextlib.suppress(GatewayError):  # it did not run before either
                self.restart()
            raise GatewayError(f"{error}\nThe files are as they were") from error

    def _write(self, plan: SetupPlan, then: Callable[[], object]) -> None:
        """Write a plan.  then: is called when all is written; if it fails, all is put back."""
        before = credential_of(answers) if (answers := self.answers()) else ""
        with contextlib.ExitStack() as undo:
            for name, text in plan.files.items():
                undo.callback(_restorer(self.directory / name))
                _write(self.directory / name, text)
            if plan.secret:
                undo.callback(_restorer(self.systemd.file(plan.credential)))
                sealed = self.systemd.encrypt(plan.credential, plan.secret.encode())
                self.systemd.write(plan.credential, sealed)
            undo.callback(_restorer(self.drop_in))
            if plan.drop_in:
                self.systemd.write_drop_in(self.drop_in.name, plan.drop_in)
            else:
                self.drop_in.unlink(missing_ok=True)
            problems = check(ConfigPaths.of(self.config), Plugins.installed())
            if fatal := [str(problem) for problem in problems if problem.fatal]:
                raise ConfigError("\n".join(fatal))
            then()
            undo.pop_all()
        if before not in ("", plan.credential) and not grammar.credential_name(before):
            self.systemd.file(before).unlink(missing_ok=True)

    def restart(self) -> None:
        """Have the service use what was written.  Raises ServiceFailed."""
        for words in (("daemon-reload",), ("restart", SERVICE)):
            _run((*self.systemctl, *words))

    def _read(self, name: str) -> dict[str, object]:
        path = self.directory / name
        try:
            if path.stat().st_size > MAX_FILE:
                raise GatewayError(f"{path} is too large: setup has not written it")
            return parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise GatewayError(
                f"{path} cannot be read: {error}. Remove it to begin again"
            ) from error


def machine_facts() -> MachineFacts:
    """Return what the checks have to know of this machine."""
    away = uplinks(ROUTES, ROUTES6)
    names = sorted(
        (name for _, name in socket.if_nameindex()),
        key=lambda name: (name == LOOPBACK, name in away, name),
    )
    return MachineFacts(tuple(names), away, file_fault)


def uplinks(routes: Path, routes6: Path) -> tuple[str, ...]:
    """Return the interfaces of the default routes, by /proc/net/route and ipv6_route."""
    rows, rows6 = _rows(routes)[1:], _rows(routes6)
    found = [row[0] for row in rows if len(row) > 1 and row[1] == "00000000"]
    # without any default route, the kernel shows one that is unreachable, on the loopback interface
    found += [row[-1] for row in rows6 if row[:2] == ["0" * 32, "00"] and row[-1] != LOOPBACK]
    return tuple(dict.fromkeys(found))


def _rows(table: Path) -> list[list[str]]:
    try:
        return [line.split() for line in table.read_text(encoding="ascii").splitlines()]
    except OSError:
        return []


def file_fault(text: str, user: str = DAEMON_USER, hidden: Sequence[Path] = HIDDEN) -> str:
    """Return why the daemon could not read a file; "" where it can.

    user: the daemon's.  hidden: directories that it does not see.
    """
    path = Path(text)
    if not path.is_absolute():
        return "must be a complete path, from /"
    try:
        path = path.resolve(strict=True)
        if not path.is_file():
            return "must be a file"
        if unseen := hiding_directory(path, hidden):
            return f"cannot be below {unseen}, which the service does not see: use /etc/gatewayd"
        uid, groups = _user(user)
        closed = [one for one in (*path.parents, path) if not _may_use(one, uid, groups)]
    except OSError as error:
        return f"cannot be used: {error.strerror}"
    except ValueError:  # a NUL
        return "must be a path"
    return f"cannot be read by the user {user}: {closed[0]} is closed to it" if closed else ""


def probe(answers: Answers, context: PreflightContext) -> Iterator[tuple[bool, str]]:
    """Try the cloud, as `gatewayctl preflight` does; yield if each step is good, and a line."""
    plugin = Plugins.installed().load(CLOUDS, answers["cloud"])
    settings = cloud_settings(answers)
    if answers["cloud"] == ALIBABA:
        settings["products"] = {answers["product"]: AlibabaProduct()}
    shown = {*STEPS}
    if answers["cloud"] == MQTT and not by_certificate(answers):
        password = answers.get("secret", KEPT)
        named = "" if password == KEPT else credential_of(answers)
        settings["management"] = BrokerManagement(split_user(answers["endpoint"])[0], named)
        if named:
            shown.add(MANAGEMENT)
            secret = Secret(password.encode())
            context = replace(context, read_secret=lambda *_, **__: secret, credentials=True)

    async def found() -> list[Check]:
        async with contextlib.aclosing(
            checks(plugin, plugin.Settings(**settings), context)
        ) as steps:
            return [step async for step in steps]

    for step in asyncio.run(found()):
        if step.step in shown:
            remedy = f" {step.remedy}" if step.remedy else ""
            yield (
                step.verdict is not CheckResult.FAILED,
                f"{step.verdict:<7} {step.step:<9} {safe(step.text)}{safe(remedy)}",
            )


def _user(name: str) -> tuple[int, set[int]]:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:  # not installed as a package: the user who runs this
        return os.geteuid(), set(os.getgroups())
    return entry.pw_uid, set(os.getgrouplist(name, entry.pw_gid))


def _may_use(path: Path, uid: int, groups: set[int]) -> bool:
    """Whether a user may read a file, or search a directory, by their modes."""
    status = path.stat()
    needed = 0o1 if path.is_dir() else 0o4
    shift = 6 if status.st_uid == uid else 3 if status.st_gid in groups else 0
    return uid == 0 or bool(status.st_mode >> shift & needed)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_private(path, text.encode())
        path.chmod(0o644)
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {error.strerror}") from error


def _restorer(path: Path) -> Callable[[], None]:
    """Return what puts a file back as it is now."""
    try:
        content, mode = path.read_bytes(), path.stat().st_mode & 0o7777
    except FileNotFoundError:
        return lambda: path.unlink(missing_ok=True)
    except OSError as error:
        raise GatewayError(f"{path} cannot be read: {error.strerror}") from error

    def restore() -> None:
        write_private(path, content)
        path.chmod(mode)

    return restore


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603  # a fixed program and fixed words
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceFailed(f"{' '.join(command)} cannot be run: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise ServiceFailed(said or f"{' '.join(command)} failed")
