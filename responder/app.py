"""The composition root: the only module that names adapters. Everything is put together here and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp

from responder import __version__
from responder.actions.catalogue import ActionCatalogue, catalogue
from responder.actions.planning import PlanSettings
from responder.clock import SpedUpClock, SystemClock
from responder.clusters.aks import AksCloud, AzureAccess, Identity, entra_access
from responder.clusters.aks.identity import AKS_SCOPE, ARM_SCOPE
from responder.clusters.kubernetes import READS, KubernetesAccess, connect, watching
from responder.clusters.world import InternetProbe
from responder.http.auth import Authentication, Token, token
from responder.http.server import Server
from responder.model.alert import Severity, SourceKind
from responder.model.errors import RemoteError, SettingsError, StoreUnavailableError
from responder.model.rule import Call
from responder.model.storing import Replica
from responder.model.target import TargetKind
from responder.notifiers import build
from responder.notifiers.heartbeat import Heartbeat
from responder.policy.case import House
from responder.policy.targets import ClusterIdentity, Exporters
from responder.ports import (
    Askable,
    Clock,
    Cloud,
    ClusterHands,
    ClusterView,
    ClusterWatch,
    DeadMansSwitch,
    Notifier,
    Source,
    World,
)
from responder.rules.matchers import parse_matchers
from responder.service.asking import Asker
from responder.service.auditor import Auditor
from responder.service.backlog import Backlog
from responder.service.contacts import Contacts
from responder.service.doctor import Doctor, DoctorParts
from responder.service.explain import Explainer
from responder.service.foresight import Foresight
from responder.service.handing import Handing
from responder.service.hands import Hands
from responder.service.intake import Intake
from responder.service.moves import Moves
from responder.service.observer import Observer
from responder.service.outage import Outage
from responder.service.outbox import Outbox
from responder.service.permissions import Permissions
from responder.service.pinning import Pins
from responder.service.pulse import Pulse
from responder.service.reaching import Component, Nobody, Reach
from responder.service.reading import Reader
from responder.service.report import Reporter
from responder.service.router import Router
from responder.service.rulebook import Rulebook
from responder.service.selfwatch import SelfWatch
from responder.service.storms import Storms
from responder.service.supervisor import Supervisor
from responder.service.switches import Switches, cluster_scope
from responder.service.targeting import Targeting
from responder.service.undo import Undo
from responder.service.watcher import Watcher
from responder.service.worker import Worker, WorkerParts
from responder.settings import (
    FORMATS,
    AlertmanagerSettings,
    AskAlertmanagerSettings,
    AzureMonitorSettings,
    EntraCallerSettings,
    EventGridSettings,
    ServiceBusSettings,
    Settings,
    unknown_rules,
)
from responder.sources import SOURCES, read
from responder.sources.alertmanager_api import AlertmanagerApi
from responder.sources.azure_alerts import ARM, AzureAlerts
from responder.sources.service_bus.bus import Access, Bus
from responder.sources.service_bus.receiving import ServiceBusSource
from responder.stores import SqlStore, open_postgres, open_sqlite
from responder.telemetry import Metrics, logger
from responder.web.api import Api, ApiParts
from responder.web.webhooks import Door, RecognisesCallers

SHADOW_CHANNEL = "shadow"
EMBEDDED = "embedded"
HOME_AGAIN = timedelta(minutes=1)


@dataclass(slots=True)
class App:
    """A running installation's parts. ``serve`` runs it; tests reach into it."""

    settings: Settings
    clock: Clock
    store: SqlStore
    rulebook: Rulebook
    intake: Intake
    supervisor: Supervisor
    replica: Replica
    server: Server
    reporter: Reporter
    explainer: Explainer
    views: dict[str, ClusterView]
    metrics: Metrics
    catalogue: ActionCatalogue
    permissions: Permissions
    clouds: dict[str, Cloud]
    reach: Reach
    identity: Identity | None = None

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://{self.settings.http.host}:{self.server.port}"


