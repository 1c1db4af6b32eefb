"""Which Kubernetes permissions a set of rules needs, and the least roles that hold them. Derived, never written by hand.

Never here: which permissions an action needs (each action lists its own), or what the adapter reads.

The decision a reader would question: roles are made from rules and not from actions in general. An installation that arms one rule that
restarts workloads cannot delete a pod, whatever a bug of ours tries; the price is that arming another rule needs a ``helm upgrade``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from responder.actions.catalogue import ActionCatalogue
from responder.model.action import Permission
from responder.model.rule import Rule
from responder.model.target import TargetKind
from responder.rules.arming import ActEntry
from responder.rules.matchers import Matcher, Operator

WIDE = frozenset({TargetKind.NODE, TargetKind.NODE_POOL, TargetKind.CLUSTER, TargetKind.REGION})
"""Targets without a namespace: their pods may be anywhere."""

_NAMES = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\|[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One permission that armed rules need.

    Attributes:
        permission: What.
        namespaces: Where; None for everywhere.
        rungs: Who needs it, as ``rule/rung``, in the order of the rules.
    """

    permission: Permission
    namespaces: frozenset[str] | None
    rungs: tuple[str, ...]


def permissions_of(rule: Rule, catalogue: ActionCatalogue) -> Mapping[Permission, tuple[str, ...]]:
    """Return what a rule's ladder writes, with the rungs that need it."""
    found: dict[Permission, list[str]] = {}
    for rung in rule.ladder:
        for call in rung.do:
            action = catalogue.actions.get(call.name)
            for permission in action.permissions if action is not None else ():
                rungs = found.setdefault(permission, [])
                if (name := f"{rule.name}/{rung.name}") not in rungs:
                    rungs.append(name)
    return {permission: tuple(rungs) for permission, rungs in found.items()}


def needs(rules: Iterable[Rule], act: Sequence[ActEntry], catalogue: ActionCatalogue, *, cluster: str) -> tuple[Need, ...]:
    """Return what the armed ones among these rules need in one cluster; empty while everything is in shadow.

    Args:
        rules: As loaded.
        act: What is armed, and where.
        catalogue: The actions.
        cluster: Its configured name; entries for other clusters do not count.
    """
    where: dict[Permission, frozenset[str] | None] = {}
    rungs: dict[Permission, list[str]] = {}
    for rule in rules:
        entries = [entry for entry in act if entry.rule == rule.name and concerns(entry, cluster)]
        if not entries:
            continue
        scope = None if rule.target.kind in WIDE else _together(_namespaces(entry) for entry in entries)
        for permission, by in permissions_of(rule, catalogue).items():
            before = where.get(permission, frozenset())
            where[permission] = None if scope is None or before is None else before | scope
            rungs.setdefault(permission, []).extend(by)
    return tuple(
        Need(permission=one, namespaces=where[one], rungs=tuple(rungs[one]))
        for one in sorted(where, key=lambda one: (one.group, one.resource, one.verb))
    )


def concerns(entry: ActEntry, cluster: str) -> bool:
    """Tell whether an entry may arm its rule in this cluster."""
    matchers = entry.where.matchers if entry.where is not None else ()
    return all(one.holds({"cluster": cluster}) for one in matchers if one.name == "cluster")


def _together(scopes: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    found: frozenset[str] = frozenset()
    for scope in scopes:
        if scope is None:
            return None
        found |= scope
    return found


def _namespaces(entry: ActEntry) -> frozenset[str] | None:
    """Return the namespaces that an entry names; None when it names none, or by a pattern that is no list of names."""
    named = [_listed(one) for one in (entry.where.matchers if entry.where is not None else ()) if one.name == "namespace"]
    certain = [one for one in named if one is not None]
    return frozenset.intersection(*certain) if certain else None


def _listed(matcher: Matcher) -> frozenset[str] | None:
    if matcher.operator is Operator.EQUAL and matcher.value:
        return frozenset({matcher.value})
    if matcher.operator is Operator.MATCHES and _NAMES.fullmatch(matcher.value):
        return frozenset(matcher.value.split("|"))
    return None


def policy_rules(permissions: Iterable[Permission]) -> list[dict[str, list[str]]]:
    """Return RBAC ``rules`` that grant these and nothing else: resources of one group with the same verbs share one.

    Source: Kubernetes RBAC, PolicyRule.
    """
    verbs: dict[tuple[str, str], set[str]] = {}
    for one in permissions:
        verbs.setdefault((one.group, one.resource), set()).add(one.verb)
    shared: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (group, resource), allowed in sorted(verbs.items()):
        shared.setdefault((group, tuple(sorted(allowed))), []).append(resource)
    return [
        {"apiGroups": [group], "resources": resources, "verbs": list(allowed)} for (group, allowed), resources in shared.items()
    ]


def manifests(
    found: Sequence[Need], *, reads: Sequence[Permission], name: str, namespace: str, user: str = ""
) -> list[dict[str, Any]]:
    """Return the roles and bindings of one service account (or user), as Kubernetes objects.

    Args:
        found: What it may write.
        reads: What it reads, everywhere.
        name: Of the service account; the objects' names begin with it.
        namespace: Where the service account lives.
        user: Who it is instead, where we come from outside: to AKS an Entra identity is a user called by its object id (kubelogin's documentation).
    """
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    if user:
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    made = _pair("ClusterRole", f"{name}-read", "", policy_rules(reads), subject)
    wide = [one.permission for one in found if one.namespaces is None]
    if wide:
        made += _pair("ClusterRole", f"{name}-write", "", policy_rules(wide), subject)
    for one in sorted({one for need in found for one in need.namespaces or ()}):
        narrow = [need.permission for need in found if need.namespaces is not None and one in need.namespaces]
        made += _pair("Role", f"{name}-write", one, policy_rules(narrow), subject)
    return made


def _pair(
    kind: str, name: str, namespace: str, rules: list[dict[str, list[str]]], subject: Mapping[str, str]
) -> list[dict[str, Any]]:
    api = "rbac.authorization.k8s.io"
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    role = {"apiVersion": f"{api}/v1", "kind": kind, "metadata": meta, "rules": rules}
    binding = {
        "apiVersion": f"{api}/v1",
        "kind": f"{kind}Binding",
        "metadata": dict(meta),
        "roleRef": {"apiGroup": api, "kind": kind, "name": name},
        "subjects": [dict(subject)],
    }
    return [role, binding]


def chart_table(rules: Iterable[Rule], catalogue: ActionCatalogue, *, reads: Sequence[Permission]) -> dict[str, Any]:
    """Return what the chart makes its roles from: what is read, and for each rule what it writes and whether everywhere."""
    return {
        "read": policy_rules(reads),
        "rules": {
            rule.name: {"everywhere": rule.target.kind in WIDE, "rules": policy_rules(permissions_of(rule, catalogue))}
            for rule in sorted(rules, key=lambda one: one.name)
        },
    }
