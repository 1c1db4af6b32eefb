"""What this adapter reads, as permissions: the reading role is made from it. Never Secrets, never ConfigMaps."""

from __future__ import annotations

from responder.model.action import Permission

_READ: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("", ("pods", "nodes"), ("get", "list", "watch")),
    ("", ("services", "namespaces"), ("get", "list")),
    ("", ("events", "resourcequotas"), ("list",)),
    ("", ("pods/log",), ("get",)),
    ("apps", ("deployments", "replicasets", "statefulsets", "daemonsets"), ("get", "list")),
    ("apps", ("controllerrevisions",), ("list",)),
    ("batch", ("jobs",), ("get", "list", "watch")),
    ("batch", ("cronjobs",), ("get",)),
    ("autoscaling", ("horizontalpodautoscalers",), ("get", "list")),
    ("policy", ("poddisruptionbudgets",), ("list",)),
    ("discovery.k8s.io", ("endpointslices",), ("list", "watch")),
    ("coordination.k8s.io", ("leases",), ("get", "list")),
    ("authorization.k8s.io", ("selfsubjectaccessreviews",), ("create",)),
)
"""Each verb is one that a request of this package needs: what is got by name, what is listed, what ``watch`` follows."""

READS = tuple(
    Permission(verb=verb, group=group, resource=resource)
    for group, resources, verbs in _READ
    for resource in resources
    for verb in verbs
)
"""A self-review is a question, though its verb is create."""