@contextlib.asynccontextmanager
async def assembled(settings: Settings, *, store: SqlStore | None = None, clock: Clock | None = None) -> AsyncIterator[App]:
    """Put an installation together and take it apart again; nothing runs yet.

    Args:
        settings: Checked.
        store: Another store than the configured one, for tests; closed here too.
        clock: Another clock, for tests.

    Raises:
        SettingsError: Something configured cannot be used; also rules that do not load (there is no good set to keep yet).
    """
    speed = settings.clock
    clock = clock or (SystemClock() if speed == 1.0 else SpedUpClock(speed))
    metrics = Metrics()
    known = catalogue()
    rulebook = Rulebook(
        paths=settings.paths(),
        catalogue=known.names,
        act=settings.act_entries(),
        overrides=settings.rules,
        clock=clock,
        metrics=metrics,
    )
    if not rulebook.load():
        raise SettingsError("the rules cannot be used:\n" + "\n".join(rulebook.problems))
    if unknown := unknown_rules(settings, rulebook.rules):
        raise SettingsError(unknown)
    async with contextlib.AsyncExitStack() as stack:
        store = store or await _opened(settings, clock)
        clock = store.clock  # on PostgreSQL the database's, for all of the service
        stack.push_async_callback(store.close)
        session = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False, headers={"User-Agent": "responder"}))
        notifiers: dict[str, Notifier] = {
            name: build(one.kind, name, one.given(), session) for name, one in settings.channels.items()
        }
        views: dict[str, ClusterView] = {}
        hands: dict[str, ClusterHands] = {}
        watches: dict[str, ClusterWatch] = {}
        identity = identity_of(settings)
        clouds: dict[str, Cloud] = {}
        if identity is not None:
            stack.push_async_callback(identity.close)
        for name, one in settings.clusters.items():
            access = KubernetesAccess(name=name, in_cluster=one.in_cluster, kubeconfig=one.kubeconfig, context=one.context)
            if identity is not None and one.resource_id:
                cloud = AksCloud(name, one.resource_id, identity, now=clock.now)
                stack.push_async_callback(cloud.close)
                clouds[name] = cloud
                if not one.in_cluster and not one.kubeconfig:
                    access = KubernetesAccess(name=name, found=entra_access(cloud, identity))
            view, hand = await connect(access, now=clock.now)
            views[name], hands[name] = view, hand
            stack.push_async_callback(view.close)
            if one.watch:
                watches[name] = await watching(access, now=clock.now, sleep=clock.sleep)
        beat = settings.heartbeat
        switch = Heartbeat(beat.url.read().get_secret_value(), session) if beat is not None else None
        world = InternetProbe(settings.home.probe, session)
        yield _assemble(
            settings,
            clock,
            metrics,
            known,
            rulebook,
            store,
            notifiers,
            views,
            hands,
            watches,
            switch,
            session,
            identity,
            clouds,
            world,
        )


def identity_of(settings: Settings) -> Identity | None:
    """Return our one identity in Azure; None where Azure is not configured."""
    one = settings.azure
    if one is None:
        return None
    _trusting(one.ca_file, "azure.ca_file")  # the SDKs would say, at every call, that some file is not there
    return Identity(
        AzureAccess(
            credential=one.credential,
            client_id=one.client_id or os.environ.get("AZURE_CLIENT_ID", ""),
            tenant_id=one.tenant_id,
            token_file=one.token_file,
            authority=one.authority,
            endpoint=one.endpoint,
            scope=one.scope,
            ca_file=one.ca_file,
        )
    )


