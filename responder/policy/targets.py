"""Which thing an alert is about, found from well-known labels; pure: it says what to look up, the shell looks it up and asks again.

Source: RULES.md "Targets", EXAMPLES.md "What the real alerts look like". Most specific label first; ``exported_x`` before ``x``; ``job``,
``instance``, ``endpoint`` and ``container`` never name a target. Nothing, or more than one, is unresolved and never guessed.

The decision a reader would question: code instead of a template per rule. One rule's alerts come with six sets of labels, and a fixed
template restarts kube-state-metrics, whose own pod stands in the label ``pod``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from responder.model.alert import Alert, SourceKind
from responder.model.rule import TargetSpec
from responder.model.target import Lookup, LookupAnswer, Presence, Target, TargetKind
from responder.rules.matchers import LabelMatchers
from responder.rules.substitute import Missing, substitute


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterIdentity:
    """How alerts name a configured cluster.

    Attributes:
        name: In the configuration.
        labels: Conditions over an alert's labels; None for none configured.
        resource_id: Its ARM id, lower-cased; "" when it has none.
    """

    name: str
    labels: LabelMatchers | None = None
    resource_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporters:
    """Whose own labels are dropped from alerts: exporters that watch other things than themselves."""

    jobs: frozenset[str] = frozenset({"kube-state-metrics", "node-exporter", "prometheus-node-exporter"})
    addresses: frozenset[str] = frozenset()
    own_labels: tuple[str, ...] = ("pod", "container", "service", "endpoint", "instance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The one target, and how it was found."""

    target: Target
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Look these up and ask again."""

    lookups: tuple[Lookup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """No one thing.

    Attributes:
        detail: Why, naming the missing label.
        narrowest: The narrowest thing known.
        unknown: The cluster did not answer: ``narrowest`` is the literal target, to be asked for again.
    """

    detail: str
    narrowest: Target
    unknown: bool = False


Resolution = Resolved | Ask | Unresolved

WORKLOAD_LABELS: tuple[tuple[str, str], ...] = (
    ("deployment", "Deployment"),
    ("statefulset", "StatefulSet"),
    ("daemonset", "DaemonSet"),
    ("job_name", "Job"),
    ("cronjob", "CronJob"),
    ("replicaset", "ReplicaSet"),
    ("horizontalpodautoscaler", "HorizontalPodAutoscaler"),
    ("persistentvolumeclaim", "PersistentVolumeClaim"),
    ("controller", "controller"),
    ("pod", "Pod"),
)
"""Label to the kind it is looked up as, most specific first."""

_NAMED = ("namespace", "service", "node", "nodepool", "region", *(label for label, _ in WORKLOAD_LABELS))
_TELLING = (*_NAMED, *(f"exported_{name}" for name in _NAMED), "cluster", "job", "instance", "container", "endpoint")

LITERAL_KINDS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
"""Kinds that already are the workload: an unanswered look-up leaves this as the literal target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """The labels that may name a target, after exporters' own are dropped."""

    labels: Mapping[str, str]
    dropped: tuple[str, ...] = field(default=())

    def get(self, name: str) -> str:
        """Return ``exported_x`` before ``x``; "" when neither is there."""
        return self.labels.get(f"exported_{name}", "") or self.labels.get(name, "")


