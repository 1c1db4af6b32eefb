"""``responder.yaml`` and the environment: read once, checked whole, then frozen. Every field has its meaning, unit, default and the reason.

Secrets are never inline: ``{file: PATH}`` or ``{env: NAME}``. Shutdown arithmetic: requests under way get 5 s, work in flight gets
``http.drain`` (20 s), closing takes a few more; the chart's grace period is 60 s.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationError,
    model_validator,
)

from responder.http.auth import Role
from responder.model.alert import Severity, SourceKind
from responder.model.errors import RuleError, SettingsError
from responder.model.incident import Level, Mode, Policy
from responder.model.storing import Retention
from responder.policy.entitlement import Entitlement
from responder.policy.guards import Count, Limits
from responder.rules.arming import Act, ActEntry
from responder.rules.durations import parse_duration, parse_rate, parse_share
from responder.rules.matchers import LabelMatchers, Operator, parse_matchers
from responder.rules.overrides import RuleOverride
from responder.rules.parse import parse
from responder.rules.schema import located

_ARM_ID = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ContainerService/managedClusters/[^/]+/?", re.IGNORECASE
)
SHIPPED_RULES = Path(__file__).parent / "_shipped" / "rules"
SOURCE_RULES = Path(__file__).parent.parent / "rules"


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError(f"{value!r} is not a duration; expected for example 90s, 5m or 1h30m")


def _count(value: Any) -> Any:
    if isinstance(value, Count):
        return value
    rate = parse_rate(str(value))
    return Count(count=rate.count, window=rate.within)


def _share(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value <= 1:
        raise ValueError(f"{value} is not a share; expected for example 30%, or 0.3")
    return parse_share(value) if isinstance(value, str) else value


def _matchers(value: Any) -> Any:
    if isinstance(value, LabelMatchers):
        return value
    if not isinstance(value, list) or not value:
        raise ValueError("expected a list of matchers, such as ['cluster=\"aks-prod\"']")
    return parse_matchers([str(one) for one in value])


Duration = Annotated[timedelta, BeforeValidator(_duration)]
RateCount = Annotated[Any, BeforeValidator(_count)]
Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
Matchers = Annotated[Any, BeforeValidator(_matchers)]


def _guid(value: Any) -> Any:
    said = str(value).strip().lower()
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", said) is None:
        raise ValueError(f"{value!r} is no GUID; expected for example 00000000-0000-0000-0000-000000000000")
    return said


def _topic(value: Any) -> Any:
    said = str(value).strip().rstrip("/").lower()
    if re.fullmatch(r"/subscriptions/[^/\s]+(/[^/\s]+)*", said) is None:
        raise ValueError(f"{value!r} is no ARM id; expected /subscriptions/ID, or a topic's or cluster's id below it")
    return said


Guid = Annotated[str, BeforeValidator(_guid)]
Topic = Annotated[str, BeforeValidator(_topic)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class SecretRef(_Model):
    """Where a secret is read from: a file (trailing newline dropped) or an environment variable; exactly one."""

    file: str = ""
    env: str = ""

    @model_validator(mode="before")
    @classmethod
    def _inline(cls, given: Any) -> Any:
        if not isinstance(given, (dict, SecretRef)):  # what was given is not repeated: it may be the secret
            raise ValueError("expected {file: PATH} or {env: NAME}; secrets are never written inline")  # noqa: TRY004 - pydantic collects ValueErrors
        return given

    @model_validator(mode="after")
    def _one(self) -> SecretRef:
        if bool(self.file) == bool(self.env):
            raise ValueError("name exactly one of file and env; secrets are never written inline")
        return self

    def read(self) -> SecretStr:
        """Return the secret.

        Raises:
            SettingsError: It is not there, or empty; names where, never what.
        """
        if self.env:
            found, where = os.environ.get(self.env, ""), f"environment variable {self.env}"
        else:
            where = f"file {self.file}"
            try:
                found = Path(self.file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"{where} cannot be read: {error}; mount the secret or correct the path") from error
        if not found:
            raise SettingsError(f"{where} is empty or not set; it must hold a secret")
        return SecretStr(found)


class TokenSettings(_Model):
    """A bearer token: names a person or a sender. ``sources`` limits a sender to these source names; empty for any."""

    name: str
    roles: tuple[Role, ...] = Field(min_length=1)
    secret: SecretRef
    sources: tuple[str, ...] = ()


class EntraSettings(_Model):
    """Who signs the tokens of Azure Monitor's secure webhook and of Event Grid: our Entra tenant. Sources say who may call (``sources.<name>.entra``).

    Attributes:
        tenant: The tenant's GUID; only its tokens are taken.
        audiences: What a token may be for: the client id of the application registered for this installation, and its id URI (``api://…``). Tokens of
            version 2 name the client id, those of version 1 either.
        authority: Other clouds have other ones (``https://login.microsoftonline.us``, ``https://login.partner.microsoftonline.cn``).
        issuer_v1, issuer_v2: The issuers; follow from tenant and authority where they are those of the public cloud.
        leeway: How far clocks may be apart; at most 5 min.
        ca_file: A CA bundle for the authority, where a proxy opens TLS.
    """

    tenant: Guid
    audiences: tuple[str, ...] = Field(min_length=1)
    authority: str = "https://login.microsoftonline.com"
    issuer_v1: str = ""
    issuer_v2: str = ""
    leeway: Duration = timedelta(seconds=60)
    ca_file: str = ""

    @model_validator(mode="after")
    def _sound(self) -> EntraSettings:
        if not is_private_or_tls(self.authority):
            raise ValueError(f"authority {self.authority!r}: expected https://host; keys fetched without TLS could be anybody's")
        if not timedelta(0) <= self.leeway <= timedelta(minutes=5):
            raise ValueError(f"leeway {self.leeway}: at most 5m; look after NTP instead")
        return self

    @property
    def issuers(self) -> tuple[str, str]:
        """Return the issuers of tokens of version 1.0 and of version 2.0."""
        first = self.issuer_v1 or f"https://sts.windows.net/{self.tenant}/"
        return first, self.issuer_v2 or f"{self.authority.rstrip('/')}/{self.tenant}/v2.0"


def is_private_or_tls(url: str) -> bool:
    """Tell whether nobody on the way can change what is read there: https, or this very machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"})
    )


class HttpSettings(_Model):
    """The listener.

    Attributes:
        listen: Address and port.
        public_url: How people reach it; pages link there. Empty leaves links out.
        authentication: False lets everybody do everything; only for a loopback demonstration.
        largest_body: Bytes; Azure Monitor sends 256 KB at most, Alertmanager more in a storm.
        most_waiting: Deliveries that may wait to be routed; beyond it senders get 503 with Retry-After until it is worked off.
        absorb: A sender's retry of its newest body within the same span of this length is taken as a retry and not as a repeat.
        drain: What is in flight at shutdown gets this long.
        entra: Whose tokens are taken by sources with ``entra``.
    """

    listen: str = "127.0.0.1:8080"
    public_url: str = ""
    authentication: bool = True
    tokens: tuple[TokenSettings, ...] = ()
    largest_body: int = Field(default=1 << 20, ge=1024, le=64 << 20)
    most_waiting: int = Field(default=20_000, ge=1)
    absorb: Duration = timedelta(minutes=10)
    drain: Duration = timedelta(seconds=20)
    entra: EntraSettings | None = None

    @property
    def host(self) -> str:
        """Return the host part of ``listen``."""
        return self.listen.rsplit(":", 1)[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the port part of ``listen``."""
        return int(self.listen.rsplit(":", 1)[1])

    @model_validator(mode="after")
    def _sound(self) -> HttpSettings:
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"listen {self.listen!r}: expected host:port, such as 0.0.0.0:8080")
        if self.authentication and not self.tokens and self.entra is None:
            raise ValueError("no tokens: name at least one under http.tokens, or nobody can send or look")
        return self


class StoreSettings(_Model):
    """Where everything is kept: SQLite (one process) or PostgreSQL (any number of replicas).

    Attributes:
        kind: sqlite or postgresql; follows from ``url`` when left out.
        path: SQLite's file, on a local block disk: never NFS, SMB or Azure Files.
        url: Where PostgreSQL's URL is read from, for it holds a password: ``postgresql://user:password@host/database?sslmode=verify-full``
            as libpq knows it. Directly or through a pooler in session mode. The user owns its schema: every start brings it up to date.
        pool: Most connections for operations, of each replica; one more listens. 8 keeps two cores busy.
    """

    kind: Literal["sqlite", "postgresql"] = "sqlite"
    path: str = "responder.sqlite"
    url: SecretRef | None = None
    pool: int = Field(default=8, ge=2, le=64)

    @model_validator(mode="before")
    @classmethod
    def _kind_of_url(cls, given: Any) -> Any:
        return {"kind": "postgresql", **given} if isinstance(given, dict) and given.get("url") else given

    @model_validator(mode="after")
    def _one(self) -> StoreSettings:
        if self.kind == "postgresql" and self.url is None:
            raise ValueError("kind postgresql needs url: {file: PATH} or {env: NAME}")
        if self.kind == "postgresql" and "path" in self.model_fields_set:
            raise ValueError("path is SQLite's and url PostgreSQL's; give one of them")
        if self.kind == "sqlite" and self.url is not None:
            raise ValueError("url is PostgreSQL's; leave kind out or say postgresql")
        return self


class AzureSettings(_Model):
    """How Azure is reached, with one identity for everything. Without this section ARM is asked nothing, and ``resource_id`` only names clusters.

    Attributes:
        credential: ``workload_identity`` on AKS; ``managed_identity`` on a virtual machine or container app; ``environment`` (a client secret or
            certificate in AZURE_… variables); ``cli`` (az login) and ``default`` (whatever azure-identity finds, slowly) for a workstation.
        client_id, tenant_id: Of the identity, where the environment does not say (on AKS it does). ``client_id`` also tells our own
            operations from others' in the activity log.
        token_file: The projected service account token, where the environment does not say.
        authority, endpoint, scope: Of Entra and ARM, in sovereign clouds: such as ``https://login.microsoftonline.us``,
            ``https://management.usgovcloudapi.net`` and ``https://management.usgovcloudapi.net/.default``.
        ca_file: A CA bundle to trust instead of the public ones, where a proxy opens TLS.
    """

    credential: Literal["workload_identity", "managed_identity", "environment", "cli", "default"] = "workload_identity"
    client_id: str = ""
    tenant_id: str = ""
    token_file: str = ""
    authority: str = ""
    endpoint: str = ""
    scope: str = ""
    ca_file: str = ""


class HomeSettings(_Model):
    """Where this program itself runs.

    Attributes:
        cluster: The configured name of the cluster that hosts it: rungs that reach it as a cluster are refused (``own_cluster``).
        region: Its cloud region.
        probe: An address out there that answers when our own network is well; any HTTP answer will do. It is asked only while a cluster does not
            answer: silence of both is our own trouble.
    """

    cluster: str = ""
    region: str = ""
    probe: str = "https://management.azure.com/"


class ComponentSettings(_Model):
    """One component of what runs here, for recovery goals and for ``components.green``.

    Attributes:
        where: Conditions over kind, cluster, namespace, name; ``components.green`` needs ``namespace="…"`` and ``name="…"``.
        rto, rpo: How long it may be down, and how much may be lost.
        check: What proves it: ``workload.available`` or, with ``kind="service"``, ``service.endpoints``; one with arguments as a mapping.
    """

    where: Matchers
    rto: Duration | None = None
    rpo: Duration | None = None
    check: str | dict[str, dict[str, Any]] = "workload.available"

    def equal(self, label: str) -> str:
        """Return the value that ``where`` demands of a label exactly; "" when it does not."""
        return next((one.value for one in self.where.matchers if one.name == label and one.operator is Operator.EQUAL), "")


class ClusterSettings(_Model):
    """One cluster.

    Attributes:
        in_cluster: It is the one this runs in; else ``kubeconfig`` (empty: the default one) with an optional ``context``; else, with ``azure:`` and a
            ``resource_id``, its address comes from ARM and the token from Entra, without any kubeconfig.
        labels: Conditions over an alert's labels that name this cluster.
        resource_id: Its ARM id, by which alerts name it; with ``azure:`` also what ARM is asked about it, and acts on.
        mode: Most that may be done there: off, shadow or armed.
        watch: Follow it by watches of our own, which need no Prometheus: restart loops, containers that cannot start, pending pods, nodes not ready
            or under pressure, services without a ready endpoint, failed Jobs, evictions, an API server that does not answer become alerts of the
            source ``kubernetes`` with kubernetes-mixin's names.
    """

    in_cluster: bool = False
    kubeconfig: str = ""
    context: str = ""
    labels: Matchers = None
    resource_id: str = ""
    mode: Mode = Mode.ARMED
    watch: bool = False


class LimitSettings(_Model):
    """Limits asked again at every disruptive rung; a rule may only tighten them. Source of defaults: RULES.md "Limits".

    Attributes:
        maintenance_windows: Whether rungs of grade 4 and 5 on AKS wait while a maintenance window of the cluster is open. False for a cluster whose windows
            are so wide that they say nothing.
        scope: What may be touched at all: a list of alternatives, each a list of conditions over kind, cluster, namespace, name and, of nodes and pools,
            pool: ``[['namespace="shop"'], ['pool="batch"']]``. A pool that a rung changes must be named too, whoever's incident it is.
    """

    group_wait: Duration = timedelta(seconds=30)
    max_actions: RateCount = Field(default_factory=lambda: Count(count=3, window=timedelta(hours=1)))
    in_flight: int = Field(default=1, ge=0)
    same_symptom: RateCount = Field(default_factory=lambda: Count(count=5, window=timedelta(minutes=5)))
    unhealthy_nodes: Share = 0.3
    keep_ready: int = Field(default=1, ge=0)
    gitops: tuple[str, ...] = ("argocd", "flux")
    maintenance_windows: bool = True
    scope: tuple[Matchers, ...] | None = None
    freshness: Duration = timedelta(hours=24)

    def limits(self) -> Limits:
        """Return them as the core's value."""
        return Limits(
            group_wait=self.group_wait,
            max_actions=self.max_actions,
            in_flight=self.in_flight,
            same_symptom=self.same_symptom,
            unhealthy_nodes=self.unhealthy_nodes,
            keep_ready=self.keep_ready,
            gitops=self.gitops,
            maintenance_windows=self.maintenance_windows,
            scope=self.scope,
        )


class ChannelSettings(_Model):
    """One channel. ``url`` of teams and webhook is a secret; of pagerduty it is the service region's, in ``endpoint``."""

    kind: Literal["pagerduty", "teams", "webhook"]
    routing_key: SecretRef | None = None
    url: SecretRef | None = None
    token: SecretRef | None = None
    hmac_key: SecretRef | None = None
    endpoint: str = ""
    fallback: str = ""

    @model_validator(mode="after")
    def _whole(self) -> ChannelSettings:
        needed = "routing_key" if self.kind == "pagerduty" else "url"
        if getattr(self, needed) is None:
            raise ValueError(f"kind {self.kind} needs {needed}: {{file: PATH}} or {{env: NAME}}")
        return self

    def given(self) -> dict[str, str]:
        """Return what ``notifiers.build`` takes, secrets read."""
        refs = {"routing_key": self.routing_key, "url": self.url, "token": self.token, "hmac_key": self.hmac_key}
        found = {name: ref.read().get_secret_value() for name, ref in refs.items() if ref is not None}
        if self.kind == "pagerduty" and self.endpoint:
            found["url"] = self.endpoint
        return found


class LevelSettings(_Model):
    """A level: so long after the first page, these channels at once."""

    after: Duration = timedelta(0)
    channels: tuple[str, ...] = Field(min_length=1)


class PolicySettings(_Model):
    """Who is told, in what order, after how long; ``report`` is told how it ended."""

    levels: tuple[LevelSettings, ...] = Field(min_length=1)
    report: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _rising(self) -> PolicySettings:
        times = [one.after for one in self.levels]
        if times != sorted(times):
            raise ValueError("levels must come in order of their time (after)")
        return self


class ExporterSettings(_Model):
    """Exporters whose own labels are dropped from alerts: by ``job`` or by pod address."""

    jobs: tuple[str, ...] = ("kube-state-metrics", "node-exporter", "prometheus-node-exporter")
    addresses: tuple[str, ...] = ()


class _SenderSettings(_Model):
    """What is expected of any sender.

    Attributes:
        silent_after: When nothing came from it for this long, that is an alert of our own (``SourceSilent``, source ``responder``). Give it to senders that
            are always heard, such as one with Prometheus' Watchdog alert; None for senders that may be silent.
    """

    silent_after: Duration | None = None


class SourceSettings(_SenderSettings):
    """A sender that calls us, by the name in its path (``/v1/alerts/alertmanager/NAME``); of any format that calls."""

    kind: Literal["webhook"] = "webhook"


class _AzureSenderSettings(_SenderSettings):
    """What is expected of a sender whose alerts name Azure subscriptions.

    Attributes:
        subscriptions: Ids (GUIDs) of the subscriptions it may speak for; empty for any. An alert that names another one, or none, is kept and listed
            (``why=not_entitled``) and never acted on. Why: a token proves only that some action group of the tenant sent it.
    """

    subscriptions: tuple[Guid, ...] = ()


class EntraCallerSettings(_Model):
    """Who may call a source with tokens that Entra ID signed; with it no other token is taken there.

    Attributes:
        apps: Client ids of the calling applications. Default by kind: ``AZNS_APP`` of Azure Monitor, ``EVENT_GRID_APP``.
        roles: The token must have one of them. Default by kind: the role that the vendor's set-up gives to that application.
    """

    apps: tuple[Guid, ...] = ()
    roles: tuple[str, ...] = ()


AZNS_APP = "461e8683-5575-4561-ac7f-899cc907d62a"
"""AzNS AAD Webhook, which calls secure webhooks of action groups in every tenant. Source: protocols.md 1.7."""

EVENT_GRID_APP = "4962773b-9cdb-44cf-a8bf-237846a00ab7"
"""Microsoft.EventGrid in the public cloud. Source: Event Grid's documentation of secure webhook delivery."""

AZNS_ROLE, EVENT_GRID_ROLE = "ActionGroupsSecureWebhook", "AzureEventGridSecureWebhookSubscriber"


def _urls(value: Any) -> Any:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not given or not all(urlsplit(str(one)).hostname for one in given):
        raise ValueError(f"{value!r}: expected an address such as http://alertmanager.monitoring:9093, or a list of them")
    return tuple(str(one) for one in given)


class _AskSettings(_Model):
    """How a sender is asked what holds now: at start, after an outage of our own, and ``every`` so long.

    Attributes:
        every: Between two times. Why 5 min: a Resolved that was lost holds an incident open for so long at most.
        ca_file: A CA bundle for it; the public ones otherwise.
    """

    every: Duration = timedelta(minutes=5)
    ca_file: str = ""


class AskAlertmanagerSettings(_AskSettings):
    """An Alertmanager, or every member of its cluster, asked by its API v2.

    Attributes:
        url: Address, or the list of all members' addresses, without ``/api/v2``. In a cluster name all: an alert that one member has holds.
        receivers: Names of all its receivers that post to us as this source. Alerts that are routed elsewhere are not taken in.
        filters: Only alerts with these labels are asked for, such as ``['cluster="aks-prod"']``; the rest is left alone.
        token: Where it wants one (bearer).
        settled_after: So long after it was started an Alertmanager may lack alerts that fire; until then nothing is concluded from what it lacks.
    """

    url: Annotated[tuple[str, ...], BeforeValidator(_urls)]
    receivers: tuple[str, ...] = Field(min_length=1)
    filters: tuple[str, ...] = ()
    token: SecretRef | None = None
    settled_after: Duration = timedelta(minutes=10)

    @model_validator(mode="after")
    def _sound(self) -> AskAlertmanagerSettings:
        if self.filters:
            parse_matchers(list(self.filters))
        return self


class AskAzureSettings(_AskSettings):
    """Azure's list of alerts, asked with our identity (``azure:``), which needs the role Monitoring Reader.

    Attributes:
        subscriptions: Whose alerts; those the source may speak for when left out.
        only: Only alerts with these labels are taken in as new. Azure lists the alerts of every rule, also of those that no action group sends to us.
        look_back: Only alerts that fired within this time are taken in as new: many rules leave theirs fired for weeks. At most 30 days.
    """

    subscriptions: tuple[Guid, ...] = ()
    only: Matchers = None
    look_back: Duration = timedelta(days=1)

    @model_validator(mode="after")
    def _sound(self) -> AskAzureSettings:
        if not timedelta(0) < self.look_back <= timedelta(days=30):
            raise ValueError("look_back: Azure keeps alerts for 30 days")
        return self


class AlertmanagerSettings(_SenderSettings):
    """An Alertmanager that calls ``POST /v1/alerts/alertmanager/NAME``.

    Attributes:
        ask: Where it is asked what holds now; None for not at all.
    """

    kind: Literal["alertmanager"]
    ask: AskAlertmanagerSettings | None = None


class AzureMonitorSettings(_AzureSenderSettings):
    """Action groups that call ``POST /v1/alerts/azure-monitor/NAME``.

    Attributes:
        entra: They are secure webhooks; ``{}`` takes the defaults.
        ask: How Azure is asked what holds now; ``{}`` takes the defaults, None is not at all.
    """

    kind: Literal["azure_monitor"]
    entra: EntraCallerSettings | None = None
    ask: AskAzureSettings | None = None

    @model_validator(mode="after")
    def _asked(self) -> AzureMonitorSettings:
        if self.ask is not None and not self.ask.subscriptions and not self.subscriptions:
            raise ValueError("ask: name the subscriptions whose alerts are listed, here or in ask.subscriptions")
        return self

    def callers(self) -> EntraCallerSettings:
        """Return who may call, defaults filled in."""
        given = self.entra or EntraCallerSettings()
        return EntraCallerSettings(apps=given.apps or (AZNS_APP,), roles=given.roles or (AZNS_ROLE,))


class EventGridSettings(_AzureSenderSettings):
    """Event subscriptions that call ``POST /v1/alerts/event-grid/NAME``; a name without an entry is not served, and no handshake is answered for it.

    Attributes:
        topics: ARM ids of what events may come from: a topic, a cluster, or everything below a subscription (``/subscriptions/ID``). A handshake for
            another topic is refused; an event of another topic is kept and listed (``why=not_entitled``) and never acted on. Why: who knows the URL
            could attach subscriptions of their own.
        origins: Who may ask for permission to send CloudEvents. Other clouds have other names (``eventgrid.azure.us``, ``eventgrid.azure.cn``).
        entra: They bear tokens of Entra ID; ``{}`` takes the defaults.
    """

    kind: Literal["event_grid"] = "event_grid"
    topics: tuple[Topic, ...] = Field(min_length=1)
    origins: tuple[str, ...] = ("eventgrid.azure.net",)
    entra: EntraCallerSettings | None = None

    def callers(self) -> EntraCallerSettings:
        """Return who may call, defaults filled in."""
        given = self.entra or EntraCallerSettings()
        return EntraCallerSettings(apps=given.apps or (EVENT_GRID_APP,), roles=given.roles or (EVENT_GRID_ROLE,))


class HeartbeatSettings(_Model):
    """The dead man's switch: an outside service that is told while we are well, and misses us when we are not.

    Attributes:
        url: Where to POST; holds a secret.
        every: Between two beats; the outside service should wait for three.
    """

    url: SecretRef
    every: Duration = timedelta(minutes=1)


class RetentionSettings(_Model):
    """How long what is kept. Source of defaults: ARCHITECTURE.md "Bounds"; what belongs to an unclosed incident is never forgotten.

    Attributes:
        deliveries, alerts, evidence: Since they came.
        incidents: Since they closed, with their timelines.
        evidence_bytes: Most evidence in all; the longest closed incidents' goes first.
    """

    deliveries: Duration = timedelta(days=30)
    alerts: Duration = timedelta(days=30)
    evidence: Duration = timedelta(days=30)
    incidents: Duration = timedelta(days=400)
    evidence_bytes: int = Field(default=2 << 30, ge=1 << 20)

    def retention(self) -> Retention:
        """Return it as the store takes it."""
        return Retention(
            deliveries=self.deliveries,
            alerts=self.alerts,
            evidence=self.evidence,
            incidents=self.incidents,
            evidence_bytes=self.evidence_bytes,
        )


class ServiceBusSettings(_AzureSenderSettings):
    """A queue, or a topic's subscription, of Azure Service Bus that alerts and events are received from. Sessions are not supported.

    Attributes:
        namespace: Such as ``contoso.servicebus.windows.net``, reached with our Entra identity; or else ``connection_string``.
        connection_string: Read from a file or the environment; needs the right Listen, and Send to resubmit dead letters.
        queue: Its name; or else ``topic`` and ``subscription``.
        credential: How the identity is found: ``workload_identity`` on AKS, asking nothing else; ``default`` tries what azure-identity knows. With
            ``azure:`` and neither this nor ``client_id`` it is that one identity.
        client_id: The identity's client id, where the environment does not say.
        transport: ``amqp`` (port 5671) or ``websockets`` (port 443, where a firewall lets nothing else out).
        endpoint: ``sb://host:port`` to connect to instead of the namespace, such as a gateway or private endpoint.
        ca_file: A CA bundle for it; the public ones otherwise. SSL_CERT_FILE has no effect here.
        in_flight: Messages held at once by each receiver.
        receivers: Connections at once; each settles about 200 messages a second.
        poison_after: A message delivered this often is dead-lettered by us, with a reason; below the entity's own limit (Azure's default: 10).
    """

    kind: Literal["service_bus"] = "service_bus"
    namespace: str = ""
    connection_string: SecretRef | None = None
    queue: str = ""
    topic: str = ""
    subscription: str = ""
    credential: Literal["default", "workload_identity"] = "default"
    client_id: str = ""
    transport: Literal["amqp", "websockets"] = "amqp"
    endpoint: str = ""
    ca_file: str = ""
    in_flight: int = Field(default=50, ge=1, le=500)
    receivers: int = Field(default=1, ge=1, le=16)
    poison_after: int = Field(default=8, ge=1, le=2000)

    @model_validator(mode="after")
    def _one(self) -> ServiceBusSettings:
        if bool(self.namespace) == (self.connection_string is not None):
            raise ValueError(
                "name exactly one of namespace (with our identity) and connection_string: {file: PATH} or {env: NAME}"
            )
        if bool(self.queue) == bool(self.topic) or bool(self.topic) != bool(self.subscription):
            raise ValueError("name a queue, or a topic and its subscription")
        return self


def _kind(given: Any) -> str:
    if not isinstance(given, dict):
        return str(getattr(given, "kind", "webhook"))
    if given.get("kind"):
        return str(given["kind"])
    keys = set(given)
    return (
        "service_bus"
        if {"queue", "topic", "namespace", "connection_string"} & keys
        else "event_grid"
        if "topics" in keys
        else "webhook"
    )


AnySource = Annotated[
    Annotated[SourceSettings, Tag("webhook")]
    | Annotated[AlertmanagerSettings, Tag("alertmanager")]
    | Annotated[AzureMonitorSettings, Tag("azure_monitor")]
    | Annotated[EventGridSettings, Tag("event_grid")]
    | Annotated[ServiceBusSettings, Tag("service_bus")],
    Discriminator(_kind),
]

FORMATS: Mapping[str, SourceKind] = {
    "alertmanager": SourceKind.ALERTMANAGER,
    "azure_monitor": SourceKind.AZURE_MONITOR,
    "event_grid": SourceKind.EVENT_GRID,
}
"""Kinds of sources that call us in one format only, and its word in their path."""


class Settings(_Model):
    """``responder.yaml``.

    Attributes:
        act: What is armed; everything else is in shadow.
        rules: Overrides by rule name: owner, runbook, severity, page, params.
        rule_paths: Files or folders of rules, beside the shipped ones.
        shipped_rules: Load the rules that come with the program.
        routes: Severity to policy; all four, or ``default``.
        sources: By name: what is expected of senders that call us (kinds ``webhook``, ``alertmanager`` and ``azure_monitor`` need no entry, ``event_grid``
            does), and where we receive from ourselves.
        azure: How Azure is reached; leave it out where there is none.
        home: Where this program itself runs.
        components: What runs here, by name, with its recovery goals.
        clock: Speed of the clock, for demonstrations; 1 is real time.
    """

    act: tuple[Act, ...] = ()
    rules: dict[str, RuleOverride] = Field(default_factory=dict)
    rule_paths: tuple[str, ...] = ()
    shipped_rules: bool = True
    limits: LimitSettings = Field(default_factory=LimitSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    http: HttpSettings
    azure: AzureSettings | None = None
    home: HomeSettings = Field(default_factory=HomeSettings)
    components: dict[str, ComponentSettings] = Field(default_factory=dict)
    clusters: dict[str, ClusterSettings] = Field(default_factory=dict)
    channels: dict[str, ChannelSettings] = Field(default_factory=dict)
    policies: dict[str, PolicySettings] = Field(default_factory=dict)
    routes: dict[str, str] = Field(default_factory=dict)
    exporters: ExporterSettings = Field(default_factory=ExporterSettings)
    sources: dict[str, AnySource] = Field(default_factory=dict)
    heartbeat: HeartbeatSettings | None = None
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    clock: float = Field(default=1.0, gt=0, le=1000)

    @model_validator(mode="after")
    def _joined(self) -> Settings:
        known = {*map(str, Severity), "default"}
        for severity, policy in self.routes.items():
            if severity not in known:
                raise ValueError(f"routes.{severity}: no such severity; use {', '.join(sorted(known))}")
            if policy not in self.policies:
                raise ValueError(
                    f"routes.{severity}: there is no policy {policy}; policies has {', '.join(self.policies) or 'none'}"
                )
        if self.routes and "default" not in self.routes and not set(map(str, Severity)) <= set(self.routes):
            missing = ", ".join(sorted(set(map(str, Severity)) - set(self.routes)))
            raise ValueError(f"routes: {missing} has no route; name all four severities, or default")
        if self.clock != 1.0 and self.store.kind == "postgresql":
            raise ValueError("clock: PostgreSQL's time is its own; a clock that is sped up needs SQLite")
        if self.act and not self.routes:
            raise ValueError("act arms rules but routes is empty: nobody would be told when a ladder is exhausted")
        for name, chosen in self.policies.items():
            for channel in (*chosen.report, *(one for level in chosen.levels for one in level.channels)):
                if channel not in self.channels:
                    raise ValueError(
                        f"policies.{name}: there is no channel {channel}; channels has {', '.join(self.channels) or 'none'}"
                    )
        for name, source in self.sources.items():
            if (
                isinstance(source, (AzureMonitorSettings, EventGridSettings))
                and source.entra is not None
                and self.http.entra is None
            ):
                raise ValueError(
                    f"sources.{name}.entra needs http.entra: {{tenant: …, audiences: […]}}, which says whose tokens are taken"
                )
            if isinstance(source, AzureMonitorSettings) and source.ask is not None and self.azure is None:
                raise ValueError(f"sources.{name}.ask needs azure: {{credential: …}}, the identity that Azure is asked with")
        if self.home.cluster and self.home.cluster not in self.clusters:
            raise ValueError(
                f"home.cluster: there is no cluster {self.home.cluster}; clusters has {', '.join(self.clusters) or 'none'}"
            )
        for name, cluster in self.clusters.items():
            if self.azure is not None and cluster.resource_id and not _ARM_ID.fullmatch(cluster.resource_id):
                raise ValueError(
                    f"clusters.{name}.resource_id: not the id of an AKS cluster; expected "
                    "/subscriptions/…/resourceGroups/…/providers/Microsoft.ContainerService/managedClusters/…"
                )
        for name, component in self.components.items():
            if not (component.equal("namespace") and component.equal("name")):
                raise ValueError(f'components.{name}.where: name one thing: namespace="…" and name="…"')
        for name, one in self.channels.items():
            if one.fallback and one.fallback not in self.channels:
                raise ValueError(f"channels.{name}.fallback: there is no channel {one.fallback}")
        return self

    def paths(self) -> tuple[Path, ...]:
        """Return where rules are loaded from."""
        shipped = SHIPPED_RULES if SHIPPED_RULES.is_dir() else SOURCE_RULES
        return (*((shipped,) if self.shipped_rules else ()), *map(Path, self.rule_paths))

    def policy_of(self) -> dict[Severity, Policy]:
        """Return the policy of each severity that has one."""
        found: dict[Severity, Policy] = {}
        for severity in Severity:
            name = self.routes.get(str(severity)) or self.routes.get("default")
            if name is not None:
                policy = self.policies[name]
                levels = tuple(Level(after=one.after, channels=one.channels) for one in policy.levels)
                found[severity] = Policy(name=name, levels=levels, report=policy.report)
        return found

    def entitlements(self) -> dict[str, Entitlement]:
        """Return for what each source that is bound may speak."""
        found: dict[str, Entitlement] = {}
        for name, one in self.sources.items():
            subscriptions = one.subscriptions if isinstance(one, _AzureSenderSettings) else ()
            topics = one.topics if isinstance(one, EventGridSettings) else ()
            if subscriptions or topics:
                found[name] = Entitlement(subscriptions=frozenset(subscriptions), topics=topics)
        return found

    def act_entries(self) -> tuple[ActEntry, ...]:
        """Return what is armed."""
        return tuple(self.act)


def load_settings(path: Path) -> Settings:
    """Read and check the configuration.

    Raises:
        SettingsError: It cannot be read or used; names every problem as ``file:line:column: key: what, what was expected``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}; give --config FILE or set RESPONDER_CONFIG") from error
    try:
        parsed = parse(text, file=str(path))
    except RuleError as error:
        raise SettingsError(str(error)) from error
    if parsed.data is None or not isinstance(parsed.data, dict):
        raise SettingsError(f"{path}:1:1: expected a mapping with the keys {', '.join(Settings.model_fields)}")
    try:
        return Settings.model_validate(parsed.data)
    except ValidationError as error:
        raise SettingsError("\n".join(str(one) for one in located(error, parsed, Settings).values())) from error


def unknown_rules(settings: Settings, known: Collection[str]) -> str:
    """Say which rules ``act:`` arms that do not exist; "" when all do."""
    unknown = sorted({entry.rule for entry in settings.act} - set(known))
    return f"act: there is no rule {', '.join(unknown)}; known are {', '.join(sorted(known))}" if unknown else ""


def armed_nowhere(settings: Settings) -> tuple[str, ...]:
    """Say which entries of ``act:`` name a cluster that is not configured, so that they arm nothing here."""
    return tuple(
        f"act: {entry} arms nothing: there is no cluster {matcher.value}; clusters has {', '.join(settings.clusters) or 'none'}"
        for entry in settings.act
        for matcher in (entry.where.matchers if entry.where is not None else ())
        if matcher.name == "cluster" and matcher.operator is Operator.EQUAL and matcher.value not in settings.clusters
    )


def masked(settings: Settings) -> Mapping[str, Any]:
    """Return the effective settings for people; secrets are only named by where they come from."""
    return settings.model_dump(mode="json", exclude={"act"}, fallback=str) | {"act": [str(one) for one in settings.act]}
