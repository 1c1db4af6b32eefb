"""Label selectors (as objects and as text), and field selectors. Source: apimachinery ``labels`` and ``fields``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from responder.sandbox.answers import Object, bad_request

FIELDS: Mapping[str, tuple[str, ...]] = {
    "v1/pods": (
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork", "status.phase",
        "status.podIP", "status.podIPs", "status.nominatedNodeName",
    ),
    "v1/nodes": ("spec.unschedulable",),
    "v1/events": (
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "involvedObject.apiVersion",
        "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type",
    ),
    "v1/secrets": ("type",),
    "v1/namespaces": ("status.phase",),
    "v1/services": ("spec.clusterIP", "spec.type"),
    "apps/v1/replicasets": ("status.replicas",),
    "batch/v1/jobs": ("status.successful",),
}  # fmt: skip
"""What field selectors may name, besides ``metadata.name`` and ``metadata.namespace``."""


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str] | None) -> bool:
    """Tell whether a LabelSelector object selects these labels: None selects nothing, an empty one everything."""
    if selector is None:
        return False
    has = labels or {}
    if any(has.get(name) != value for name, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(
        _holds(one["key"], one["operator"], set(one.get("values") or ()), has) for one in selector.get("matchExpressions") or ()
    )


def _holds(key: str, operator: str, values: set[str], labels: Mapping[str, str]) -> bool:
    match operator:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case "Gt" | "Lt":
            if key not in labels or not labels[key].lstrip("-").isdigit():
                return False
            (than,) = values
            return int(labels[key]) > int(than) if operator == "Gt" else int(labels[key]) < int(than)
        case _:
            return False


def node_selects(terms: list[Object], node: Object) -> bool:
    """Tell whether any term of a required node affinity takes a node; a term without any requirement takes none."""
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    for term in terms:
        expressions, by_field = term.get("matchExpressions") or [], term.get("matchFields") or []
        if not expressions and not by_field:
            continue
        if all(_holds(one["key"], one["operator"], set(one.get("values") or ()), labels) for one in expressions) and all(
            _holds(one["key"], one["operator"], set(one.get("values") or ()), fields) for one in by_field
        ):
            return True
    return False


def text_of(selector: Mapping[str, Any] | None) -> str:
    """Return a LabelSelector as text, as ``kubectl`` and the scale subresource write it."""
    if selector is None:
        return "<none>"
    parts = [f"{name}={value}" for name, value in sorted((selector.get("matchLabels") or {}).items())]
    for one in selector.get("matchExpressions") or ():
        values = ",".join(sorted(one.get("values") or ()))
        parts.append(
            {
                "In": f"{one['key']} in ({values})",
                "NotIn": f"{one['key']} notin ({values})",
                "Exists": one["key"],
                "DoesNotExist": f"!{one['key']}",
            }[one["operator"]]
        )
    return ",".join(parts)


class Selection:
    """What a request's ``labelSelector`` and ``fieldSelector`` take.

    Raises:
        ApiFailure: 400 for a selector that cannot be read, or a field that this resource cannot be selected by.
    """

    def __init__(self, kind: str, labels: str, fields: str) -> None:
        self._labels = [_parsed(one) for one in _split(labels)]
        self._fields = [_field(kind, one) for one in fields.split(",") if one]
        self.everything = not self._labels and not self._fields

    def takes(self, item: Object) -> bool:
        """Tell whether an object is selected."""
        if self.everything:
            return True
        has = item["metadata"].get("labels") or {}
        return all(_holds(key, operator, values, has) for key, operator, values in self._labels) and all(
            (_at(item, path) == value) != negated for path, value, negated in self._fields
        )

    @property
    def name(self) -> str:
        """Return the one name that the fields ask for; "" for any."""
        return next((value for path, value, negated in self._fields if path == "metadata.name" and not negated), "")

    @property
    def node(self) -> str:
        """Return the one node that the fields ask for; "" for any."""
        return next((value for path, value, negated in self._fields if path == "spec.nodeName" and not negated), "")


def _field(kind: str, part: str) -> tuple[str, str, bool]:
    negated = "!=" in part
    path, _, value = part.replace("!=", "=").replace("==", "=").partition("=")
    if path not in {"metadata.name", "metadata.namespace", *FIELDS.get(kind, ())}:
        if kind in FIELDS:
            raise bad_request(f"field label not supported: {path}")
        raise bad_request(f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"')
    return path, value, negated


def _at(item: Object, path: str) -> str:
    at: Any = item
    for part in path.split("."):
        at = at.get(part, "") if isinstance(at, dict) else ""
    if isinstance(at, bool):
        return str(at).lower()
    if path == "source" and isinstance(at, dict):
        return str(at.get("component", ""))
    if at == "" and path in {"spec.unschedulable", "spec.hostNetwork"}:
        return "false"
    return str(at)


def _split(selector: str) -> list[str]:
    parts, depth, word = [], 0, ""
    for letter in selector:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(word)
            word = ""
        else:
            word += letter
    return [one.strip() for one in [*parts, word] if one.strip()]


def _parsed(part: str) -> tuple[str, str, set[str]]:
    for word, operator in ((" notin ", "NotIn"), (" in ", "In")):
        if word in part:
            name, _, values = part.partition(word)
            return name.strip(), operator, {one.strip() for one in values.strip().removeprefix("(").removesuffix(")").split(",")}
    if "!=" in part:
        name, _, value = part.partition("!=")
        return name.strip(), "NotIn", {value.strip()}
    if "=" in part:
        name, _, value = part.replace("==", "=").partition("=")
        return name.strip(), "In", {value.strip()}
    name = part.removeprefix("!").strip()
    if not name or not all(letter.isalnum() or letter in "-_./" for letter in name):
        raise bad_request(f"unable to parse requirement: found '{part}', expected: identifier or '!'")
    return name, "DoesNotExist" if part.startswith("!") else "Exists", set()
