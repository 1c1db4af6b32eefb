"""The az commands that set an installation up in Azure, with its own names filled in. Pure: it reads settings and runs nothing.

Each step can be run again; none prints a secret. What the configuration does not say becomes a shell variable that stops the script with what to name.

The decision a reader would question: commands and not a Bicep template. Half of it is Entra ID (application, role, assignment), which ARM does not do,
and whoever may do the one often may not do the other: steps can be handed to different people.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from responder.policy import maintenance
from responder.settings import (
    AZNS_APP,
    AZNS_ROLE,
    EVENT_GRID_APP,
    EVENT_GRID_ROLE,
    AzureMonitorSettings,
    EventGridSettings,
    ServiceBusSettings,
    Settings,
)

AKS_TYPES = (
    *(one for one in maintenance.EVENT_TYPES if one.startswith(maintenance.ROLLING)),
    "Microsoft.ContainerService.ClusterSupportEnding",
    "Microsoft.ContainerService.ClusterSupportEnded",
)
GRAPH = "https://graph.microsoft.com/v1.0"
EXCHANGE = "api://AzureADTokenExchange"
_CLUSTER = re.compile(
    r"/subscriptions/([^/]+)/resourcegroups/([^/]+)/providers/microsoft\.containerservice/managedclusters/([^/]+)$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to set up: a heading, why, and commands for bash in order."""

    title: str
    why: str
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """All steps, and what the configuration does not say, as variable and sentence."""

    steps: tuple[Step, ...]
    missing: tuple[tuple[str, str], ...]

    def script(self) -> str:
        """Return it as a bash script that people read before they run it."""
        lines = [
            "#!/usr/bin/env bash",
            "# Made by: responder azure setup-guide. Read it; run it step by step, signed in by az login.",
            "set -euo pipefail",
            "",
        ]
        for number, step in enumerate(self.steps, 1):
            lines += [f"# --- {number}. {step.title}", *(f"# {one}" for one in _wrapped(step.why)), *step.commands, ""]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleNeed:
    """A role that our identity needs for a cluster.

    Attributes:
        file: Of the chart's ``files/azure``, without ``.json``.
        name: The role's.
        rungs: Who needs it, for people.
    """

    file: str
    name: str
    rungs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster by its ARM id."""

    name: str
    id: str

    @property
    def parts(self) -> tuple[str, str, str]:
        """Return subscription, resource group and name."""
        found = _CLUSTER.search(self.id)
        return (found[1], found[2], found[3]) if found else ("", "", "")


class _Writer:
    """Collects steps, and what is missing."""

    def __init__(self, settings: Settings, *, release: str, namespace: str, roles: Mapping[str, Sequence[RoleNeed]]) -> None:
        self.settings = settings
        self.roles = roles
        self.release = release
        self.namespace = namespace
        self.clusters = [
            Cluster(name=name, id=one.resource_id) for name, one in settings.clusters.items() if _CLUSTER.search(one.resource_id)
        ]
        self.missing: list[tuple[str, str]] = []
        self.steps: list[Step] = []
        parts = urlsplit(settings.http.public_url)
        self.base = settings.http.public_url.rstrip("/") if parts.hostname else "$PUBLIC_URL"

    def step(self, title: str, why: str, commands: Sequence[str]) -> None:
        self.steps.append(Step(title=_comment(title), why=_comment(why), commands=tuple(commands)))

    def value(self, variable: str, value: str, what: str) -> str:
        """Return the line that sets a variable: to what is configured, else to what the environment says, which it asks for."""
        if value:
            return f"{variable}={shlex.quote(value)}"
        self.missing.append((variable, what))
        return f': "${{{variable}:?{_plain(what)}}}"'

    @property
    def home(self) -> Cluster | None:
        """Return the cluster that this runs in, as far as the configuration says."""
        named = self.settings.home.cluster
        inside = {name for name, one in self.settings.clusters.items() if one.in_cluster}
        for one in self.clusters:
            if one.name == named or (not named and one.name in inside):
                return one
        return self.clusters[0] if len(self.clusters) == 1 and not named else None


def guide(settings: Settings, *, release: str, namespace: str, roles: Mapping[str, Sequence[RoleNeed]]) -> Guide:
    """Return the steps for an installation.

    Args:
        settings: Checked.
        release: The helm release: the service account's and the identity's name.
        namespace: Its namespace.
        roles: By the configured name of a cluster: what is read of it, and what its armed rules do.
    """
    to = _Writer(settings, release=release, namespace=namespace, roles=roles)
    groups = {name: one for name, one in settings.sources.items() if isinstance(one, AzureMonitorSettings)}
    grids = {name: one for name, one in settings.sources.items() if isinstance(one, EventGridSettings)}
    buses = {name: one for name, one in settings.sources.items() if isinstance(one, ServiceBusSettings)}
    azns, grid = (any(one.entra is not None for one in kind) for kind in (groups.values(), grids.values()))
    identified = settings.azure is not None or any(one.namespace for one in buses.values())
    _names(to)
    if identified:
        _identity(to)
        _roles(to, groups)
        _inside(to)
    if azns or grid:
        _application(to, azns=azns, grid=grid)
    for name, group in groups.items():
        _action_group(to, name, group)
    for name, events in grids.items():
        _event_grid(to, name, events)
    for name, bus in buses.items():
        _service_bus(to, name, bus)
    _try(to, groups)
    return Guide(steps=tuple(to.steps), missing=tuple(to.missing))


def _names(to: _Writer) -> None:
    home = to.home
    subscription, group, _ = home.parts if home is not None else ("", "", "")
    subscription = subscription or next((one.parts[0] for one in to.clusters), "")
    entra = to.settings.http.entra
    commands = [
        to.value("SUBSCRIPTION", subscription, "the subscription that the identity and the topics are made in"),
        to.value("GROUP", group, "the resource group that they are made in"),
        'LOCATION="${LOCATION:-$(az group show --name "$GROUP" --subscription "$SUBSCRIPTION" --query location --output tsv)}"',
        f"TENANT={shlex.quote(entra.tenant)}"
        if entra is not None
        else 'TENANT="$(az account show --query tenantId --output tsv)"',
    ]
    if to.base == "$PUBLIC_URL":
        commands.append(
            to.value("PUBLIC_URL", "", "how Azure reaches this installation, https://…; set http.public_url in responder.yaml")
        )
    commands.append('az account set --subscription "$SUBSCRIPTION"')
    to.step(
        "Names",
        "What everything below is made from. Azure calls from the internet: http.public_url must be https with a public certificate.",
        commands,
    )


def _identity(to: _Writer) -> None:
    home = to.home
    commands = [
        f'az identity create --name {shlex.quote(f"id-{to.release}")} --resource-group "$GROUP" --location "$LOCATION" --output none',
        f'IDENTITY_CLIENT="$(az identity show --name {shlex.quote(f"id-{to.release}")} --resource-group "$GROUP" --query clientId --output tsv)"',
        f'IDENTITY_PRINCIPAL="$(az identity show --name {shlex.quote(f"id-{to.release}")} --resource-group "$GROUP" --query principalId --output tsv)"',
        to.value(
            "HOME_CLUSTER",
            home.id if home is not None else "",
            "the ARM id of the cluster that Responder runs in (clusters.<name>.resource_id, home.cluster)",
        ),
        'az aks update --ids "$HOME_CLUSTER" --enable-oidc-issuer --enable-workload-identity --output none',
        'ISSUER="$(az aks show --ids "$HOME_CLUSTER" --query oidcIssuerProfile.issuerUrl --output tsv)"',
        (
            f"az identity federated-credential create --name {shlex.quote(to.release)} --identity-name {shlex.quote(f'id-{to.release}')} "
            f'--resource-group "$GROUP" --issuer "$ISSUER" --subject {shlex.quote(f"system:serviceaccount:{to.namespace}:{to.release}")} '
            f"--audiences {EXCHANGE} --output none"
        ),
        (
            "echo \"helm: --set serviceAccount.annotations.'azure\\.workload\\.identity/client-id'=$IDENTITY_CLIENT "
            "--set-string podLabels.'azure\\.workload\\.identity/use'=true\""
        ),
    ]
    why = "Our identity in Azure, without any secret: the cluster's issuer vouches for the service account. An update of the cluster takes minutes."
    to.step("Identity, federated with the service account", why, commands)


def _roles(to: _Writer, groups: dict[str, AzureMonitorSettings]) -> None:
    commands: list[str] = []
    needed = {one.name: to.roles.get(one.name, ()) for one in to.clusters} if to.settings.azure is not None else {}
    if needed:
        scopes = ", ".join(f'"/subscriptions/{one}"' for one in dict.fromkeys(one.parts[0] for one in to.clusters))
        commands.append("# The chart's folder; the role definitions are in its files/azure, each with what it is for.")
        commands.append('CHART="${CHART:-helm}"')
        commands += ["PLACE='\"/subscriptions/SUBSCRIPTION\"'", f"SCOPES={shlex.quote(scopes)}"]
        for file, name in dict.fromkeys((role.file, role.name) for several in needed.values() for role in several):
            commands.append(
                f'DEFINITION="$(cat "$CHART/files/azure/{file}.json")"; az role definition create --role-definition "${{DEFINITION/"$PLACE"/"$SCOPES"}}" '
                f'--output none || echo "the role {name} is there already; az role definition update, if it is an older one"'
            )
        for one in to.clusters:
            commands.append(f"# For cluster {_comment(one.name)}:")
            for role in needed[one.name]:
                commands.append(f"# {_comment(', '.join(role.rungs))}")
                commands.append(_assigned(role.name, _scope(one, role.file)))
    asked = sorted(
        {sub for one in groups.values() if one.ask is not None for sub in (one.ask.subscriptions or one.subscriptions)}
    )
    commands += [_assigned("Monitoring Reader", shlex.quote(f"/subscriptions/{one}")) for one in asked]
    if commands:
        why = (
            "What is read, and what the rungs of armed rules do; after arming another rule run this step again. Each is assigned as narrowly as Azure looks: "
            "on the cluster, on its node resource group (machines), on the subscription (operations and the activity log lie there)."
        )
        to.step("Roles of the identity", why, commands)


def _inside(to: _Writer) -> None:
    """Give our identity its Kubernetes roles in clusters that it reaches from outside: there it is a user, not a service account."""
    entries = to.settings.clusters
    remote = [one for one in to.clusters if not entries[one.name].in_cluster and not entries[one.name].kubeconfig]
    if to.settings.azure is None or not remote:
        return
    commands = ['CONFIG="${CONFIG:-responder.yaml}"']
    for one in remote:
        name, (subscription, group, cluster) = shlex.quote(one.name), one.parts
        commands += [
            (
                f"az aks get-credentials --subscription {shlex.quote(subscription)} --resource-group {shlex.quote(group)} --name {shlex.quote(cluster)} "
                f"--context {name} --overwrite-existing --output none"
            ),
            f'responder rbac --config "$CONFIG" --cluster {name} --user "$IDENTITY_PRINCIPAL" | kubectl --context {name} apply --filename -',
        ]
    why = (
        "Clusters that are reached by resource_id know our identity as a user by its object id. They need Entra integration (az aks update --enable-aad), "
        "and you need to be their administrator. CONFIG is the configuration that this was made from; after arming another rule run this step again."
    )
    to.step("Permissions inside the clusters", why, commands)


def _scope(one: Cluster, file: str) -> str:
    """Return where a role is assigned for a cluster, quoted."""
    subscription = f"/subscriptions/{one.parts[0]}"
    if file == "operations-reader":
        return shlex.quote(subscription)
    if file == "machine-reader":
        group = f'"$(az aks show --ids {shlex.quote(one.id)} --query nodeResourceGroup --output tsv)"'
        return f"{shlex.quote(f'{subscription}/resourceGroups/')}{group}"
    return shlex.quote(one.id)


def _assigned(role: str, scope: str) -> str:
    return (
        f'az role assignment create --assignee-object-id "$IDENTITY_PRINCIPAL" --assignee-principal-type ServicePrincipal --role {shlex.quote(role)} '
        f"--scope {scope} --output none"
    )


def _application(to: _Writer, *, azns: bool, grid: bool) -> None:
    name = shlex.quote(f"{to.release}-webhook")
    entra = to.settings.http.entra
    known = next((one for one in entra.audiences if not one.startswith("api://")), "") if entra is not None else ""
    uri = next((one for one in entra.audiences if one.startswith("api://")), "") if entra is not None else ""
    wanted = [(AZNS_ROLE, AZNS_APP)] * azns + [(EVENT_GRID_ROLE, EVENT_GRID_APP)] * grid
    roles = json.dumps({"appRoles": [_role(role) for role, _ in wanted]})
    commands = [
        f"APP_ID=\"$(az ad app list --display-name {name} --query '[0].appId' --output tsv)\""
        if not known
        else f"APP_ID={shlex.quote(known)}",
    ]
    if not known:
        commands.append(
            f'if [ -z "$APP_ID" ]; then APP_ID="$(az ad app create --display-name {name} --sign-in-audience AzureADMyOrg --query appId --output tsv)"; fi'
        )
    commands += [
        'APP_OBJECT="$(az ad app show --id "$APP_ID" --query id --output tsv)"',
        f"APP_URI={shlex.quote(uri)}" if uri else 'APP_URI="api://$APP_ID"',
        f"""az rest --method PATCH --url "{GRAPH}/applications/$APP_OBJECT" --headers Content-Type=application/json --body \\
  "{{\\"identifierUris\\":[\\"$APP_URI\\"],\\"api\\":{{\\"requestedAccessTokenVersion\\":2}}}}\"""",
        f"""az rest --method PATCH --url "{GRAPH}/applications/$APP_OBJECT" --headers Content-Type=application/json --body \\
  {shlex.quote(roles)}""",
        'az ad sp show --id "$APP_ID" --output none 2>/dev/null || az ad sp create --id "$APP_ID" --output none',
        'APP_PRINCIPAL="$(az ad sp show --id "$APP_ID" --query id --output tsv)"',
    ]
    for role, app in wanted:
        variable = "AZNS_PRINCIPAL" if role == AZNS_ROLE else "GRID_PRINCIPAL"
        commands += [
            f"az ad sp show --id {app} --output none 2>/dev/null || az ad sp create --id {app} --output none",
            f'{variable}="$(az ad sp show --id {app} --query id --output tsv)"',
            _granted(variable, role),
        ]
    if grid:
        commands += [
            "# Whoever makes the event subscriptions below needs the same role (or be an owner of the application):",
            'MYSELF="$(az ad signed-in-user show --query id --output tsv)"',
            _granted("MYSELF", EVENT_GRID_ROLE),
        ]
    commands.append(
        'printf \'responder.yaml: http: {entra: {tenant: %s, audiences: [%s, "%s"]}}\\n\' "$TENANT" "$APP_ID" "$APP_URI"'
    )
    why = (
        "What a caller must have a token for: an application with a role for each caller, and the caller's own service principal in it "
        f"({', '.join(dict.fromkeys(app for _, app in wanted))}: the vendor's, the same in every tenant). Needs Application Administrator. Who attaches the "
        "application to an action group must own it. The roles of an application that you name are replaced: give Responder one of its own."
    )
    to.step("Entra application for secure webhooks", why, commands)