def resolve(
    spec: TargetSpec,
    alert: Alert,
    *,
    clusters: Sequence[ClusterIdentity],
    exporters: Exporters,
    answers: Mapping[Lookup, LookupAnswer],
) -> Resolution:
    """Find the target of an alert for a rule.

    Args:
        spec: The rule's ``target``.
        alert: Normalised.
        clusters: All that are configured.
        exporters: Whose own labels to drop.
        answers: What was looked up so far; ``Ask`` names what is missing.
    """
    if spec.kind is TargetKind.NONE:
        return _none(spec, alert)
    names = _names(alert, exporters)
    roots = {
        "labels": dict(alert.labels),
        "alert": {"name": alert.name, "source": str(alert.source), "severity": str(alert.severity)},
    }
    cluster = _cluster(spec, alert, clusters, roots)
    if isinstance(cluster, Unresolved):
        return cluster
    if spec.kind is TargetKind.CLUSTER:
        return Resolved(
            target=Target(kind=TargetKind.CLUSTER, cluster=cluster.name, name=cluster.name), how=f"cluster {cluster.name}"
        )
    namespace = _filled(spec.namespace, roots) if spec.namespace else names.get("namespace")
    narrowest = Target(kind=TargetKind.NONE, cluster=cluster.name, namespace=namespace or "", name=alert.name)
    if spec.name:
        name = _filled(spec.name, roots)
        if not name:
            return Unresolved(detail=f"{spec.name} has no value in the alert's labels", narrowest=narrowest)
        kind = {
            TargetKind.WORKLOAD: "controller",
            TargetKind.POD: "Pod",
            TargetKind.SERVICE: "Service",
            TargetKind.NODE: "Node",
        }.get(spec.kind)
        if kind is None:
            return Unresolved(detail=f"a {spec.kind} cannot be named by a template", narrowest=narrowest)
        kinds = ("Deployment", "controller") if kind == "controller" else (kind,)
        return _first(
            spec.kind,
            [(kind, namespace or "", name, "the rule's own template") for kind in kinds],
            cluster.name,
            answers,
            narrowest,
        )
    match spec.kind:
        case TargetKind.NODE | TargetKind.NODE_POOL:
            return _node(spec.kind, names, alert, cluster.name, answers, narrowest)
        case TargetKind.REGION:
            region = names.get("region")
            if not region:
                return Unresolved(detail="no label region", narrowest=narrowest)
            return Resolved(target=Target(kind=TargetKind.REGION, name=region, region=region), how=f"label region={region}")
        case TargetKind.SERVICE:
            wanted = [("Service", namespace, names.get("service"), "label service")] if names.get("service") else []
            missing = "no label service"
        case TargetKind.POD:
            wanted = [("Pod", namespace, names.get("pod"), "label pod")] if names.get("pod") else []
            missing = "no label pod"
        case _:
            wanted = [
                (kind, namespace, names.get(label), f"label {label}") for label, kind in WORKLOAD_LABELS if names.get(label)
            ]
            missing = f"none of the labels {', '.join(label for label, _ in WORKLOAD_LABELS)}"
    if names.dropped:
        missing += f" ({', '.join(names.dropped)} are the exporter's own)"
    if not wanted:
        return Unresolved(detail=missing, narrowest=narrowest)
    if not namespace:
        return Unresolved(detail=f"{wanted[0][3]}={wanted[0][2]}, but no label namespace", narrowest=narrowest)
    return _first(spec.kind, [(kind, namespace, name, how) for kind, _, name, how in wanted], cluster.name, answers, narrowest)


def telling(spec: TargetSpec, clusters: Sequence[ClusterIdentity]) -> tuple[str, ...] | None:
    """Return the labels that alone tell one alert's target from another's, beside its name, source and ``resource_ids``.

    Of two alerts that agree on these, ``resolve`` says the same, given the same answers. None when any label may count: templates, and rules
    whose target is the alert itself.
    """
    if spec.kind is TargetKind.NONE or spec.name or spec.namespace or spec.cluster:
        return None
    own = {matcher.name for one in clusters if one.labels is not None for matcher in one.labels.matchers}
    return (*_TELLING, *sorted(own - set(_TELLING)))


def _none(spec: TargetSpec, alert: Alert) -> Resolved:
    grouped = [f"{label}={alert.labels.get(label, '')}" for label in spec.group_by]
    name = "/".join([alert.name or alert.fingerprint, *grouped])
    if not spec.group_by:
        name = f"{alert.name or 'alert'}/{alert.fingerprint[:12]}"
    return Resolved(target=Target(kind=TargetKind.NONE, name=name), how="the rule's target is the alert itself")


def _names(alert: Alert, exporters: Exporters) -> _Names:
    """Drop the exporter's own labels: those of its job, and a ``pod`` that is recognisably the exporter's."""
    labels = dict(alert.labels)
    if alert.source is SourceKind.KUBERNETES:
        return _Names(labels=labels)  # our own watch names the thing itself, also when that is an exporter
    job = labels.get("job", "").rsplit("/", 1)[-1]
    address = labels.get("instance", "").rsplit(":", 1)[0]
    pod = labels.get("pod", "")
    container = labels.get("container", "")
    known = any(job == name or job.endswith(f"-{name}") for name in exporters.jobs)
    known = known or address in exporters.addresses
    known = known or any(f"{name}-" in f"{pod}-" for name in exporters.jobs) or container in exporters.jobs
    if not known:
        return _Names(labels=labels)
    own = [name for name in exporters.own_labels if name in labels and not (name == "instance" and _is_node_job(job))]
    return _Names(labels={name: value for name, value in labels.items() if name not in own}, dropped=tuple(own))


def _is_node_job(job: str) -> bool:
    """A node exporter's ``instance`` is the node it runs on."""
    return "node-exporter" in job


