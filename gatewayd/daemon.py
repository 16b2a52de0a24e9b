"""One run of the daemon: starts the application, reloads its configuration, and stops it.

The start: configuration, durable stores reconciled, D-Bus name owned, READY=1; only then the LAN
and the clouds.  The stop: discovery, then registrations under way until they are durable, then
the children of a site given to its other gateways, sessions, D-Bus and the stores.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from gatewayd.admission.policy.rules import Rule
from gatewayd.admission.rules import RuleBook
from gatewayd.app import build, open_storage
from gatewayd.cloud.credentials import credentials_directory
from gatewayd.config import (
    ChangedFile,
    Config,
    FilesInUse,
    Installation,
    changed_files,
    differences,
    examine,
)
from gatewayd.dbus.bus import Bus
from gatewayd.dbus_objects import ServedCommands, exported_objects
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName
from gatewayd.diagnostics import dump
from gatewayd.errors import ConfigError
from gatewayd.gateway_status import GatewayStatus, first_view, site_faults
from gatewayd.manager.statistics import DeviceStatistics
from gatewayd.messages.gateway_report import GatewayReporter
from gatewayd.monitoring.metrics_file import DIRECTORY_VARIABLE as METRICS_VARIABLE
from gatewayd.monitoring.metrics_file import FILES, MetricsFile
from gatewayd.monitoring.notices import DIRECTORY_VARIABLE as NOTICES_VARIABLE
from gatewayd.monitoring.notices import NoticeWriter
from gatewayd.monitoring.steps import StepCounts
from gatewayd.plugins import Plugins
from gatewayd.runtime import journal
from gatewayd.runtime.clock import synchronised, wall_time
from gatewayd.runtime.systemd import Notifier, feed_watchdog, watchdog_interval
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.settings.files import ConfigPaths, Problem
from gatewayd.site.service import SiteService
from gatewayd.storage.store_service import StoreMonitor

logger = logging.getLogger(__name__)

DRAIN = 10.0
"""Seconds that registrations under way may take when the daemon stops."""

STATUS_EVERY = 2.0
"""Seconds between two updates of the status line and the views."""

FLUSH_AGAIN = 0.05
"""Seconds after which more log entries are sent to a journal that does not read."""

REJECTED = {"message_id": "configuration-rejected"}
"""The journal entry of a mistake in the configuration."""


def warn(problem: Problem) -> None:
    """Log what is valid in the configuration and the rules, and probably a mistake."""
    logger.warning("%s", problem)


class Daemon:
    """One run of gatewayd.

    installed: configuration and rules.  paths: where they were read from, to read them again on
    SIGHUP.
    environ: of the process.  checkpoint: called with the name of each durable step.
    started: called once, when what lives as long as the process is there.
    """

    def __init__(
        self,
        installed: Installation,
        paths: ConfigPaths,
        environ: Mapping[str, str],
        notifier: Notifier,
        checkpoint: Callable[[str], None],
        started: Callable[[], None] = lambda: None,
    ) -> None:
        self._config, self._paths, self._environ = installed.config, paths, environ
        self._rules, self._lists = RuleBook(tuple(installed.rules.rules)), installed.rules.lists
        self._notifier, self._checkpoint, self._on_start = notifier, checkpoint, started
        self._started = wall_time()
        self._stop, self._hung_up = asyncio.Event(), asyncio.Event()
        self._reloading = asyncio.Lock()
        self._files = FilesInUse(self._config, credentials_directory(environ))
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = False
        self._restart_needed: Sequence[str] = ()

    async def run(self) -> int:
        """Serve until SIGTERM; return the exit status.  Raises GatewayError."""
        await asyncio.to_thread(self._files.changed, self._lists)
        self._storage = await open_storage(self._config, self._environ)
        try:
            await self._serve()
        finally:
            await self._storage.thread.aclose()
        return 1 if self._failed else 0

    async def _serve(self) -> None:
        config, storage = self._config, self._storage
        first = first_view(config, storage, self._started)
        self._bus = Bus(config.bus, first, storage.decisions)
        statistics, monitor = DeviceStatistics(self._bus), StoreMonitor(storage)
        self._app = build(
            config,
            storage,
            self._rules,
            environ=self._environ,
            reporter=statistics,
            checkpoint=self._checkpoint,
            on_window_change=self._show,
            reload=self.reload,
            dump=self._dump,
        )
        rules = self._rules
        await self._app.open_messages(config, self._environ, rules.allows, rules.messages)
        try:
            await self._serve_on_bus(statistics, monitor)
        finally:
            await self._app.close_messages()

    async def _serve_on_bus(self, statistics: DeviceStatistics, monitor: StoreMonitor) -> None:
        config, storage = self._config, self._storage
        await monitor.refresh()
        self._site = self._site_service()
        under_journal = journal.under_journal(self._environ, sys.stderr)
        self._status = GatewayStatus(
            config=config,
            storage=storage,
            monitor=monitor,
            children=self._app.manager.children,
            window=self._app.window,
            faults=self._faults,
            discovery_counters=self._app.discovery.counters,
            providers=self._app.providers,
            statistics=statistics,
            messages=self._app.messages,
            started=self._started,
            log_target="journal" if under_journal else "console",
            join_rules=lambda: self._rules.of_window,
            restart_needed=lambda: self._restart_needed,
            site=self._site.view,
        )
        self._app.restore(lambda ref: ref.device not in storage.without_secret)
        served = ServedCommands(
            authorities=self._app.authorities,
            broker=self._app.broker,
            credentials=self._app.credentials,
            site=self._site,
        )
        objects = exported_objects(self._status, self._environ, served, changed=self._show)
        await self._bus.start(self._app.commands, objects)
        try:
            await self._work()
        finally:
            await self._bus.stop()
            for provider in self._app.providers.values():
                await provider.close()

    def _site_service(self) -> SiteService:
        app, records = self._app, self._storage.records

        def name_of(device: DeviceId) -> CloudName | None:
            record = records.get(device)
            return record.cloud if record is not None else app.admission.decide(device).cloud

        return SiteService(
            self._config.site, app.site, resolve=app.commands.resolve, name_of=name_of,
            known=lambda: (one.cloud for one in records.all() if one.cloud is not None),
            wall=wall_time,
        )  # fmt: skip

    async def _work(self) -> None:
        self._listen_to_signals()
        await self._app.admit_gateway()
        manager, site = self._start(self._app.manager.run()), self._start(self._app.run_site())
        for service in self._services():
            self._start(service)
        self._show()
        self._notifier.ready(self._status.line())
        logger.info("Ready: %s.", self._status.line())
        try:
            await self._stop.wait()
        finally:
            await self._wind_down(manager, site)

    def _services(self) -> list[Coroutine[Any, Any, None]]:
        interval = watchdog_interval(self._environ, os.getpid())
        stage, report = self._app.message_stage, self._config.messages.report_gateway
        services = [
            *(service() for service in (*self._app.services(), *self._bus.services())),
            self._refresh_status(),
            self._end_start(),
            self._site.run(self._show),
            self._flush(),
            self._reload_on_hang_up(),
            self._storage.tend(
                asyncio.get_running_loop().time,
                wall_time,
                synchronised,
                self._app.manager.secret_lost,
            ),
        ]
        if stage is not None and report:
            status, now = self._status, self._app.clock.now
            reporter = GatewayReporter(
                stage.intake, status.online_gateways, status.facts, report, now
            )
            services.append(reporter.run())
        if self._config.metrics.enabled:
            services.append(self._metrics().run())
        if directory := self._environ.get(NOTICES_VARIABLE):
            status, settings = self._status, self._config.notices
            writer = NoticeWriter(Path(directory), settings, status.figures, self._app.clock.now)
            services.append(writer.run())
        if interval is not None:
            pings = {
                "asyncio": self._app.manager.ping,
                "dbus": self._bus.ping,
                "store": self._storage.thread.ping,
            }
            if stage is not None:
                pings["outbox"] = stage.relay.ping
            services.append(feed_watchdog(self._notifier, interval, pings))
        return services

    def _metrics(self) -> MetricsFile:
        """Have measured what metrics show, from now on; return their file."""
        app, storage = self._app, self._storage
        steps = StepCounts(storage.records, app.clock.now)
        app.manager.on_step = steps.note
        directory = self._environ.get(METRICS_VARIABLE)
        metrics = MetricsFile(
            Path(directory) if directory else None,
            self._config.metrics.every,
            self._status.figures,
            steps,
        )
        records, secrets, messages = (metrics.commits[file].timed for file in FILES)
        storage.time_commits(records, secrets)
        if app.message_stage is not None:
            app.message_stage.relay.time_commits(messages)
        return metrics

    def _start(self, service: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(service, name=_name(service))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Stop when a service has failed, so that systemd starts gatewayd again."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Service %s failed; gatewayd stops.", task.get_name(), exc_info=error)
            self._failed = True
            self._stop.set()

    async def _wind_down(self, gateway: asyncio.Task[None], site: asyncio.Task[None]) -> None:
        self._notifier.stopping("finishing registrations under way")
        logger.info("Stopping.")
        self._show()
        around = self._tasks - {gateway, site}
        await cancel_and_wait(around)
        await self._app.registrar.drain(DRAIN)
        await self._app.leave_site()
        await cancel_and_wait({gateway})
        await cancel_and_wait({site})

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up.set)

    async def _reload_on_hang_up(self) -> None:
        """Reload on SIGHUP; once for all the signals that came during the last reload."""
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()
            with contextlib.suppress(ConfigError):  # logged; the old configuration stays
                await self.reload()

    async def reload(self) -> None:
        """Read the configuration again, and the files that it names, and reconsider the children.

        Rules, the log level and the content of files take effect at once; any other change is
        logged, and takes effect after a restart.  Raises ConfigError; then the old configuration
        stays.
        """
        async with self._reloading:
            self._notifier.reloading()
            try:
                config, rules, changed = await asyncio.to_thread(self._read)
            except ConfigError as error:
                for line in ("Configuration not reloaded:", *str(error).splitlines()):
                    logger.error("%s", line, extra=REJECTED)  # noqa: TRY400  # for the operator
                raise
            else:
                await self._put_in_force(config, rules, changed)
            finally:
                self._notifier.ready(self._status.line())

    def _read(self) -> tuple[Config, tuple[Rule, ...], list[ChangedFile]]:
        found = examine(self._paths, Plugins.installed(), as_daemon=True).accepted(warn)
        return found.config, tuple(found.rules.rules), self._files.changed(found.rules.lists)

    async def _put_in_force(
        self, config: Config, rules: tuple[Rule, ...], changed: list[ChangedFile]
    ) -> None:
        self._rules.replace(rules)
        self._app.rules_changed()
        journal.set_level(config.log.level)
        self._restart_needed = differences(self._config, config)
        if waiting := ", ".join(self._restart_needed):
            logger.warning("These sections changed and take effect after a restart: %s.", waiting)
        if changed:
            logger.info("Read again, as they have changed: %s.", changed_files(changed))
        await self._app.reread({one.cloud for one in changed})
        if any(one.at[:1] == ("discovery",) for one in changed):
            self._app.discovery.reread()
        logger.info("Configuration reloaded.")
        self._app.manager.reconsider()
        self._show()
        self._app.manager.settle_holders()

    async def _end_start(self) -> None:
        await self._storage.settled()
        self._on_start()

    async def _refresh_status(self) -> None:
        shown = ""
        while True:
            await self._status.monitor.refresh()
            line = self._status.line()
            self._show()
            if line != shown:
                self._notifier.status(line)
                shown = line
            await asyncio.sleep(STATUS_EVERY)

    async def _flush(self) -> None:
        """Send what waits for systemd and its journal, whose sockets take a few messages each."""
        while True:
            waits = journal.flush()
            self._notifier.flush()
            await asyncio.sleep(FLUSH_AGAIN if waits else STATUS_EVERY)

    def _show(self) -> None:
        for place, view in self._status.views(self._state()).items():
            self._bus.show_at(place, view)

    def _state(self) -> str:
        return "stopping" if self._stop.is_set() else self._status.state()

    async def _dump(self) -> int:
        views, rules = self._status.views(self._state()), self._rules.listed()
        refused, devices = self._app.discovery.refused(), await self._bus.views()
        return await asyncio.to_thread(dump, self._config, views, rules, devices, refused)

    def _faults(self) -> Sequence[str]:
        """Return what is wrong outside the store, a sentence each."""
        bus = (self._bus.fault,) if self._bus.fault else ()
        site = site_faults(self._site.view())
        return *self._app.faults(), *self._app.messages.faults(), *bus, *site


def _name(service: Coroutine[Any, Any, None]) -> str:
    """Return the name of a coroutine function, as "Supervisor.run"."""
    return str(getattr(service, "__qualname__", service))
