"""What this adapter reads, as permissions: the reading role is made from it. Never Secrets, never ConfigMaps."""

from __future__ import annotations

from responder.model.action import Permission

_WATCHED = ("get", "list", "watch")
_READ: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("", ("pods", "services", "events", "nodes", "namespaces", "resourcequotas", "persistentvolumeclaims"), _WATCHED),
    ("", ("pods/log",), ("get",)),
    ("apps", ("deployments", "replicasets", "statefulsets", "daemonsets", "controllerrevisions"), _WATCHED),
    ("batch", ("jobs", "cronjobs"), _WATCHED),
    ("autoscaling", ("horizontalpodautoscalers",), _WATCHED),
    ("policy", ("poddisruptionbudgets",), _WATCHED),
    ("discovery.k8s.io", ("endpointslices",), _WATCHED),
    ("coordination.k8s.io", ("leases",), ("get", "list")),
    ("authorization.k8s.io", ("selfsubjectaccessreviews",), ("create",)),
)

READS = tuple(
    Permission(verb=verb, group=group, resource=resource)
    for group, resources, verbs in _READ
    for resource in resources
    for verb in verbs
)
"""A self-review is a question, though its verb is create."""
