"""Serves 5,000 pods as a real API server would, from a process of its own: in pages, whole, and as a watch of many events."""

from __future__ import annotations

import json
import sys
from typing import Any

from aiohttp import web

PODS = 5_000


def pod(number: int, version: int) -> dict[str, Any]:
    """Return a pod of about 10 KB, managedFields included."""
    name = f"api-7c9d8f-{number:05d}"
    fields: dict[str, Any] = {
        f"f:{key}": {".": {}, "f:name": {}, "f:value": {}} for key in (f"ENVIRONMENT_VARIABLE_{n:03d}" for n in range(60))
    }
    env = [{"name": f"ENVIRONMENT_VARIABLE_{n:03d}", "value": f"value-{n}"} for n in range(30)]
    container = {"image": "registry.example/shop/api:1.2.3", "env": env, "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    state = {"running": {"startedAt": "2026-01-05T11:00:00Z"}}
    conditions = [
        {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-01-05T11:00:00Z"}
        for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    return {
        "metadata": {
            "name": name, "namespace": f"ns-{number % 50}", "uid": f"uid-{number}", "resourceVersion": str(version), "creationTimestamp": "2026-01-05T11:00:00Z",
            "labels": {"app": "api", "pod-template-hash": "7c9d8f"}, "annotations": {"note": "x" * 200},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-7c9d8f", "uid": "rs", "controller": True}],
            "managedFields": [{"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": fields}} for manager in ("kcm", "kubelet")],
        },
        "spec": {"nodeName": f"node-{number % 100}", "containers": [{"name": "api", **container}, {"name": "proxy", **container}]},
        "status": {
            "phase": "Running", "podIP": "10.0.0.1", "startTime": "2026-01-05T11:00:00Z", "conditions": conditions,
            "containerStatuses": [
                {"name": name, "ready": True, "restartCount": 0, "state": state, "image": "x", "imageID": "y" * 70} for name in ("api", "proxy")
            ],
        },
    }  # fmt: skip


def listed(pods: list[dict[str, Any]], token: str) -> bytes:
    """Return a list's body."""
    meta = {"resourceVersion": "1", **({"continue": token} if token else {})}
    return json.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": meta, "items": pods}).encode()


def main() -> None:
    """Serve until killed; print the port first."""
    pods = [pod(number, number + 1) for number in range(PODS)]
    pages = {
        start: listed(pods[start : start + 500], str(start + 500) if start + 500 < PODS else "") for start in range(0, PODS, 500)
    }
    whole = listed(pods, "")
    events = b"".join(json.dumps({"type": "MODIFIED", "object": one}).encode() + b"\n" for one in pods)

    async def handle(request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(int(request.query.get("rounds", "4"))):
                await response.write(events)
            return response
        body = whole if "limit" not in request.query else pages[int(request.query.get("continue", "0"))]
        return web.Response(body=body, content_type="application/json")

    async def started(_app: web.Application) -> None:
        sys.stdout.flush()

    app = web.Application()
    app.router.add_get("/api/v1/pods", handle)
    app.on_startup.append(started)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
