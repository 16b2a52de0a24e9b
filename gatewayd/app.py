"""The composition root: builds the stages of a child's way, and joins them.  Nothing is started.

    discovery → admission → registration → secret store → sessions

The device manager is made first: discovery posts to it, and it starts the work of the stages.
A test builds the same `Application` on fakes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from gatewayd import __version__
from gatewayd.admission.authenticated_devices import AuthenticatedDevices
from gatewayd.admission.controller import (
    AdmissionController,
    DiscoveredDevices,
    RulesInForce,
)
from gatewayd.admission.ownership import ALONE, Ownership, why_elsewhere
from gatewayd.admission.policy.rules import Action, RuleMessages
from gatewayd.admission.proven_devices import ProvenDevices
from gatewayd.admission.rules import RuleBook
from gatewayd.cloud.ca.service import AuthorityService, give_slots
from gatewayd.cloud.credentials import credentials_directory, read_secret
from gatewayd.cloud.preflight import first_failure, local_context
from gatewayd.cloud.provider import CloudProvider, SupportsDeviceCa, SupportsReread
from gatewayd.config import Config
from gatewayd.credentials.notices import DIRECTORY_VARIABLE as CREDENTIALS_VARIABLE
from gatewayd.credentials.service import CredentialService, credential_sockets
from gatewayd.credentials.settings import CredentialSettings
from gatewayd.device.decision_log import DecisionLog
from gatewayd.device.identity import GATEWAY_PREFIX, DeviceId
from gatewayd.device.lifecycle import PostEvent, State, Work
from gatewayd.device.proof import PinIndex
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName, Record, RecordStore
from gatewayd.device.secret import SecretRef, SecretSlots
from gatewayd.device.target_records import TargetRecords
from gatewayd.device.views import CommandStatistics, MessageStatistics, Reporter
from gatewayd.errors import StoreError
from gatewayd.lan_discovery import Discovery, LanDiscovery, Service
from gatewayd.manager.changing_hands import ChangingHands
from gatewayd.manager.cloud_requests import CloudRequests, CloudRequestSettings
from gatewayd.manager.commands import OperatorCommands
from gatewayd.manager.device_view import DevicePublisher
from gatewayd.manager.identity_conflicts import IdentityConflicts
from gatewayd.manager.manager import ChildPublisher, DeviceManager, Worker
from gatewayd.manager.moves import ManagedChildren, OperatorMoves, Preflight
from gatewayd.manager.publishers import ProofNotifier, StandingNotifier
from gatewayd.message_stage import USUAL, Allows, MessageStage, nothing
from gatewayd.messages.broker.access import BrokerAccess
from gatewayd.messages.broker.certificates import BrokerAuthority, names_of_this_host
from gatewayd.messages.broker.files import AccessDirectory
from gatewayd.messages.broker.settings import BrokerPlaces
from gatewayd.messages.broker.users import Standing
from gatewayd.messages.doors.access import OwnBrokerAccess
from gatewayd.messages.outbox.arrival import BOOT_VARIABLE
from gatewayd.messages.service import DoorStates, MessageService
from gatewayd.messages.settings import MessageSettings
from gatewayd.messages.tap import MessageTap
from gatewayd.proofs.application import OwnApplication
from gatewayd.proofs.keeper import ProofKeeper
from gatewayd.proofs.prover import Prover
from gatewayd.proofs.settings import ProofSettings
from gatewayd.registration.registrar import Registrar, RegistrationSettings
from gatewayd.runtime.clock import BUILT, Clock, wall_time
from gatewayd.sessions.keeper import SessionKeeper, SessionSettings
from gatewayd.sessions.mover import Mover
from gatewayd.site.service import SiteParts
from gatewayd.site.stage import SiteStage
from gatewayd.storage.storage import Storage

log = logging.getLogger(__name__)

RECORD_AGAIN = 10.0
"""Seconds after which a name that could not be recorded is tried again."""

NO_PRODUCTS: Mapping[str, Collection[str] | None] = {}
NO_PROOFS: Mapping[str, ProofSettings] = {}
NO_STATE = Path()


async def always_good(_cloud: str) -> str:
    """Find nothing wrong with a cloud."""
    return ""


class Application:
    """The stages of a child's way, joined by the device manager's event queue.

    manager: new.  discovery: made with the manager as its listener.
    settle: seconds a sighting must stay the same before it is evaluated.
    checkpoint: called with the name of each durable step.
    on_window_change: called when the join window has opened or closed.
    reload, dump: as `OperatorCommands` takes them.
    speaking: whether children may say something, by `open_messages`.
    decisions: the log of decisions.
    products: of each cloud, for rules that are suggested; None for one that does not list them.
    proofs: how devices prove their keys, by the names that rules use.
    state: the state directory; needed for proofs.
    preflight: of a cloud to which a child is to move.
    ownership: which children are this gateway's.
    shared: whether that changes while gatewayd runs, as in a site on etcd.
    """

    message_stage: MessageStage | None = None
    broker: BrokerAccess | None = None
    credentials: CredentialService | None = None
    site: SiteParts | None = None
    _site_stage: SiteStage | None = None
    _broker_files: AccessDirectory | None = None

    def __init__(  # noqa: PLR0913  # ruff counts keyword-only ones: the root joins all parts
        self,
        *,
        manager: DeviceManager,
        discovery: Discovery,
        records: RecordStore,
        secrets: SecretSlots,
        decisions: DecisionLog,
        providers: Mapping[str, CloudProvider],
        rules: RulesInForce,
        reporter: Reporter,
        registration: RegistrationSettings,
        sessions: SessionSettings,
        cloud_requests: CloudRequestSettings,
        settle: float,
        clock: Clock,
        checkpoint: Callable[[str], None],
        on_window_change: Callable[[], None],
        reload: Callable[[], Awaitable[None]],
        dump: Callable[[], Awaitable[int]],
        speaking: bool = False,
        products: Mapping[str, Collection[str] | None] = NO_PRODUCTS,
        proofs: Mapping[str, ProofSettings] = NO_PROOFS,
        state: Path = NO_STATE,
        preflight: Preflight = always_good,
        ownership: Ownership = ALONE,
        shared: bool = False,
    ) -> None:
        self.manager, self.discovery, self.clock = manager, discovery, clock
        self.providers, self._records, self._secrets = providers, records, secrets
        self._pins, self._proving = PinIndex(), bool(proofs)
        seen = self._open_proofs(proofs, rules, state)
        self._authenticated = AuthenticatedDevices(seen, manager.changed) if speaking else None
        devices = self._authenticated or seen
        self.registrar = Registrar(records, secrets, providers, registration, clock, checkpoint)
        self.admission = AdmissionController(
            records, devices, rules, providers,
            turns=self.registrar, settle=settle, clock=clock, pins=self._pins,
            proofs=self.proofs if self._proving else None, ownership=ownership,
        )  # fmt: skip
        self.keeper = SessionKeeper(
            records, secrets, providers, sessions, clock, checkpoint, hands_over=rules.hands_over,
        )  # fmt: skip
        self.mover = self._make_mover(sessions, checkpoint)
        view = self._open_view(devices, reporter, speaking=speaking)
        manager.connect(self._workers(), view, self.keeper.is_for_holder)
        self.commands = OperatorCommands(
            manager, self.admission, records, rules,
            decisions=decisions, quiet_for=self.registrar.quiet_for, products=products,
            reload=reload, dump=dump, discovery=discovery, proofs=self.proofs,
            conflicts=IdentityConflicts(manager, self.admission, records, discovery.devices),
            moves=self._open_moves(products, preflight, checkpoint), shared=shared,
        )  # fmt: skip
        self.tap = MessageTap(lambda: clock.wall() // 1000)
        self.messages = self._messages_of(MessageStatistics, dict, {})
        self.cloud_requests = self._serve_clouds(cloud_requests, decisions)
        self.authorities: dict[str, AuthorityService] = {}
        self._unrecorded: dict[str, CloudName] = {}
        self.window, self._on_window_change = self.admission.window, on_window_change
        self.window.listen(self._window_changed)

    def _open_proofs(
        self, proofs: Mapping[str, ProofSettings], rules: RulesInForce, state: Path
    ) -> DiscoveredDevices:
        """Have devices prove their keys, where the configuration says how; return what is known."""
        found = self.discovery.devices
        proven = ProvenDevices(found, self._pins)
        own = OwnApplication(self._secrets, state, names_of_this_host()[0])
        self.proofs = ProofKeeper(
            Prover(proofs, self.clock, own), proven, self._records, self._pins, self.clock,
            post=self.manager.post, proof_of=rules.proof_of,
        )  # fmt: skip
        return proven if self._proving else found

    def _make_mover(self, settings: SessionSettings, checkpoint: Callable[[str], None]) -> Mover:
        """Return what moves children: by the same steps as any registration, at another cloud."""

        def at_target(step: str) -> None:
            checkpoint(f"move-{step}")

        targets = TargetRecords(self._records)
        mover = Mover(
            self._records,
            targets=targets,
            registration=self.registrar.beside(targets, at_target),
            login=self.keeper.login_for(targets, at_target),
            sessions=self.keeper,
            children=ManagedChildren(self.manager),
            settings=settings,
            clock=self.clock,
            checkpoint=at_target,
        )
        self.manager.halts_too = mover.halted
        return mover

    def _open_moves(
        self,
        products: Mapping[str, Collection[str] | None],
        preflight: Preflight,
        checkpoint: Callable[[str], None],
    ) -> OperatorMoves:
        """Return the commands about moves, to any cloud there is."""
        return OperatorMoves(
            self.manager, self.admission, self._records, self._secrets,
            mover=self.mover, products={**dict.fromkeys(self.providers), **products},
            preflight=preflight, clock=self.clock, checkpoint=checkpoint,
        )  # fmt: skip

    def _open_view(
        self, devices: DiscoveredDevices, reporter: Reporter, *, speaking: bool
    ) -> ChildPublisher:
        """Return a publisher that also notifies the stages that look at what children become."""
        publisher: ChildPublisher = DevicePublisher(
            self._records, devices, self.admission, reporter, self.clock, self.mover.moving
        )
        if speaking:
            publisher = StandingNotifier(publisher, self._records, self)
        return ProofNotifier(publisher, self.proofs) if self._proving else publisher

    def _workers(self) -> Mapping[Work, Worker]:
        return {
            Work.EVALUATE: self.admission.evaluate,
            Work.REGISTER: self.registrar.register,
            Work.ACTIVATE: self._settle_proof if self._proving else self.keeper.activate,
            Work.CONNECT: self.keeper.connect,
            Work.HOLD: self.keeper.held.hold,
        }

    async def _settle_proof(self, device: DeviceId, post: PostEvent) -> None:
        """Let a child that is back log in once it has proven the key that is pinned to it."""
        await self.proofs.settle(device, post, self.keeper.activate)

    def _serve_clouds(
        self, settings: CloudRequestSettings, decisions: DecisionLog
    ) -> CloudRequests:
        """Let clouds ask the gateway for what the settings allow."""
        requests = CloudRequests(settings, self.manager, self.admission, self.clock.now, decisions)
        for provider in self.providers.values():
            provider.set_requests(requests)
        return requests

    def open_authorities(self) -> None:
        """Give each device CA its slots in the secret store, and operators a way to it."""
        for name, provider in self.providers.items():
            if isinstance(provider, SupportsDeviceCa) and provider.issuer is not None:
                give_slots(name, provider.issuer, self._secrets, self.clock.timestamp)
                self.authorities[name] = AuthorityService(
                    name,
                    provider.issuer,
                    self.commands.resolve,
                    self._cloud_name,
                    self.keeper.renew,
                    self.clock.fault,
                )

    def open_broker(self, settings: MessageSettings, state: Path, places: BrokerPlaces) -> None:
        """Let children and programs use gatewayd's own broker, where it is enabled; else stop it.

        state: the state directory.
        """
        self._broker_files = AccessDirectory(places)
        if settings.enabled and settings.broker.enabled:
            self.broker = BrokerAccess(
                settings.broker,
                places,
                state,
                BrokerAuthority(self._secrets),
                standing=self._standing,
                resolve=self.commands.resolve,
                clock=self.clock,
            )

    def open_credentials(
        self, settings: CredentialSettings, decisions: DecisionLog, environ: Mapping[str, str]
    ) -> None:
        """Let the holders of children have their credentials, by the sockets that there are.

        environ: of the process.
        """
        notices = environ.get(CREDENTIALS_VARIABLE)
        self.credentials = CredentialService(
            settings,
            self._records,
            self.keeper.held,
            sockets=credential_sockets(environ, os.getpid()),
            directory=Path(notices) if notices else None,
            decisions=decisions,
            resolve=self.commands.resolve,
            is_for_holder=self.keeper.is_for_holder,
        )
        self.keeper.held.listen(self.credentials)

    async def open_messages(
        self,
        config: Config,
        environ: Mapping[str, str],
        allows: Allows = nothing,
        wanted: Callable[[str], RuleMessages] = lambda _: USUAL,
    ) -> None:
        """Let children speak and be commanded, where that is enabled.  Raises ConfigError.

        An outbox that cannot be opened is tried again: all else goes on meanwhile.
        environ: of the process.  allows: whether a rule allows a command to its children.
        wanted: returns how a rule treats messages, by its name.
        """
        if not config.messages.enabled:
            return
        broker, path = self.broker, BrokerPlaces.of(environ).socket
        stage = MessageStage(
            config.messages,
            config.gateway.state_directory,
            self._records,
            self.clock,
            self.tap,
            own=OwnBrokerAccess(path, lambda: broker.password) if broker else None,
            read_secret=partial(read_secret, credentials_directory(environ)),
            host=socket.gethostname(),
            stranger=self._prove,
            boot=environ.get(BOOT_VARIABLE, ""),
            allows=allows,
            wanted=wanted,
            clouds=self.providers,
            notes=runtime_directory(environ),
        )
        await stage.open()
        for listener in (stage.sessions, stage.relay.delivery, stage.commands):
            self.keeper.listen(listener)
        self.message_stage = stage
        self.messages = self._messages_of(
            stage.statistics, stage.door_states, stage.entrances, stage.commands.statistics
        )

    def _messages_of(
        self,
        statistics: Callable[[], MessageStatistics],
        doors: Callable[[], DoorStates],
        entrances: Mapping[DeviceId, str],
        commands: Callable[[], CommandStatistics] = CommandStatistics,
    ) -> MessageService:
        return MessageService(
            statistics, doors, entrances, self.tap, self.commands.resolve, self.clock.now,
            commands=commands,
        )  # fmt: skip

    async def close_messages(self) -> None:
        """Close the outbox, and end what operators follow, when all else has ended."""
        self.tap.close()
        if self.message_stage is not None:
            await self.message_stage.aclose()

    def restore(self, readable: Callable[[SecretRef], bool]) -> None:
        """Add the children on record.  readable: whether a slot can be read."""
        self.discovery.devices.answer(dict(self._records.answers))
        for record in self._records.all():
            self.discovery.devices.add_known(record.device, record.claims)
        self.manager.restore(readable)

    async def admit_gateway(self) -> None:
        """Put the gateway's own names on record, and let them come online.

        One that cannot be recorded, as on a full disk, is tried again by one of `services`.
        """
        for name, provider in self.providers.items():
            if provider.gateway_name is not None:
                await self._admit_gateway_at(name, provider.gateway_name)

    async def _admit_gateway_at(self, provider: str, gateway: CloudName) -> None:
        device = DeviceId(f"{GATEWAY_PREFIX}{provider}")
        try:
            await self.admission.configure(device, gateway)
        except StoreError as error:
            log.warning("Cannot record the gateway's own name at %s: %s.", provider, error)
            self._unrecorded[provider] = gateway
            return
        self._unrecorded.pop(provider, None)
        self.manager.admit_gateway(device)

    async def _admit_gateway_later(self) -> None:
        while self._unrecorded:
            await asyncio.sleep(RECORD_AGAIN)
            for name, gateway in list(self._unrecorded.items()):
                await self._admit_gateway_at(name, gateway)

    def rules_changed(self) -> None:
        """Note that other rules are in force, which may allow children other commands."""
        self.proofs.reread()
        if self.message_stage is not None:
            self.message_stage.commands.rules_changed()

    async def reread(self, clouds: Collection[str]) -> None:
        """Have files read again that the settings name, and try what failed with the old ones.

        clouds: those whose files have changed.
        """
        for provider in self.providers.values():
            if isinstance(provider, SupportsReread):
                await provider.reread()
        await self.commands.retry_all(clouds)
        if self.credentials is not None:
            self.credentials.reread(clouds)

    def join(self, site: SiteStage) -> None:
        """Have the children belong to this gateway by what the site says, from now on."""
        hands = ChangingHands(
            self.manager, self.admission,
            records=self._records, secrets=self._secrets, ownership=site.ownership,
            copies=site.replica, begin_move=self.mover.begin,
            shard_of=site.shard_of, may_send=site.may_send,
            waiting=lambda: self.message_stage.relay.waiting() if self.message_stage else (),
        )  # fmt: skip
        self.admission.move_together = site.are_of_one_shard
        self.site, self._site_stage = site.connect(hands), site

    async def run_site(self) -> None:
        """Take part in the site, until cancelled; at once where there is none."""
        if self._site_stage is not None:
            await self._site_stage.run()

    async def leave_site(self) -> None:
        """Give the children to the others of the site, while `run_site` and the manager run."""
        if self._site_stage is not None:
            await self._site_stage.leave()

    def services(self) -> Iterable[Service]:
        """Return what has to run besides the manager."""
        watches = (authority.watch for authority in self.authorities.values())
        own = (self._admit_gateway_later, self._watch_clock, self.mover.run)
        proofs = (self.proofs.run,) if self._proving else ()
        credentials = (self.credentials.run,) if self.credentials else ()
        broker = self.broker.run if self.broker else self._stop_broker
        messages = self.message_stage.services() if self.message_stage else ()
        return (
            *self.discovery.services(), self.cloud_requests.run, *own, *credentials, *watches,
            broker, *messages, *proofs,
        )  # fmt: skip

    def faults(self) -> Sequence[str]:
        """Return what is wrong with the gateway itself, a sentence each."""
        broker = self.broker.faults() if self.broker else ()
        return tuple(filter(None, (*self.discovery.faults(), *broker, self.clock.fault())))

    async def _stop_broker(self) -> None:
        if self._broker_files is not None:
            try:
                await asyncio.to_thread(self._broker_files.clear)
            except OSError as error:
                log.warning("Cannot stop the broker: %s: %s.", error.filename, error.strerror)

    async def _watch_clock(self) -> None:
        """Log a clock that is not set, and when it is."""
        if fault := self.clock.fault():
            log.error("Waiting: %s.", fault, extra={"message_id": "clock-not-set"})
            await self.clock.wait_until_set()
            log.warning("The clock is set now.", extra={"message_id": "clock-set"})

    def _window_changed(self) -> None:
        """Let in the pending children that the join window covers now."""
        if self.window.current:
            self.manager.reconsider_pending(self._admits)
        self._on_window_change()

    def _admits(self, device: DeviceId) -> bool:
        return self.admission.decide(device).action is Action.REGISTER

    def _standing(self, device: DeviceId) -> Standing:
        """Return how a child with a password or certificate stands: none is kept out unjudged."""
        record, child = self._records.get(device), self.manager.children.get(device)
        if record is not None:
            return Standing.ADMITTED if record.may_speak else Standing.OUT
        waits = child is not None and child.state in (State.DISCOVERED, State.PENDING)
        return Standing.UNDECIDED if waits else Standing.OUT

    def _prove(self, device: DeviceId) -> None:
        """Give trust to a child that waits, and has logged in at gatewayd's own broker."""
        if self._authenticated and self._standing(device) is Standing.UNDECIDED:
            self._authenticated.prove(device)

    def _cloud_name(self, device: DeviceId) -> CloudName | None:
        record = self._records.get(device)
        return record.cloud if record else None


