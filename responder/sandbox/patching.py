"""Merge patch (RFC 7396), JSON patch (RFC 6902) and the parts of strategic merge patch that built-in kinds need."""

from __future__ import annotations

import copy
from typing import Any

from responder.sandbox.answers import ApiFailure

MERGE_KEYS = {
    "containers": "name", "initContainers": "name", "env": "name", "volumes": "name", "conditions": "type", "ports": "port",
    "ownerReferences": "uid", "imagePullSecrets": "name", "volumeMounts": "mountPath",
}  # fmt: skip


def merge(target: Any, patch: Any) -> Any:
    """Apply a merge patch."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def strategic(target: Any, patch: Any, *, field: str = "") -> Any:
    """Apply a strategic merge patch: lists of known fields merge by key, all others are replaced."""
    if isinstance(patch, dict):
        if patch.get("$patch") == "replace":
            return {name: copy.deepcopy(value) for name, value in patch.items() if name != "$patch"}
        result = dict(target) if isinstance(target, dict) else {}
        for name, value in patch.items():
            if value is None:
                result.pop(name, None)
            else:
                result[name] = strategic(result.get(name), value, field=name)
        return result
    if isinstance(patch, list) and field in MERGE_KEYS and isinstance(target, list):
        key = MERGE_KEYS[field]
        merged = [copy.deepcopy(one) for one in target]
        for one in patch:
            same = next((place for place, old in enumerate(merged) if old.get(key) == one.get(key)), None)
            if one.get("$patch") == "delete":
                if same is not None:
                    del merged[same]
            elif same is None:
                merged.append(copy.deepcopy(one))
            else:
                merged[same] = strategic(merged[same], one)
        return merged
    return copy.deepcopy(patch)


def json_patch(target: Any, operations: list[dict[str, Any]]) -> Any:
    """Apply a JSON patch.

    Raises:
        ApiFailure: 422 when an operation cannot be applied, a failing ``test`` above all, in the words of the API server.
    """
    document = copy.deepcopy(target)
    for operation in operations:
        path = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        try:
            document = _apply(document, operation["op"], path, operation.get("value"))
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ApiFailure(422, "Invalid", "the server rejected our request due to an error in our request") from error
    return document


def _apply(document: Any, op: str, path: list[str], value: Any) -> Any:
    if not path:
        if op == "test" and document != value:
            raise ValueError("test failed")
        return document if op == "test" else copy.deepcopy(value)
    *parents, last = path
    at = document
    for part in parents:
        at = at[int(part)] if isinstance(at, list) else at[part]
    key: Any = last
    if isinstance(at, list):
        key = len(at) if last == "-" else int(last)
    match op:
        case "test":
            if at[key] != value:
                raise ValueError("test failed")
        case "add":
            if isinstance(at, list):
                at.insert(key, copy.deepcopy(value))
            else:
                at[key] = copy.deepcopy(value)
        case "replace":
            at[key]
            at[key] = copy.deepcopy(value)
        case "remove":
            del at[key]
        case _:
            raise ValueError(op)
    return document