def _components(settings: Settings, known: ActionCatalogue) -> list[Component]:
    """Return the configured components with their checks.

    Raises:
        SettingsError: A check is not in the catalogue.
    """
    found: list[Component] = []
    for name, one in settings.components.items():
        check = (
            Call(name=one.check)
            if isinstance(one.check, str)
            else Call(name=next(iter(one.check)), arguments=next(iter(one.check.values())))
        )
        if check.name not in known.checks:
            raise SettingsError(
                f"components.{name}.check: there is no check {check.name}; known are {', '.join(sorted(known.checks))}"
            )
        kind = TargetKind.SERVICE if one.equal("kind") == "service" else TargetKind.WORKLOAD
        found.append(
            Component(
                name=name,
                cluster=one.equal("cluster"),
                namespace=one.equal("namespace"),
                target=one.equal("name"),
                kind=kind,
                check=check,
            )
        )
    return found


def _hosts(settings: Settings) -> dict[str, bool | None]:
    """Tell of each cluster whether it hosts this program.

    ``home.cluster`` says it, or the one with ``in_cluster``; outside any pod none does. Otherwise it is looked for (``find_home``): None until then.
    """
    home = settings.home.cluster or next((name for name, one in settings.clusters.items() if one.in_cluster), "")
    if home:
        return {name: name == home for name in settings.clusters}
    return dict.fromkeys(settings.clusters, None if os.environ.get("KUBERNETES_SERVICE_HOST") else False)


async def find_home(app: App) -> None:
    """Look which configured cluster has our own pod until each has said; only where the configuration does not say it and the pod knows itself."""
    namespace, _, name = os.environ.get("RESPONDER_POD", "").partition("/")
    uid = os.environ.get("RESPONDER_POD_UID", "")
    while name and uid and app.reach.unsure:
        found = await app.reach.find_ourselves(namespace=namespace, name=name, uid=uid)
        if found:
            logger().info("home_found", cluster=found)
        elif app.reach.unsure:
            await app.clock.sleep(HOME_AGAIN)


def bus_of(one: ServiceBusSettings, identity: Identity | None = None, *, shared: bool = False) -> Bus:
    """Return the way to a Service Bus entity; its secret is read, nothing is opened.

    Args:
        one: The source's settings.
        identity: Of ``azure:``, used where the source names neither a connection string nor an identity of its own.
        shared: The identity outlives the bus.
    """
    if one.connection_string is not None or {"credential", "client_id"} & one.model_fields_set:
        identity = None
    _trusting(one.ca_file, f"the source of queue {one.queue or one.topic}: ca_file")
    secret = one.connection_string.read().get_secret_value() if one.connection_string is not None else ""
    return Bus(
        Access(
            queue=one.queue,
            topic=one.topic,
            subscription=one.subscription,
            connection_string=secret,
            namespace=one.namespace,
            credential=one.credential,
            client_id=one.client_id,
            transport=one.transport,
            endpoint=one.endpoint,
            ca_file=one.ca_file,
        ),
        credential=identity,
        shared=identity is not None and shared,
    )


def _source(
    name: str,
    one: ServiceBusSettings,
    intake: Intake,
    clock: Clock,
    metrics: Metrics,
    poke: Callable[[], None],
    identity: Identity | None,
) -> Source:
    return ServiceBusSource(
        name=name,
        bus=bus_of(one, identity, shared=True),
        intake=intake,
        clock=clock,
        metrics=metrics,
        in_flight=one.in_flight,
        receivers=one.receivers,
        poison_after=one.poison_after,
        stored=poke,
    )


def shared_secret(tokens: Sequence[Token]) -> str:
    """Name tokens that have one secret; "" when each has its own."""
    named: dict[bytes, list[str]] = {}
    for one in tokens:
        named.setdefault(one.digest, []).append(one.name)
    return next((" and ".join(names) for names in named.values() if len(names) > 1), "")


