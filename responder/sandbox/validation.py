"""What the API server refuses of an object, with its words. Source: kubernetes ``pkg/apis/*/validation``. Ours: only what matters to us."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from responder.sandbox import kinds as k
from responder.sandbox.answers import Cause, Object
from responder.sandbox.selectors import selects

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
STATEFUL_FIELDS = {
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
}  # fmt: skip
POD_FIELDS = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
    "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def required(field: str, why: str = "") -> Cause:
    """Return what is said of a field that is missing."""
    return Cause("FieldValueRequired", f"Required value{': ' + why if why else ''}", field)


def wrong(field: str, value: Any, why: str) -> Cause:
    """Return what is said of a value that cannot be."""
    return Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {why}", field)


def shown(value: Any) -> str:
    """Return a value as the API's messages write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, _Raw):
        return str(value)
    return f'"{value}"' if isinstance(value, str) else str(value)


def problems(kind: str, item: Object) -> list[Cause]:
    """Return what is wrong with a new or changed object."""
    found = list(_meta(item))
    check = CHECKS.get(kind)
    if check is not None:
        found += list(check(item.get("spec") or {}))
    return found


def changes(kind: str, old: Object, new: Object) -> list[Cause]:
    """Return what is wrong with a change."""
    found = []
    for field in ("uid", "creationTimestamp"):
        given = (new.get("metadata") or {}).get(field)
        if given and given != old["metadata"].get(field):
            found += [wrong(f"metadata.{field}", given, "field is immutable")] * 2  # the API server says it twice
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if kind in {k.DEPLOYMENTS, k.REPLICA_SETS, k.DAEMON_SETS} and before.get("selector") != after.get("selector"):
        found.append(wrong("spec.selector", _go(after.get("selector")), "field is immutable"))
    if kind == k.STATEFUL_SETS and any(before.get(one) != after.get(one) for one in {*before, *after} - STATEFUL_FIELDS):
        listed = "'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds'"
        why = f"Forbidden: updates to statefulset spec for fields other than {listed} are forbidden"
        found.append(Cause("FieldValueForbidden", why, "spec"))
    if kind == k.JOBS and before.get("template") != after.get("template"):
        found.append(wrong("spec.template", _go(after.get("template")), "field is immutable"))
    if kind == k.PODS and _frozen(before, after):
        why = f"Forbidden: pod updates may not change fields other than {POD_FIELDS}"
        found.append(Cause("FieldValueForbidden", why, "spec"))
    return found


def _go(value: Any) -> str:
    return _Raw(json.dumps(value, separators=(",", ":")))


def _frozen(before: Object, after: Object) -> bool:
    """Tell whether a pod's spec changed in what may not change."""

    def rest(spec: Object) -> Object:
        kept = {
            name: value for name, value in spec.items() if name not in {"activeDeadlineSeconds", "terminationGracePeriodSeconds"}
        }
        for name in ("containers", "initContainers"):
            if name in kept:
                kept[name] = [{field: value for field, value in one.items() if field != "image"} for one in kept[name]]
        kept.pop("tolerations", None)
        return kept

    gone = [one for one in before.get("tolerations") or () if one not in (after.get("tolerations") or ())]
    return rest(before) != rest(after) or bool(gone)


def _meta(item: Object) -> Iterator[Cause]:
    meta = item["metadata"]
    name = meta.get("name", "")
    if name and not NAME.fullmatch(name):
        yield wrong("metadata.name", name, SUBDOMAIN)
    for value in (meta.get("labels") or {}).values():
        if not isinstance(value, str) or not LABEL.fullmatch(value) or len(value) > 63:
            why = (
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
                "an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            )
            yield wrong("metadata.labels", value, why)


def _containers(spec: Object, at: str) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield required(f"{at}.containers")
    for number, one in enumerate(spec.get("containers") or ()):
        if not one.get("name"):
            yield required(f"{at}.containers[{number}].name")
        if not one.get("image"):
            yield required(f"{at}.containers[{number}].image")


def _pod(spec: Object) -> Iterator[Cause]:
    yield from _containers(spec, "spec")


def _workload(spec: Object) -> Iterator[Cause]:
    selector, template = spec.get("selector"), spec.get("template") or {}
    replicas = spec.get("replicas", 1)
    if isinstance(replicas, int) and replicas < 0:
        yield wrong("spec.replicas", replicas, "must be greater than or equal to 0")
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector is None:
        yield required("spec.selector")
        yield wrong("spec.template.metadata.labels", _go_map(labels), "`selector` does not match template `labels`")
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield wrong("spec.selector", _Raw("{}"), "empty selector is invalid for deployment")
    elif not selects(selector, labels):
        yield wrong("spec.template.metadata.labels", _go_map(labels), "`selector` does not match template `labels`")
    yield from _containers(template.get("spec") or {}, "spec.template.spec")
    policy = (template.get("spec") or {}).get("restartPolicy", "Always")
    if policy != "Always":
        yield Cause(
            "FieldValueNotSupported",
            f'Unsupported value: "{policy}": supported values: "Always"',
            "spec.template.spec.restartPolicy",
        )


def _go_map(labels: Mapping[str, str]) -> Any:
    return _Raw("{" + ",".join(f'"{name}":"{value}"' for name, value in sorted(labels.items())) + "}" if labels else "null")


class _Raw(str):
    """A value that messages write as it is."""

    __slots__ = ()


def _job(spec: Object) -> Iterator[Cause]:
    template = (spec.get("template") or {}).get("spec") or {}
    yield from _containers(template, "spec.template.spec")
    policy = template.get("restartPolicy", "Always")
    if policy not in {"Never", "OnFailure"}:
        yield required("spec.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')


def _budget(spec: Object) -> Iterator[Cause]:
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield wrong("spec", "", "minAvailable and maxUnavailable cannot be both set")


def _service(spec: Object) -> Iterator[Cause]:
    if not spec.get("ports") and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        yield required("spec.ports")


def _autoscaler(spec: Object) -> Iterator[Cause]:
    most, least = spec.get("maxReplicas", 0), spec.get("minReplicas", 1)
    if most < 1:
        yield wrong("spec.maxReplicas", most, "must be greater than 0")
    elif most < least:
        yield wrong("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")


CHECKS: Mapping[str, Callable[[Object], Iterator[Cause]]] = {
    k.PODS: _pod,
    k.DEPLOYMENTS: _workload,
    k.REPLICA_SETS: _workload,
    k.STATEFUL_SETS: _workload,
    k.DAEMON_SETS: _workload,
    k.JOBS: _job,
    k.BUDGETS: _budget,
    k.SERVICES: _service,
    k.AUTOSCALERS: _autoscaler,
}