def _cluster(
    spec: TargetSpec, alert: Alert, clusters: Sequence[ClusterIdentity], roots: Mapping[str, Mapping[str, Any]]
) -> ClusterIdentity | Unresolved:
    """Choose the cluster: exactly one must fit; a ``cluster`` label that fits none is unresolved, never "the only one".

    Our own watches name their cluster as it is configured.
    """
    nowhere = Target(kind=TargetKind.NONE, namespace=alert.labels.get("namespace", ""), name=alert.name)
    said = _filled(spec.cluster, roots) if spec.cluster else alert.labels.get("cluster", "")
    if alert.source is SourceKind.KUBERNETES and not spec.cluster:
        watched = [one for one in clusters if one.name == said]
        if watched:
            return watched[0]
    fits: list[ClusterIdentity] = []
    for one in clusters:
        by_label = one.labels is not None and one.labels.matches(alert.labels)
        by_id = bool(one.resource_id) and any(
            resource == one.resource_id or resource.startswith(f"{one.resource_id}/") for resource in alert.resource_ids
        )
        by_name = bool(said) and said == one.name and one.labels is None
        if by_label or by_id or by_name:
            fits.append(one)
    if len(fits) == 1:
        return fits[0]
    if len(fits) > 1:
        return Unresolved(detail=f"the alert fits several clusters: {', '.join(one.name for one in fits)}", narrowest=nowhere)
    if said:
        names = ", ".join(one.name for one in clusters) or "none"
        return Unresolved(
            detail=f"label cluster={said} fits no configured cluster (configured: {names}; see clusters.<name>.labels)",
            narrowest=nowhere,
        )
    if len(clusters) == 1:
        return clusters[0]
    return Unresolved(detail=f"no label cluster, and {len(clusters)} clusters are configured", narrowest=nowhere)


def _filled(template: str, roots: Mapping[str, Mapping[str, Any]]) -> str:
    value = substitute(template, roots)
    return "" if isinstance(value, Missing) else str(value)


def _first(
    kind: TargetKind,
    wanted: Sequence[tuple[str, str, str, str]],
    cluster: str,
    answers: Mapping[Lookup, LookupAnswer],
    narrowest: Target,
) -> Resolution:
    """Try look-ups in order; the first that is found decides, an unknown one stops (a later one could be the wrong thing)."""
    tried: list[str] = []
    for look_up_kind, namespace, name, how in wanted:
        lookup = Lookup(kind=look_up_kind, cluster=cluster, namespace=namespace, name=name)
        answer = answers.get(lookup)
        if answer is None:
            return Ask(lookups=(lookup,))
        said = f"{how}={name}: {answer.detail or answer.presence}"
        if answer.presence is Presence.UNKNOWN:
            return Unresolved(detail=said, narrowest=_literal(kind, look_up_kind, cluster, namespace, name), unknown=True)
        if answer.presence is Presence.FOUND:
            distinct = {target.identity: target for target in answer.targets if _suits(target, kind)}
            if len(distinct) == 1:
                return Resolved(target=next(iter(distinct.values())), how=said)
            if len(distinct) > 1:
                several = ", ".join(str(target) for target in distinct.values())
                return Unresolved(detail=f"{how}={name} belongs to several: {several}", narrowest=narrowest)
        tried.append(said)
    return Unresolved(detail="; ".join(tried), narrowest=narrowest)


def _suits(target: Target, kind: TargetKind) -> bool:
    return target.kind is kind


def _literal(kind: TargetKind, look_up_kind: str, cluster: str, namespace: str, name: str) -> Target:
    """Return the target as the alert names it, for a cluster that does not answer."""
    owner = look_up_kind if kind is TargetKind.WORKLOAD and look_up_kind in LITERAL_KINDS else ""
    shown = name if owner or kind is not TargetKind.WORKLOAD else f"{look_up_kind.lower()}:{name}"
    return Target(kind=kind, cluster=cluster, namespace=namespace, name=shown, owner_kind=owner)


def _node(
    kind: TargetKind, names: _Names, alert: Alert, cluster: str, answers: Mapping[Lookup, LookupAnswer], narrowest: Target
) -> Resolution:
    pool = names.get("nodepool")
    if kind is TargetKind.NODE_POOL and pool:
        return Resolved(target=Target(kind=kind, cluster=cluster, name=pool), how=f"label nodepool={pool}")
    node = names.get("node")
    instance = alert.labels.get("instance", "").rsplit(":", 1)[0]
    wanted: list[tuple[str, str, str, str]] = []
    if node:
        wanted.append(("Node", "", node, "label node"))
    elif instance:
        look_up_kind = "node_address" if _is_address(instance) else "Node"
        wanted.append((look_up_kind, "", instance, "label instance"))
    if not wanted:
        return Unresolved(detail="neither label node nor an instance that is a node", narrowest=narrowest)
    found = _first(TargetKind.NODE, wanted, cluster, answers, narrowest)
    if kind is TargetKind.NODE or not isinstance(found, Resolved):
        return found
    return Unresolved(detail=f"no label nodepool; the pool of {found.target} is not looked up", narrowest=found.target)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


__all__ = ["Ask", "ClusterIdentity", "Exporters", "Resolution", "Resolved", "Unresolved", "resolve", "telling"]