def _doors(settings: Settings, recognises: Callable[[EntraCallerSettings], RecognisesCallers]) -> dict[str, Door]:
    """Return what is expected of each configured sender that calls us."""
    doors: dict[str, Door] = {}
    for name, one in settings.sources.items():
        entra = (
            recognises(one.callers())
            if isinstance(one, (AzureMonitorSettings, EventGridSettings)) and one.entra is not None
            else None
        )
        if isinstance(one, EventGridSettings):
            doors[name] = Door(format=SourceKind.EVENT_GRID, topics=one.topics, origins=one.origins, entra=entra)
        elif not isinstance(one, ServiceBusSettings):
            doors[name] = Door(format=FORMATS.get(one.kind), entra=entra)
    return doors


def _entra(
    settings: Settings, session: aiohttp.ClientSession | None, clock: Clock, supervisor: Supervisor
) -> tuple[Callable[[EntraCallerSettings], RecognisesCallers], Callable[[], str] | None]:
    """Return what makes a recogniser of callers with Entra tokens, and what says why its keys cannot be had.

    The keys are fetched beside everything else, and once for all sources.
    """
    entra = settings.http.entra
    if entra is None or session is None:
        return _no_entra, None
    from responder.http.entra import EntraDoor, Keys, Tenant  # noqa: PLC0415 - cryptography is large, and most installations need none

    tenant = Tenant(
        id=entra.tenant,
        audiences=entra.audiences,
        authority=entra.authority.rstrip("/"),
        issuers=entra.issuers,
        leeway=entra.leeway,
    )
    keys = Keys(tenant, session, seconds=clock.boottime, tls=_trusting(entra.ca_file, "http.entra.ca_file"))
    supervisor.beside["entra keys"] = lambda: keys.run(clock.sleep)
    return lambda who: EntraDoor(tenant, keys, apps=who.apps, roles=who.roles, now=clock.now), keys.problem


def _askables(
    settings: Settings, session: aiohttp.ClientSession | None, clock: Clock, identity: Identity | None
) -> list[tuple[Askable, timedelta]]:
    """Return the senders that can be asked what holds now, with how often.

    Raises:
        SettingsError: A CA bundle cannot be used.
    """
    found: list[tuple[Askable, timedelta]] = []
    for name, one in settings.sources.items():
        if session is None or not isinstance(one, (AlertmanagerSettings, AzureMonitorSettings)) or one.ask is None:
            continue
        ask = one.ask
        tls = _trusting(ask.ca_file, f"sources.{name}.ask.ca_file")
        if isinstance(ask, AskAlertmanagerSettings):
            member = AlertmanagerApi(
                name=name,
                urls=ask.url,
                receivers=ask.receivers,
                session=session,
                now=clock.now,
                filters=ask.filters,
                matches=parse_matchers(list(ask.filters)) if ask.filters else None,
                token=ask.token.read().get_secret_value() if ask.token is not None else "",
                tls=tls,
                settled_after=ask.settled_after,
            )
            found.append((member, ask.every))
        elif identity is not None and settings.azure is not None:
            azure = settings.azure
            listing = AzureAlerts(
                name=name,
                subscriptions=ask.subscriptions or (one.subscriptions if isinstance(one, AzureMonitorSettings) else ()),
                identity=identity,
                session=session,
                now=clock.now,
                url=azure.endpoint or ARM,
                scope=azure.scope or ARM_SCOPE,
                matches=ask.only,
                look_back=ask.look_back,
                tls=tls if ask.ca_file else _trusting(azure.ca_file, "azure.ca_file"),
            )
            found.append((listing, ask.every))
    return found


def _trusting(ca_file: str, field: str) -> ssl.SSLContext | None:
    """Return what trusts a CA bundle; None for the public ones."""
    try:
        return ssl.create_default_context(cafile=ca_file) if ca_file else None
    except OSError as error:
        raise SettingsError(f"{field} {ca_file} cannot be used: {error}") from error


def _no_entra(_who: EntraCallerSettings) -> RecognisesCallers:
    raise SettingsError("sources.<name>.entra needs http.entra")