async def open_storage(config: Config, environ: Mapping[str, str]) -> Storage:
    """Open the configured stores.  Raises StoreError, ConfigError.

    environ: of the process.
    """
    directory, store = config.gateway.state_directory, config.store
    make_store = partial(store.plugin, store.settings, directory, credentials_directory(environ))
    ownership = config.site.ownership()

    def elsewhere(record: Record) -> Reason:
        return why_elsewhere(ownership, record.device, record.cloud)

    return await Storage.open(directory, make_store, wall_time, elsewhere)


def build(  # noqa: PLR0913  # ruff counts keyword-only ones: what the daemon owns
    config: Config,
    storage: Storage,
    rules: RuleBook,
    *,
    environ: Mapping[str, str],
    reporter: Reporter,
    checkpoint: Callable[[str], None],
    on_window_change: Callable[[], None],
    reload: Callable[[], Awaitable[None]],
    dump: Callable[[], Awaitable[int]],
) -> Application:
    """Return the application that is configured.  Raises ConfigError, PluginError.

    environ: of the process.  The other arguments: as `Application` takes them.
    """
    clock = Clock(asyncio.get_running_loop().time, wall_time, earliest=BUILT)
    providers = _providers(config, environ)
    site: SiteStage | None = None
    if config.site.endpoints:
        read = partial(read_secret, credentials_directory(environ))
        site = SiteStage(config.site, __version__, storage, providers, read, clock)
    records = storage.records if site is None else site.records
    manager = DeviceManager(records, clock)
    app = Application(
        manager=manager,
        discovery=LanDiscovery(config, rules, manager, clock, environ),
        records=records,
        secrets=storage.secrets if site is None else site.secrets,
        decisions=storage.decisions,
        providers=providers,
        rules=rules,
        reporter=reporter,
        registration=config.registration,
        sessions=config.sessions,
        cloud_requests=config.cloud_requests,
        settle=config.inventory.settle,
        clock=clock,
        checkpoint=checkpoint,
        on_window_change=on_window_change,
        reload=reload,
        dump=dump,
        speaking=config.messages.enabled,
        products=config.products(),
        proofs=config.proofs,
        state=config.gateway.state_directory,
        preflight=partial(_preflight, config, environ),
        ownership=config.site.ownership() if site is None else site.ownership,
        shared=site is not None,
    )
    if site is not None:
        app.join(site)
    app.open_authorities()
    app.open_credentials(config.credentials, storage.decisions, environ)
    app.open_broker(config.messages, config.gateway.state_directory, BrokerPlaces.of(environ))
    return app


def _providers(config: Config, environ: Mapping[str, str]) -> Mapping[str, CloudProvider]:
    read = partial(read_secret, credentials_directory(environ))
    return {one.name: one.plugin(one.name, one.settings, read) for one in config.clouds}


async def _preflight(config: Config, environ: Mapping[str, str], cloud: str) -> str:
    """Return why a cloud that is configured could not be used now; "" where it could."""
    one = next(one for one in config.clouds if one.name == cloud)
    context = await asyncio.to_thread(local_context, environ)
    return await first_failure(one.plugin, one.settings, context)


def runtime_directory(environ: Mapping[str, str]) -> Path | None:
    """Return the service's directory below /run; None where systemd has made none."""
    directory = environ.get("RUNTIME_DIRECTORY")
    return Path(directory) if directory else None
