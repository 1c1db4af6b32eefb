"""What the API says of itself: versions, groups, resources (also aggregated), and as much OpenAPI v3 as ``kubectl`` asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from responder.sandbox.answers import Object
from responder.sandbox.kinds import KINDS, PODS, Kind
from responder.sandbox.requests import Answer, Asked, said

VERSION = {
    "major": "1", "minor": "36", "gitVersion": "v1.36.3+sandbox", "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "go1.26", "compiler": "gc", "platform": "linux/amd64",
}  # fmt: skip
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
REVIEWS = "authorization.k8s.io/v1"
SUBRESOURCES: Mapping[str, tuple[tuple[str, str, str, tuple[str, ...]], ...]] = {
    PODS: (
        ("log", "v1", "Pod", ("get",)),
        ("eviction", "policy/v1", "Eviction", ("create",)),
        ("binding", "v1", "Binding", ("create",)),
    )
}
"""Name, apiVersion and kind of what is sent, verbs."""
HEALTH = ("/healthz", "/livez", "/readyz")


def discovered(asked: Asked) -> Answer | None:
    """Answer what is asked of the API itself; None for anything else."""
    path = asked.path.rstrip("/") or "/"
    parts = path.strip("/").split("/")
    if path.startswith(HEALTH):
        return Answer(body=b"ok", content_type="text/plain")
    match parts:
        case ["version"]:
            return said(VERSION)
        case [""]:
            return said(
                {"paths": ["/api", "/api/v1", "/apis", *(f"/apis/{one}" for one in _versions() if "/" in one), "/version"]}
            )
        case ["api"] | ["apis"] if "as=APIGroupDiscoveryList" in asked.headers.get("accept", ""):
            return _aggregated(parts[0])
        case ["api"]:
            return said({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        case ["apis"]:
            return said({"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(one) for one in _groups()]})
        case ["apis", group] if group in _groups():
            return said({**_group(group), "kind": "APIGroup", "apiVersion": "v1"})
        case ["api", "v1"]:
            return said(_resources("v1"))
        case ["apis", group, version] if f"{group}/{version}" in _versions():
            return said(_resources(f"{group}/{version}"))
        case ["openapi", "v3"]:
            paths = {
                _openapi_path(one): {"serverRelativeURL": f"/openapi/v3/{_openapi_path(one)}?hash=sandbox"} for one in _versions()
            }
            return said({"paths": paths})
        case ["openapi", "v3", *rest] if "/".join(rest) in {_openapi_path(one) for one in _versions()}:
            return said(_openapi("/".join(rest)))
        case _:
            return None


def _versions() -> list[str]:
    return sorted({kind.group_version for kind in KINDS.values()} | {REVIEWS})


def _groups() -> list[str]:
    return sorted({one.partition("/")[0] for one in _versions() if "/" in one})


def _group(name: str) -> Object:
    versions = [{"groupVersion": one, "version": one.partition("/")[2]} for one in _versions() if one.startswith(f"{name}/")]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _resources(version: str) -> Object:
    rows: list[Object] = []
    for kind in _of(version):
        row: Object = {
            "name": kind.plural,
            "singularName": kind.kind.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": VERBS,
        }
        if kind.short:
            row["shortNames"] = list(kind.short)
        if kind.categories:
            row["categories"] = list(kind.categories)
        rows.append(row)
        for name, group_version, sent, verbs in _subresources(kind):
            sub: Object = {
                "name": f"{kind.plural}/{name}",
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": sent,
                "verbs": list(verbs),
            }
            group, _, short = group_version.rpartition("/")
            if group_version != kind.group_version:
                sub |= {"group": group, "version": short}
            rows.append(sub)
    if version == REVIEWS:
        kind_of = "SelfSubjectAccessReview"
        rows.append(
            {
                "name": "selfsubjectaccessreviews",
                "singularName": kind_of.lower(),
                "namespaced": False,
                "kind": kind_of,
                "verbs": ["create"],
            }
        )
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": rows}


def _of(version: str) -> list[Kind]:
    return sorted((kind for kind in KINDS.values() if kind.group_version == version), key=lambda one: one.plural)


def _subresources(kind: Kind) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    if kind.status:
        yield "status", kind.group_version, kind.kind, ("get", "patch", "update")
    if kind.scale:
        yield "scale", "autoscaling/v1", "Scale", ("get", "patch", "update")
    yield from SUBRESOURCES.get(kind.key, ())


def _aggregated(root: str) -> Answer:
    """Return all groups and their resources at once. Source: ``apidiscovery.k8s.io/v2``."""
    items = []
    for group in [""] if root == "api" else _groups():
        versions = [one for one in _versions() if (one == "v1" if not group else one.startswith(f"{group}/"))]
        listed = [
            {
                "version": one.rpartition("/")[2],
                "freshness": "Current",
                "resources": [_described(kind) for kind in _of(one)] + _reviews(one),
            }
            for one in versions
        ]
        items.append({"metadata": {"name": group or None, "creationTimestamp": None}, "versions": listed})
    answer = said({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
    answer.content_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    return answer


def _described(kind: Kind) -> Object:
    def names(version: str, of: str) -> Object:
        group, _, short = version.rpartition("/")
        return {"group": group, "version": short, "kind": of}

    return {
        "resource": kind.plural,
        "responseKind": names(kind.group_version, kind.kind),
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.kind.lower(),
        "verbs": VERBS,
        **({"shortNames": list(kind.short)} if kind.short else {}),
        **({"categories": list(kind.categories)} if kind.categories else {}),
        "subresources": [
            {"subresource": name, "responseKind": names(version, sent), "verbs": list(verbs)}
            for name, version, sent, verbs in _subresources(kind)
        ],
    }


def _reviews(version: str) -> list[Object]:
    if version != REVIEWS:
        return []
    kind = "SelfSubjectAccessReview"
    return [
        {
            "resource": "selfsubjectaccessreviews", "responseKind": {"group": "authorization.k8s.io", "version": "v1", "kind": kind},
            "scope": "Cluster", "singularResource": kind.lower(), "verbs": ["create"],
        }
    ]  # fmt: skip


def _openapi_path(version: str) -> str:
    return f"apis/{version}" if "/" in version else f"api/{version}"


def _openapi(path: str) -> Object:
    """Return paths with what can be asked of them, and schemas that say no more than the kind."""
    version = path.removeprefix("apis/").removeprefix("api/")
    paths: Object = {}
    schemas: Object = {}
    options = [
        {"name": name, "in": "query", "schema": {"type": "string"}} for name in ("dryRun", "fieldManager", "fieldValidation")
    ]
    for kind in _of(version):
        of = {"group": kind.group, "version": version.rpartition("/")[2], "kind": kind.kind}
        schema = f"sandbox.{version.replace('/', '.')}.{kind.kind}"
        schemas[schema] = {"type": "object", "x-kubernetes-group-version-kind": [of]}
        body = {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}
        responses = {"200": {"description": "OK", **body}}
        common = {"parameters": options, "responses": responses, "x-kubernetes-group-version-kind": of}
        base = f"/{path}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"/{path}/{kind.plural}"
        paths[base] = {
            "get": {"responses": responses, "x-kubernetes-action": "list", "x-kubernetes-group-version-kind": of},
            "post": {**common, "requestBody": body, "x-kubernetes-action": "post"},
        }
        paths[f"{base}/{{name}}"] = {
            "get": {"responses": responses, "x-kubernetes-action": "get", "x-kubernetes-group-version-kind": of},
            "put": {**common, "requestBody": body, "x-kubernetes-action": "put"},
            "patch": {**common, "x-kubernetes-action": "patch"},
            "delete": {"responses": responses, "x-kubernetes-action": "delete", "x-kubernetes-group-version-kind": of},
        }
    info = {"title": "Kubernetes", "version": str(VERSION["gitVersion"])}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}