def _granted(principal: str, role: str) -> str:
    body = (
        f'{{\\"principalId\\":\\"${principal}\\",\\"resourceId\\":\\"$APP_PRINCIPAL\\",\\"appRoleId\\":\\"{_role_id(role)}\\"}}'
    )
    return (
        f'az rest --method POST --url "{GRAPH}/servicePrincipals/$APP_PRINCIPAL/appRoleAssignedTo" --headers Content-Type=application/json '
        f'--body "{body}" --output none || echo "it has the role {role} already"'
    )


def _role(role: str) -> dict[str, Any]:
    """Return an application's role as Graph takes it; people need Event Grid's too, to make subscriptions."""
    members = ["Application"] if role == AZNS_ROLE else ["Application", "User"]
    return {
        "allowedMemberTypes": members,
        "description": role,
        "displayName": role,
        "id": _role_id(role),
        "isEnabled": True,
        "value": role,
    }


def _role_id(role: str) -> str:
    """Return a role's id in the application: always the same, so that running it again changes nothing."""
    return {AZNS_ROLE: "6b1a7f0e-52d3-4c5e-9a57-3d1c7f0a9e11", EVENT_GRID_ROLE: "6b1a7f0e-52d3-4c5e-9a57-3d1c7f0a9e12"}[role]