async def _opened(settings: Settings, clock: Clock) -> SqlStore:
    if settings.store.url is None:
        return open_sqlite(Path(settings.store.path), clock)
    store = await open_postgres(settings.store.url.read().get_secret_value(), clock, pool=settings.store.pool)
    if store.runner.schema_ahead:
        logger().warning("schema_ahead", revision=store.runner.schema_ahead)
    return store


def _this_replica(settings: Settings) -> Replica:
    """Return this process' name in leases: on SQLite the same in every life, so that a start frees what the last one held."""
    where = f"{socket.gethostname()}/{os.getpid()}"
    unique = EMBEDDED if settings.store.kind == "sqlite" else f"{where}/{secrets.token_hex(4)}"
    return Replica(id=unique, incarnation=where, version=__version__)


def _assemble(
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    known: ActionCatalogue,
    rulebook: Rulebook,
    store: SqlStore,
    notifiers: dict[str, Notifier],
    views: dict[str, ClusterView],
    hand: dict[str, ClusterHands],
    watches: dict[str, ClusterWatch],
    switch: DeadMansSwitch | None,
    session: aiohttp.ClientSession | None = None,
    identity: Identity | None = None,
    clouds: dict[str, Cloud] | None = None,
    world: World | None = None,
) -> App:
    clouds = clouds or {}
    base_url = settings.http.public_url
    replica = _this_replica(settings)
    limits = settings.limits.limits()
    pins = Pins(store=store, catalogue=known.names)
    configured = {cluster_scope(name): one.mode for name, one in settings.clusters.items()}
    switches = Switches(store=store, armed=rulebook.armed, configured=configured)
    contacts = Contacts(clock=clock)
    reach = Reach(
        views=views,
        clock=clock,
        catalogue=known,
        world=world or Nobody(),
        hosts=_hosts(settings),
        components=_components(settings, known),
    )
    brings_events = any(isinstance(one, (EventGridSettings, ServiceBusSettings)) for one in settings.sources.values())
    reader = Reader(
        views=views,
        store=store,
        clock=clock,
        catalogue=known,
        clouds=clouds,
        reach=reach,
        contacts=contacts,
        cluster_ids={name: one.resource_id for name, one in settings.clusters.items()} if brings_events else None,
    )
    identities = [
        ClusterIdentity(name=name, labels=one.labels, resource_id=one.resource_id.lower())
        for name, one in settings.clusters.items()
    ]
    exporters = Exporters(jobs=frozenset(settings.exporters.jobs), addresses=frozenset(settings.exporters.addresses))
    targeting = Targeting(views=views, clusters=identities, exporters=exporters, contacts=contacts)
    hands = Hands(
        store=store,
        clock=clock,
        reader=reader,
        hands=hand,
        catalogue=known,
        switches=switches,
        metrics=metrics,
        limits=limits,
        clouds=clouds,
    )
    storms = Storms(store=store, clock=clock)
    house = House(
        catalogue=known,
        limits=limits,
        routes=settings.policy_of(),
        home=settings.home.cluster or next((name for name, one in settings.clusters.items() if one.in_cluster), ""),
        shadow_channel=SHADOW_CHANNEL if SHADOW_CHANNEL in notifiers else "",
        planning=PlanSettings(
            gitops=settings.limits.gitops, freshness=settings.limits.freshness, own_pod=os.environ.get("RESPONDER_POD", "")
        ),
    )
    moves = Moves(store=store, clock=clock, targeting=targeting)
    worker = Worker(
        WorkerParts(
            store=store,
            clock=clock,
            reader=reader,
            hands=hands,
            pins=pins,
            switches=switches,
            house=house,
            metrics=metrics,
            moves=moves,
            storms=storms,
            contacts=contacts,
        ),
        owner=replica.id,
    )
    outbox = Outbox(
        store=store,
        clock=clock,
        notifiers=notifiers,
        fallbacks={name: one.fallback for name, one in settings.channels.items() if one.fallback},
        pins=pins,
        metrics=metrics,
        base_url=base_url,
        sped_up=settings.clock,
    )
    handing = Handing() if settings.store.kind == "sqlite" else None
    router = Router(
        store=store,
        clock=clock,
        read=read,
        rulebook=rulebook,
        targeting=targeting,
        metrics=metrics,
        entitlements=settings.entitlements(),
        handing=handing,
    )
    foresight = Foresight(
        clock=clock,
        read=read,
        rulebook=rulebook,
        targeting=targeting,
        reader=reader,
        entitlements=settings.entitlements(),
    )
    intake = Intake(
        store=store,
        clock=clock,
        ahead=foresight.look,
        largest=settings.http.largest_body,
        absorb=settings.http.absorb,
        backlog=Backlog(most=settings.http.most_waiting),
        handing=handing,
    )

    supervisor = Supervisor(
        store=store,
        clock=clock,
        router=router,
        worker=worker,
        outbox=outbox,
        observer=Observer(views=views, store=store),
        metrics=metrics,
        replica=replica,
        backlog=intake.backlog,
    )
    silent_after = {name: one.silent_after for name, one in settings.sources.items() if one.silent_after is not None}
    ourselves = SelfWatch(store=store, clock=clock, silent_after=silent_after, metrics=metrics)
    auditor = Auditor(
        store=store, clock=clock, hands=hands, switches=switches, metrics=metrics, keep=settings.retention.retention()
    )
    watchers = {
        "self": Watcher(
            watch=ourselves, store=store, intake=intake, clock=clock, poke=supervisor.delivered, source=SourceKind.RESPONDER
        ),
        **{
            f"watch {name}": Watcher(watch=one, store=store, intake=intake, clock=clock, poke=supervisor.delivered)
            for name, one in watches.items()
        },
    }
    supervisor.beside |= {"auditor": auditor.run, **{name: one.run for name, one in watchers.items()}}
    critical = house.routes.get(Severity.CRITICAL)
    askers = {
        one.name: Asker(source=one, store=store, intake=intake, clock=clock, metrics=metrics, every=every, poke=supervisor.poke)
        for one, every in _askables(settings, session, clock, identity)
    }

    def ask_again() -> None:
        for one in askers.values():
            one.wake()

    supervisor.beside |= {f"ask {name}": one.run for name, one in askers.items()}
    outage = Outage(
        store=store,
        clock=clock,
        notifiers=notifiers,
        channels=critical.levels[0].channels if critical is not None else (),
        name=socket.gethostname(),
        metrics=metrics,
        sped_up=settings.clock,
        back=ask_again,
    )
    supervisor.beside["outage"] = outage.run
    supervisor.beside["foresight"] = foresight.run
    if switch is not None and settings.heartbeat is not None:
        every = settings.heartbeat.every
        pulse = Pulse(switch=switch, clock=clock, every=every, stuck=supervisor.stuck, metrics=metrics)
        supervisor.beside["pulse"] = pulse.run
    supervisor.sources += [
        _source(name, one, intake, clock, metrics, supervisor.delivered, identity)
        for name, one in settings.sources.items()
        if isinstance(one, ServiceBusSettings)
    ]
    store.runner.on_notify = supervisor.poke
    metrics.commits.set_function(lambda: store.runner.commits)
    reporter = Reporter(store=store, pins=pins, clock=clock, base_url=base_url, sped_up=settings.clock)
    explainer = Explainer(sources=SOURCES, rulebook=rulebook, targeting=targeting, judge=router.judge, clock=clock)
    tokens = [token(one.name, one.secret.read().get_secret_value(), one.roles, one.sources) for one in settings.http.tokens]
    if same := shared_secret(tokens):
        raise SettingsError(
            f"http.tokens: {same} have the same secret, so that nobody could say which of them speaks; give each its own"
        )
    undo = Undo(store=store, clock=clock, hands=hands)
    permissions = Permissions(
        clouds=clouds, views=views, rulebook=rulebook, act=settings.act_entries(), catalogue=known, reads=READS
    )
    recognises, signing_keys = _entra(settings, session, clock, supervisor)
    doctor = Doctor(
        DoctorParts(
            store=store,
            clock=clock,
            rulebook=rulebook,
            permissions=permissions,
            notifiers=notifiers,
            stuck=supervisor.stuck,
            silent_after=silent_after,
            watched=settings.heartbeat is not None,
            askers=askers,
            receiving=supervisor.sources,
            signing_keys=signing_keys,
            public_url=base_url,
        )
    )
    api = Api(
        ApiParts(
            store=store,
            clock=clock,
            intake=intake,
            rulebook=rulebook,
            explainer=explainer,
            reporter=reporter,
            authentication=Authentication(tokens, required=settings.http.authentication),
            metrics=metrics,
            poke=supervisor.poke,
            delivered=supervisor.delivered,
            undo=undo.of_incident,
            doctor=doctor,
            doors=_doors(settings, recognises),
            replicas=lambda: supervisor.replicas,
            clusters=frozenset(settings.clusters),
            sped_up=settings.clock,
        )
    )
    server = Server(api.application(), host=settings.http.host, port=settings.http.port, first=api.first)
    return App(
        settings=settings,
        clock=clock,
        store=store,
        rulebook=rulebook,
        intake=intake,
        supervisor=supervisor,
        replica=replica,
        server=server,
        reporter=reporter,
        explainer=explainer,
        views=views,
        metrics=metrics,
        catalogue=known,
        permissions=permissions,
        clouds=clouds,
        reach=reach,
        identity=identity,
    )