def _url(to: _Writer, path: str, *, signed: bool) -> str:
    """Return a webhook's address, quoted; a plain one has its secret from the environment, which is never printed."""
    secret = "" if signed else '"$WEBHOOK_TOKEN"'
    tail = path if signed else f"{path}?token="
    return (f'"$PUBLIC_URL"{shlex.quote(tail)}' if to.base == "$PUBLIC_URL" else shlex.quote(to.base + tail)) + secret


def _secret(name: str) -> str:
    return f': "${{WEBHOOK_TOKEN:?the secret of the token that may send as {_plain(name)} (http.tokens)}}"'


def _plain(text: str) -> str:
    """Return text that is nothing but text between double quotes."""
    return re.sub(r"[^A-Za-z0-9 _.,:;/()<>{}-]", "?", text)


def _comment(text: str) -> str:
    """Return text that is nothing but text in a comment: one line."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _receiver(to: _Writer, name: str, group: AzureMonitorSettings) -> str:
    signed = group.entra is not None
    how = ' useaadauth "$APP_OBJECT" "$APP_URI"' if signed else ""
    return f"webhook responder {_url(to, f'/v1/alerts/azure-monitor/{name}', signed=signed)}{how} usecommonalertschema"


def _action_group(to: _Writer, name: str, group: AzureMonitorSettings) -> None:
    signed = group.entra is not None
    commands = [] if signed else [_secret(name)]
    commands += [
        (
            f'az monitor action-group create --name {shlex.quote(f"ag-{to.release}-{name}")} --resource-group "$GROUP" --short-name responder '
            f"--action {_receiver(to, name, group)} --output none"
        ),
        "echo "
        + shlex.quote(f"attach it to your alert rules: az monitor metrics alert update --add-action ag-{to.release}-{name}"),
    ]
    why = (
        "A secure webhook: Azure signs who calls."
        if signed
        else "A plain webhook: its secret stands in the address, and so in Azure's configuration; entra: {} makes it a secure one."
    )
    to.step(f"Action group for source {name}", why, commands)


def _event_grid(to: _Writer, name: str, grid: EventGridSettings) -> None:
    signed = grid.entra is not None
    proof = (
        ' --azure-active-directory-tenant-id "$TENANT" --azure-active-directory-application-id-or-uri "$APP_ID"' if signed else ""
    )
    endpoint = f"--endpoint-type webhook --endpoint {_url(to, f'/v1/alerts/event-grid/{name}', signed=signed)}{proof}"
    commands = [] if signed else [_secret(name)]
    commands += _topics(to, grid.topics, f"{to.release}-{name}", endpoint)
    why = (
        "AKS says when it rolls a pool or maintains the cluster, Resource Health when a machine goes: foreign activity for node rules. The service must run: "
        "it answers the handshake. A resource has one system topic; where one is there already, name it instead."
    )
    to.step(f"Event Grid for source {name}", why, commands)


def _topics(to: _Writer, topics: Sequence[str], name: str, endpoint: str) -> list[str]:
    """Return system topics and event subscriptions for the clusters below these topics, and for their subscriptions."""
    mine = [one for one in to.clusters if any(one.id.lower() == each or one.id.lower().startswith(f"{each}/") for each in topics)]
    commands: list[str] = []
    for one in mine:
        topic = f"egt-{one.parts[2]}"
        place = f'"$(az aks show --ids {shlex.quote(one.id)} --query location --output tsv)"'
        commands += [
            _topic(topic, "Microsoft.ContainerService.ManagedClusters", one.id, place),
            _subscription(name, topic, AKS_TYPES, endpoint),
        ]
    for subscription in sorted({each.split("/")[2] for each in topics if each.count("/") == 2}):
        planned, health = (f"egt-{word}-{subscription[:8]}" for word in ("containerservice", "health"))
        source = f"/subscriptions/{subscription}"
        commands += [
            _topic(planned, "microsoft.resourcenotifications.containerserviceeventresources", source, "global"),
            _subscription(name, planned, (maintenance.SCHEDULED_EVENT,), endpoint),
            _topic(health, "microsoft.resourcenotifications.healthresources", source, "global"),
        ]
        for one in mine:
            if one.parts[0].lower() == subscription:
                group = f"$(az aks show --ids {shlex.quote(one.id)} --query nodeResourceGroup --output tsv)"
                nodes = f' --subject-begins-with {shlex.quote(f"/subscriptions/{one.parts[0]}/resourceGroups/")}"{group}"/'
                types = (maintenance.AVAILABILITY, maintenance.ANNOTATED)
                commands.append(_subscription(f"{name}-{one.name}", health, types, endpoint + nodes))
    if not commands:
        said = "no cluster of clusters: (resource_id) and no whole subscription is below these topics; subscribe your own topics to it"
        commands.append(f"echo {shlex.quote(f'{name}: {said}')}")
    return commands


def _topic(name: str, kind: str, source: str, location: str) -> str:
    quoted = shlex.quote(name)
    return (
        f'az eventgrid system-topic show --name {quoted} --resource-group "$GROUP" --output none 2>/dev/null || '
        f'az eventgrid system-topic create --name {quoted} --resource-group "$GROUP" --topic-type {kind} '
        f"--source {shlex.quote(source)} --location {location} --output none"
    )


def _subscription(name: str, topic: str, types: Sequence[str], endpoint: str) -> str:
    return (
        f'az eventgrid system-topic event-subscription create --name {shlex.quote(name)} --resource-group "$GROUP" '
        f"--system-topic-name {shlex.quote(topic)} --event-delivery-schema cloudeventschemav1_0 "
        f"--included-event-types {' '.join(types)} {endpoint} --output none"
    )


def _service_bus(to: _Writer, name: str, bus: ServiceBusSettings) -> None:
    namespace = bus.namespace.split(".", 1)[0]
    variable = f"BUS_{re.sub('[^A-Z0-9]', '_', name.upper())}"
    commands = [
        to.value(variable, namespace, f"the Service Bus namespace of source {name}"),
        f'BUS="${variable}"',
        (
            'az servicebus namespace show --name "$BUS" --resource-group "$GROUP" --output none 2>/dev/null || '
            'az servicebus namespace create --name "$BUS" --resource-group "$GROUP" --location "$LOCATION" --sku Standard --output none'
        ),
    ]
    bounds = (
        f"--max-delivery-count {max(10, bus.poison_after + 2)} --lock-duration PT1M --dead-lettering-on-message-expiration true"
    )
    if bus.queue:
        entity, kind = f"queues/{bus.queue}", "servicebusqueue"
        commands.append(
            f'az servicebus queue create --name {shlex.quote(bus.queue)} --namespace-name "$BUS" --resource-group "$GROUP" '
            f"{bounds.replace('--dead-lettering-on-message-expiration', '--enable-dead-lettering-on-message-expiration')} --output none"
        )
    else:
        entity, kind = f"topics/{bus.topic}", "servicebustopic"
        commands += [
            f'az servicebus topic create --name {shlex.quote(bus.topic)} --namespace-name "$BUS" --resource-group "$GROUP" --output none',
            (
                f"az servicebus topic subscription create --name {shlex.quote(bus.subscription)} --topic-name {shlex.quote(bus.topic)} "
                f'--namespace-name "$BUS" --resource-group "$GROUP" {bounds} --output none'
            ),
        ]
    commands.append('BUS_ID="$(az servicebus namespace show --name "$BUS" --resource-group "$GROUP" --query id --output tsv)"')
    if bus.namespace:
        commands += [
            _assigned(role, f'"$BUS_ID"/{shlex.quote(entity)}')
            for role in ("Azure Service Bus Data Receiver", "Azure Service Bus Data Sender")
        ]
    else:
        command = f"az servicebus queue authorization-rule create --name responder --queue-name {shlex.quote(bus.queue)} --rights Listen Send"
        if not bus.queue:
            command = f"az servicebus topic authorization-rule create --name responder --topic-name {shlex.quote(bus.topic)} --rights Listen Send"
        commands.append(f'{command} --namespace-name "$BUS" --resource-group "$GROUP" --output none')
        commands.append(
            "echo "
            + shlex.quote(
                f"put its connection string into the secret that sources.{name}.connection_string names; namespace: needs none"
            )
        )
    topics = [f"/subscriptions/{one}" for one in (bus.subscriptions or sorted({one.parts[0].lower() for one in to.clusters}))]
    commands += _topics(to, topics, f"{to.release}-{name}", f'--endpoint-type {kind} --endpoint "$BUS_ID"/{shlex.quote(entity)}')
    why = "Events by a queue: kept while nothing of ours runs. The role Data Sender is for responder deadletter resubmit; leave it out where nobody resubmits."
    to.step(f"Service Bus for source {name}", why, commands)


def _try(to: _Writer, groups: dict[str, AzureMonitorSettings]) -> None:
    commands = ["responder doctor", "responder send-test"]
    for name, group in groups.items():
        commands.append(
            f'az monitor action-group test-notifications create --action-group {shlex.quote(f"ag-{to.release}-{name}")} --resource-group "$GROUP" '
            f"--alert-type metricstaticthreshold --add-action {_receiver(to, name, group)} --output none"
        )
    if groups:
        listed = 'curl --silent --header "Authorization: Bearer $RESPONDER_TOKEN" "$RESPONDER_URL/v1/alerts?why=test_alert"'
        commands.append(f"{listed}   # Azure's tests are listed there, and nothing was done about them")
    to.step(
        "Try it",
        "Tests stop at the router: they are listed, and nothing is ever done about them. RESPONDER_URL and RESPONDER_TOKEN must be set.",
        commands,
    )


def _wrapped(text: str, width: int = 130) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) + 1 > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return [*lines, line]