async def serve(app: App, *, started: Callable[[], None] | None = None) -> None:
    """Run until the supervisor is told to stop: listen, work, drain, close.

    Args:
        app: Assembled.
        started: Called once it listens.
    """
    if app.replica.id == EMBEDDED:
        await app.store.free_owner(EMBEDDED)
    await app.server.start()
    logger().info(
        "service_started",
        listen=app.url,
        host=socket.gethostname(),
        pid=os.getpid(),
        replica=app.replica.id,
        rules=len(app.rulebook.rules),
        clusters=sorted(app.views),
        authentication=app.settings.http.authentication,
        sped_up=app.settings.clock,
    )
    if started is not None:
        started()
    checks = [
        asyncio.create_task(missing_permissions(app), name="permissions"),
        asyncio.create_task(find_home(app), name="home"),
    ]
    try:
        await app.supervisor.run(drain_within=app.settings.http.drain)
    finally:
        for one in checks:
            one.cancel()
        await asyncio.gather(*checks, return_exceptions=True)
        logger().info("service_stopping")
        await app.server.stop()
        try:
            await app.store.leave(app.replica.id)
        except StoreUnavailableError as error:
            logger().error("store_failed", problem=str(error))  # the leases run out by themselves
        logger().info("service_stopped")


async def missing_permissions(app: App) -> None:
    """Get our tokens, and log every permission that is missing in a cluster or on its ARM resource, with the rungs that need it."""
    if app.identity is not None:
        await app.identity.warm(app.identity.access.scope or ARM_SCOPE, AKS_SCOPE)
    for name in app.views:
        try:
            for one in await app.permissions.missing(name):
                logger().warning("permission_missing", cluster=name, **one.said())
        except (RemoteError, TimeoutError) as error:
            logger().warning("cluster_failed", cluster=name, problem=str(error))
    for name in app.clouds:
        try:
            for lack in await app.permissions.missing_in_cloud(name):
                logger().warning(
                    "permission_missing", cluster=name, verb=lack.action, resource="arm", namespace="", rungs=lack.rungs
                )
        except (RemoteError, TimeoutError) as error:
            logger().warning("cluster_failed", cluster=name, problem=str(error))
