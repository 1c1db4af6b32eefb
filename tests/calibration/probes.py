"""What is asked of both API servers: objects, patches, owners of fields, lists, watches, deletions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.calibration.caller import APPLY, JSON_PATCH, MERGE, STRATEGIC, Caller, config, pod, pod_spec, workload

OTHER = "00000000-0000-0000-0000-000000000001"


async def optimistic_concurrency(c: Caller) -> None:
    """An old resourceVersion is a 409 in a PUT and in a patch, a failing test a 422; another UID is 409 in a PUT and 422 in a patch."""
    path = c.core("configmaps", "a")
    first = await c.make(c.core("configmaps"), config("a", x="1"))
    await c.see("PUT", path, {**first, "data": {"x": "2"}}, "data.x")
    await c.see("PUT", path, {**first, "data": {"x": "3"}})
    await c.see("PUT", path, config("a", x="4"), "data.x")
    await c.see("PATCH", path, {"metadata": {"resourceVersion": "1"}, "data": {"x": "5"}}, kind=MERGE)
    await c.see("PATCH", path, [{"op": "test", "path": "/metadata/resourceVersion", "value": "1"}], kind=JSON_PATCH)
    await c.see("PUT", path, {**config("a"), "metadata": {"name": "a", "uid": OTHER}})
    await c.see("PATCH", path, {"metadata": {"uid": OTHER}}, kind=STRATEGIC)
    await c.see("PUT", path, config("b"))
    await c.see("PUT", c.core("configmaps", "nobody"), config("nobody"))
    await c.see("PATCH", c.core("configmaps", "nobody"), {"data": {}}, kind=MERGE)
    before = await c.get(path)
    after = await c.see("PATCH", path, {"data": {"x": "4"}}, kind=MERGE)
    c.say(
        f"a patch that changes nothing keeps the version: {before['metadata']['resourceVersion'] == after['metadata']['resourceVersion']}"
    )
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
    await c.make(c.group("coordination.k8s.io/v1", "leases"), lease)
    await c.see("PUT", c.group("coordination.k8s.io/v1", "leases", "l"), lease)


async def creation(c: Caller) -> None:
    """What is refused of a new object, and how."""
    await c.see("POST", c.core("configmaps"), config("a"), "metadata.name")
    await c.see("POST", c.core("configmaps"), config("a"))
    await c.see("POST", "/api/v1/namespaces/nowhere-at-all/configmaps", config("a"))
    await c.see("POST", c.core("configmaps"), {"data": {}})
    made = await c.see("POST", c.core("configmaps"), {"metadata": {"generateName": "some-"}}, "metadata.generateName")
    c.say(f"a generated name: {made['metadata']['name'].startswith('some-')} {len(made['metadata']['name'])}")
    await c.see("POST", c.core("configmaps"), {"metadata": {"name": "b", "resourceVersion": "7"}})
    await c.see("POST", c.core("configmaps"), {**config("c"), "kind": "Secret", "apiVersion": "v1"})
    await c.see("POST", c.core("configmaps"), config("Not_A_Name"))
    await c.see("POST", c.core("configmaps"), {"metadata": {"name": "d", "namespace": "default"}})
    await c.see("POST", c.core("configmaps"), {"metadata": {"name": "e", "labels": {"a": "not a label"}}})
    seen = await c.send("POST", c.core("configmaps"), raw=b"{nonsense")
    c.say(f"{seen.status} {seen.body['reason']}")
    seen = await c.send("POST", c.core("configmaps"), raw=b"x", kind="text/plain")
    c.say(f"{seen.status} {seen.body['reason']}")
    await c.see("GET", c.core("nonsense"))
    await c.see("GET", "/apis/nonsense.io/v1/things")
    await c.see("GET", c.core("configmaps", "nobody"))
    await c.see("GET", c.group("apps/v1", "deployments", "nobody"))
    await c.see("POST", "/api/v1/configmaps", config("f"))
    await c.see("POST", f"{c.core('configmaps')}?dryRun=All", config("g"), "metadata.name")
    await c.see("GET", c.core("configmaps", "g"))


async def validation(c: Caller) -> None:
    """What is wrong with an object is said field by field."""
    deployments = c.group("apps/v1", "deployments")
    body = workload()
    await c.see("POST", deployments, {**body, "spec": {**body["spec"], "selector": {"matchLabels": {"app": "other"}}}})
    await c.see("POST", deployments, {**body, "spec": {**body["spec"], "replicas": -1}})
    await c.see("POST", deployments, workload(pod={"containers": [{"name": "web"}]}))
    await c.see("POST", deployments, workload(pod={"restartPolicy": "Never"}))
    await c.see("POST", c.core("pods"), {"metadata": {"name": "p"}, "spec": {"containers": []}})
    await c.see("POST", c.core("pods"), {"metadata": {"name": "p"}, "spec": {"containers": [{"image": "x"}]}})
    budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "maxUnavailable": 1, "selector": {}}}
    seen = await c.send("POST", c.group("policy/v1", "poddisruptionbudgets"), budget)
    c.say(f"{seen.status} {seen.body['reason']} {[one['field'] for one in seen.body['details']['causes']]}")
    await c.see("POST", c.group("batch/v1", "jobs"), {"metadata": {"name": "j"}, "spec": {"template": {"spec": pod_spec()}}})
    await c.see("POST", c.core("services"), {"metadata": {"name": "s"}, "spec": {}})
    scaler: dict[str, Any] = {
        "metadata": {"name": "h"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
            "minReplicas": 3,
            "maxReplicas": 2,
        },
    }
    await c.see("POST", c.group("autoscaling/v2", "horizontalpodautoscalers"), scaler)
    await c.make(deployments, body)
    seen = await c.send("PATCH", f"{deployments}/web", {"spec": {"selector": {"matchLabels": {"x": "y"}}}}, kind=MERGE)
    c.say(f"{seen.status} {seen.body['reason']} {sorted(one['field'] for one in seen.body['details']['causes'])}")
    await c.see("PATCH", f"{deployments}/web", {"spec": {"template": {"spec": {"containers": [{"name": "web"}]}}}}, kind=MERGE)
    await c.make(c.group("apps/v1", "statefulsets"), workload("db", serviceName="db"))
    await c.see("PATCH", c.group("apps/v1", "statefulsets", "db"), {"spec": {"serviceName": "x"}}, kind=MERGE)
    await c.make(c.core("pods"), pod("p"))
    seen = await c.send("PATCH", c.core("pods", "p"), {"spec": {"restartPolicy": "Never"}}, kind=MERGE)
    c.say(f"{seen.status} {seen.body['reason']} {[(one['reason'], one['field']) for one in seen.body['details']['causes']]}")
    image = {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}
    await c.see("PATCH", c.core("pods", "p"), image, "spec.containers.0.image", "metadata.generation", kind=STRATEGIC)


async def defaults(c: Caller) -> None:
    """What the server adds to what was not said."""
    await c.see(
        "POST", c.group("apps/v1", "deployments"), workload(), "spec.replicas", "spec.strategy", "spec.revisionHistoryLimit",
        "spec.progressDeadlineSeconds", "spec.template.spec.restartPolicy", "spec.template.spec.terminationGracePeriodSeconds",
        "spec.template.spec.dnsPolicy", "spec.template.spec.schedulerName", "spec.template.spec.containers.0.imagePullPolicy",
        "spec.template.spec.containers.0.terminationMessagePath", "metadata.generation", "status",
    )  # fmt: skip
    await c.see(
        "POST", c.group("apps/v1", "statefulsets"), workload("db", serviceName="db"), "spec.replicas", "spec.podManagementPolicy",
        "spec.updateStrategy", "spec.revisionHistoryLimit", "spec.persistentVolumeClaimRetentionPolicy", "status",
    )  # fmt: skip
    await c.see(
        "POST", c.group("apps/v1", "daemonsets"), workload("agent", pod={"nodeSelector": {"no": "where"}}), "spec.updateStrategy",
        "spec.revisionHistoryLimit", "status",
    )  # fmt: skip
    await c.see("POST", c.group("apps/v1", "replicasets"), workload("rs", replicas=0), "spec.replicas", "status")
    await c.see(
        "POST", c.core("pods"), pod("p"), "spec.tolerations", "spec.restartPolicy", "status", "metadata.generation", "spec.containers.0.resources",
    )  # fmt: skip
    await c.see("POST", c.core("pods"), pod("latest", image="web"), "spec.containers.0.imagePullPolicy")
    sized = {"containers": [{"name": "a", "image": "a:1", "resources": {"requests": {"cpu": "1"}}}]}
    await c.see("POST", c.core("pods"), {"metadata": {"name": "sized"}, "spec": sized}, "status.qosClass")
    job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": pod_spec(restartPolicy="Never")}}}
    made = await c.see(
        "POST", c.group("batch/v1", "jobs"), job, "spec.backoffLimit", "spec.completions", "spec.parallelism", "spec.suspend",
        "spec.completionMode", "spec.podReplacementPolicy",
    )  # fmt: skip
    c.say(
        f"labels of a Job's pods: {sorted(made['spec']['template']['metadata']['labels'])} {list(made['spec']['selector']['matchLabels'])}"
    )
    service = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}}}
    await c.see(
        "POST",
        c.core("services"),
        service,
        "spec.type",
        "spec.ports",
        "spec.sessionAffinity",
        "spec.internalTrafficPolicy",
        "status",
    )
    budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "none"}}}}
    await c.see("POST", c.group("policy/v1", "poddisruptionbudgets"), budget, "spec", "metadata.generation")
    await c.see("POST", c.core("secrets"), {"metadata": {"name": "s"}, "stringData": {"a": "b"}}, "type", "data")
    await c.see("GET", "/api/v1/namespaces/{ns}", None, "spec", "status")
    about = {"kind": "Pod", "namespace": c.namespace, "name": "p"}
    event = {"metadata": {"name": "e"}, "involvedObject": about, "reason": "Why", "message": "m", "type": "Warning"}
    await c.see("POST", c.core("events"), event, "source", "reportingComponent", "eventTime", "reason")


async def generations_and_subresources(c: Caller) -> None:
    """The generation follows the spec alone; the status is written through its subresource alone."""
    path = c.group("apps/v1", "deployments", "web")
    await c.make(c.group("apps/v1", "deployments"), workload(replicas=0))

    async def seen() -> bool:
        return bool((await c.get(path))["status"].get("observedGeneration") == 1)

    await c.until(seen)
    await c.see("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, "metadata.generation", kind=MERGE)
    await c.see("PATCH", path, {"spec": {"minReadySeconds": 1}}, "metadata.generation", kind=MERGE)
    await c.see("PATCH", path, {"status": {"readyReplicas": 9}}, "status.readyReplicas", kind=MERGE)
    node = await c.node()
    status = {"status": {"nodeInfo": {}, "conditions": [{"type": "Odd", "status": "True"}]}, "spec": {"unschedulable": True}}
    made = await c.see("PATCH", f"/api/v1/nodes/{node}/status", status, "spec.unschedulable", kind=STRATEGIC)
    c.say(f"conditions merged by type: {sorted(one['type'] for one in made['status']['conditions'])}")
    await c.see("GET", f"{path}/scale", None, "apiVersion", "spec", "status", "metadata.name")
    await c.see("PATCH", f"{path}/scale", {"spec": {"replicas": 2}}, "spec", kind=MERGE)
    await c.see(
        "PUT",
        f"{path}/scale",
        {"metadata": {"name": "web", "namespace": c.namespace, "resourceVersion": "1"}, "spec": {"replicas": 3}},
    )
    await c.see("GET", path, None, "spec.replicas", "metadata.generation")
    await c.see("GET", f"{c.core('configmaps', 'x')}/scale")
    await c.make(c.core("pods"), pod("p"))
    await c.see("PATCH", f"{c.core('pods', 'p')}/status", {"metadata": {"uid": OTHER}, "status": {}}, kind=STRATEGIC)


async def strategic_merge(c: Caller) -> None:
    """Containers merge by name, taints are replaced, directives delete and order; a set is joined."""
    path = c.group("apps/v1", "deployments", "web")
    body = workload(replicas=0)
    body["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    body["metadata"]["annotations"] = {"keep": "me", "drop": "me"}
    await c.make(c.group("apps/v1", "deployments"), body)

    async def see(patch: Any, *show: str) -> None:
        made = await c.see("PATCH", path, patch, *show, kind=STRATEGIC)
        found = made["spec"]["template"]["spec"]["containers"]
        c.say(f"{[(one['name'], one['image'], [(e['name'], e['value']) for e in one.get('env', ())]) for one in found]}")

    def containers(*some: Any, **more: Any) -> Any:
        return {"spec": {"template": {"spec": {"containers": list(some), **more}}}}

    await see(containers({"name": "side", "image": "side:1"}))
    await see(containers({"name": "web", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}))
    await see(containers({"name": "web", "env": [{"name": "A", "$patch": "delete"}]}))
    await see(containers({"name": "side", "$patch": "delete"}))
    await see(
        {"metadata": {"annotations": {"drop": None, "new": "one"}}},
        "metadata.annotations.keep",
        "metadata.annotations.new",
        "metadata.annotations.drop",
    )
    await see(
        containers(
            {"name": "z", "image": "z"},
            {"name": "a", "image": "a"},
            **{"$setElementOrder/containers": [{"name": "z"}, {"name": "web"}, {"name": "a"}]},
        )
    )
    await see({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}, "spec.strategy")
    await see(containers({"$patch": "replace"}, {"name": "only", "image": "only:1"}))
    node = await c.node(taints=[{"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoSchedule"}])
    await c.see(
        "PATCH",
        f"/api/v1/nodes/{node}",
        {"spec": {"taints": [{"key": "c", "effect": "NoSchedule"}]}},
        "spec.taints",
        kind=STRATEGIC,
    )
    await c.make(c.core("configmaps"), {"metadata": {"name": "f", "finalizers": ["example.org/a"]}})
    finalizers = {"metadata": {"finalizers": ["example.org/b"]}}
    await c.see("PATCH", c.core("configmaps", "f"), finalizers, "metadata.finalizers", kind=STRATEGIC)
    gone = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.org/a", "example.org/b"]}}
    await c.see("PATCH", c.core("configmaps", "f"), gone, "metadata.finalizers", kind=STRATEGIC)


async def other_patches(c: Caller) -> None:
    """JSON patch and merge patch as their RFCs say; types that are none are 415, bodies that are none 400."""
    path = c.core("configmaps", "a")
    await c.make(c.core("configmaps"), {**config("a", x="1", y="2"), "metadata": {"name": "a", "labels": {"l": "1"}}})
    await c.see("PATCH", path, {"data": {"x": None, "z": "3"}}, "data", kind=MERGE)
    await c.see(
        "PATCH",
        path,
        [{"op": "add", "path": "/data/w", "value": "4"}, {"op": "remove", "path": "/data/y"}],
        "data",
        kind=JSON_PATCH,
    )
    await c.see("PATCH", path, [{"op": "move", "from": "/data/w", "path": "/data/v"}], "data", kind=JSON_PATCH)
    await c.see("PATCH", path, [{"op": "copy", "from": "/data/v", "path": "/data/u"}], "data", kind=JSON_PATCH)
    await c.see("PATCH", path, [{"op": "replace", "path": "/data/v", "value": "5"}], "data", kind=JSON_PATCH)
    await c.see(
        "PATCH",
        path,
        [{"op": "add", "path": "/metadata/annotations", "value": {"a/b": "1"}}],
        "metadata.annotations",
        kind=JSON_PATCH,
    )
    await c.see(
        "PATCH",
        path,
        [{"op": "replace", "path": "/metadata/annotations/a~1b", "value": "2"}],
        "metadata.annotations",
        kind=JSON_PATCH,
    )
    for bad in (
        {"op": "remove", "path": "/data/none"},
        {"op": "replace", "path": "/data/none", "value": "1"},
        {"op": "test", "path": "/data/v", "value": "9"},
    ):
        seen = await c.send("PATCH", path, [bad], kind=JSON_PATCH)
        c.say(f"{bad['op']}: {seen.status} {seen.body.get('reason', '-')}")
    for kind, body in ((JSON_PATCH, {"data": {}}), (MERGE, [1]), (STRATEGIC, [1]), ("application/json", {}), ("text/plain", {})):
        seen = await c.send("PATCH", path, body, kind=kind)
        c.say(f"{kind.removeprefix('application/')} {json.dumps(body)}: {seen.status} {seen.body.get('reason', '-')}")
    await c.see("PATCH", f"{path}?dryRun=All", {"data": {"v": "dry"}}, "data.v", kind=MERGE)
    await c.see("GET", path, None, "data.v")


async def server_side_apply(c: Caller) -> None:
    """Fields have owners; another's field is a conflict that says whose it is; what is applied no longer goes; forcing takes over."""
    path = c.group("apps/v1", "deployments", "web")

    def applied(**spec: Any) -> Any:
        return {"apiVersion": "apps/v1", "kind": "Deployment", **workload(**spec)}

    await c.see("PATCH", path, applied(replicas=0), kind=APPLY)
    await c.see(
        "PATCH",
        f"{path}?fieldManager=one",
        applied(replicas=0, minReadySeconds=3),
        "spec.replicas",
        "spec.minReadySeconds",
        kind=APPLY,
    )
    await c.see("PATCH", f"{path}?fieldManager=two", applied(replicas=1), kind=APPLY)
    await c.see("PATCH", f"{path}?fieldManager=two&force=true", applied(replicas=1), "spec.replicas", kind=APPLY)
    await c.see("PATCH", f"{path}?fieldManager=one", applied(), "spec.replicas", "spec.minReadySeconds", kind=APPLY)
    await c.see("PATCH", f"{path}?fieldManager=hand", {"spec": {"replicas": 2}}, "spec.replicas", kind=MERGE)
    await c.see("PATCH", f"{path}?fieldManager=two", applied(replicas=1, image="web:2"), kind=APPLY)
    await c.see("PATCH", f"{path}/scale?fieldManager=scaler", {"spec": {"replicas": 3}}, "spec.replicas", kind=MERGE)
    await c.see("PATCH", f"{path}?fieldManager=two", applied(replicas=1), kind=APPLY)
    await c.see("PATCH", f"{path}?fieldManager=one", applied(image="web:3"), kind=APPLY)
    found = await c.get(path)
    c.say(
        f"{sorted((one['manager'], one['operation'], one.get('subresource', '')) for one in found['metadata']['managedFields'] if one['manager'] != 'kube-controller-manager')}"
    )
    mine = next(one for one in found["metadata"]["managedFields"] if one["manager"] == "one")
    c.say(json.dumps(mine["fieldsV1"], sort_keys=True))
    await c.see(
        "PATCH",
        f"{c.core('configmaps', 'x')}?fieldManager=one",
        {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}, "data": {"a": "1", "b": "2"}},
        "data",
        kind=APPLY,
    )
    await c.see(
        "PATCH",
        f"{c.core('configmaps', 'x')}?fieldManager=one",
        {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}, "data": {"a": "1"}},
        "data",
        kind=APPLY,
    )
    await c.see("PATCH", f"{c.core('configmaps', 'x')}?fieldManager=one", {"metadata": {"name": "x"}}, kind=APPLY)


async def pages(c: Caller) -> None:
    """A list in pages is one state of the world: what changes meanwhile is not seen; selectors, counts and tokens as they are."""
    for name in "abcde":
        await c.make(c.core("configmaps"), {"metadata": {"name": name, "labels": {"odd": str(ord(name) % 2)}}})

    def names(body: Any) -> list[str]:
        return [one["metadata"]["name"] for one in body["items"] if one["metadata"]["name"] != "kube-root-ca.crt"]

    path = c.core("configmaps") + "?labelSelector=odd"
    first = await c.see("GET", f"{path}&limit=2", None, "metadata.remainingItemCount")
    c.say(f"{names(first)} {bool(first['metadata'].get('continue'))}")
    await c.send("DELETE", c.core("configmaps", "d"))
    second = await c.see("GET", f"{path}&limit=2&continue={first['metadata']['continue']}", None)
    c.say(f"{names(second)} same version: {first['metadata']['resourceVersion'] == second['metadata']['resourceVersion']}")
    third = await c.see("GET", f"{path}&limit=2&continue={second['metadata']['continue']}", None)
    c.say(f"{names(third)} {bool(third['metadata'].get('continue'))}")
    c.say(f"{names(await c.get(path))}")
    c.say(f"items say their kind: {'kind' in (await c.get(path))['items'][0]}")
    seen = await c.send("GET", f"{path}&continue=nonsense")
    c.say(f"{seen.status} {seen.body['reason']}")
    leases = c.group("coordination.k8s.io/v1", "leases")
    for name in "xyz":
        await c.make(leases, {"metadata": {"name": name}})
    await c.see("GET", f"{leases}?limit=1", None, "metadata.remainingItemCount")
    for selector in ("odd=1", "odd!=1", "odd in (0,1)", "odd notin (1)", "!odd", "odd==0"):
        found = await c.send("GET", f"{c.core('configmaps')}?labelSelector={selector.replace(' ', '%20')}")
        c.say(f"{selector}: {names(found.body)}")
    await c.see("GET", f"{c.core('configmaps')}?fieldSelector=metadata.name=a", None, "items.0.metadata.name", "items.1")
    await c.see("GET", f"{c.core('configmaps')}?fieldSelector=data.x=a")
    await c.see("GET", f"{c.core('pods')}?fieldSelector=spec.image=a")
    seen = await c.send("GET", f"{c.core('configmaps')}?labelSelector=a%20b%20c")
    c.say(f"{seen.status} {seen.body['reason']}")
    await c.see("GET", f"{c.core('configmaps')}?resourceVersionMatch=Exact")
    seen = await c.send("GET", f"{c.core('configmaps')}?resourceVersion=99999999&resourceVersionMatch=NotOlderThan")
    causes = [one["reason"] for one in seen.body["details"]["causes"]]
    c.say(f"{seen.status} {seen.body['reason']} {causes} {seen.headers.get('Retry-After')}")


async def continue_tokens_expire(c: Caller) -> None:
    """Once its version is compacted away a token is 410, with a token that goes on inconsistently."""
    for name in "abcde":
        await c.make(c.core("secrets"), {"metadata": {"name": name}})
    first = await c.get(f"{c.core('secrets')}?limit=2")
    await c.make(c.core("secrets"), {"metadata": {"name": "ca"}})
    path = f"{c.core('secrets')}?limit=2&continue={first['metadata']['continue']}"
    if c.sandbox is not None:
        c.sandbox.storage.compact()

    async def old() -> bool:
        return (await c.send("GET", path)).status == 410

    await c.until(old, what="the token is too old")
    seen = await c.send("GET", path)
    c.say(f"{seen.status} {seen.body['reason']}: {seen.body['message']}")
    rest = await c.get(f"{c.core('secrets')}?continue={seen.body['metadata']['continue']}")
    c.say(f"{[one['metadata']['name'] for one in rest['items']]}")


async def watches(c: Caller) -> None:
    """Changes in order, what enters and leaves a selector, bookmarks, initial events; options that cannot be."""
    await c.make(c.core("configmaps"), {"metadata": {"name": "a", "labels": {"in": "1"}}})
    listed = await c.get(c.core("configmaps"))
    version = listed["metadata"]["resourceVersion"]

    async def change() -> None:
        await asyncio.sleep(0.2)
        await c.make(c.core("configmaps"), config("b"))
        await c.send("PATCH", c.core("configmaps", "b"), {"metadata": {"labels": {"in": "1"}}}, kind=MERGE)
        await c.send("PATCH", c.core("configmaps", "a"), {"data": {"x": "1"}}, kind=MERGE)
        await c.send("PATCH", c.core("configmaps", "b"), {"metadata": {"labels": {"in": None}}}, kind=MERGE)
        await c.send("DELETE", c.core("configmaps", "a"))
        await c.make(c.core("configmaps"), {"metadata": {"name": "end", "labels": {"in": "1"}}})

    def over(events: list[Any]) -> bool:
        return bool(events[-1]["object"]["metadata"].get("name") == "end")

    path = f"{c.core('configmaps')}?watch=true&resourceVersion={version}"
    async with asyncio.TaskGroup() as group:
        group.create_task(change())
        plain = group.create_task(c.watch(path, until=over))
        chosen = group.create_task(c.watch(f"{path}&labelSelector=in%3D1", until=over))
        named = group.create_task(c.watch(f"{path}&fieldSelector=metadata.name%3Da&timeoutSeconds=2", until=over))
    for task in (plain, chosen, named):
        c.say(" | ".join(c.event(one) for one in task.result()))
    again = await c.watch(path, until=over)
    c.say("again: " + " | ".join(c.event(one) for one in again))
    begun = await c.watch(f"{c.core('configmaps')}?watch=true&labelSelector=in&timeoutSeconds=2", until=over)
    c.say("unversioned: " + " | ".join(c.event(one) for one in begun))
    initial = f"{c.core('configmaps')}?watch=true&labelSelector=in&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    events = await c.watch(initial, until=lambda seen: seen[-1]["type"] == "BOOKMARK")
    c.say("initial: " + " | ".join(c.event(one) for one in events))
    marks = f"{path.replace(version, str(int(version)))}&allowWatchBookmarks=true&timeoutSeconds=8"
    events = await c.watch(marks, until=lambda seen: seen[-1]["type"] == "BOOKMARK")
    c.say(f"before its end: {events[-1]['type']} {'resourceVersion' in events[-1]['object']['metadata']}")
    for query in ("sendInitialEvents=true", "resourceVersionMatch=NotOlderThan&resourceVersion=1"):
        (refused,) = await c.watch(f"{c.core('configmaps')}?watch=true&{query}", until=lambda seen: True)
        c.say(
            f"{query}: {refused['object']['code']} {refused['object']['reason']} {[one['field'] for one in refused['object']['details']['causes']]}"
        )


async def shapes(c: Caller) -> None:
    """Tables and bare metadata for those who ask; what nobody can write is 406."""
    await c.make(c.core("configmaps"), config("a", x="1", y="2"))
    table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    body = await c.see("GET", c.core("configmaps", "a"), None, "apiVersion", accept=table)
    c.say(
        f"{[one['name'] for one in body['columnDefinitions']]} {body['rows'][0]['cells'][:2]} {body['rows'][0]['object']['kind']}"
    )
    one = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    await c.see("GET", c.core("configmaps", "a"), None, "apiVersion", "metadata.name", "data", accept=one)
    many = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    await c.see(
        "GET", f"{c.core('configmaps')}?fieldSelector=metadata.name=a", None, "apiVersion", "items.0.metadata.name", accept=many
    )
    seen = await c.send("GET", c.core("configmaps", "a"), accept="text/html")
    c.say(f"{seen.status} {seen.body['reason'] if isinstance(seen.body, dict) else ''}")
    for version, plural in (
        ("v1", "pods"), ("v1", "services"), ("v1", "events"), ("v1", "configmaps"), ("v1", "secrets"), ("v1", "resourcequotas"),
        ("v1", "persistentvolumeclaims"), ("apps/v1", "deployments"), ("apps/v1", "replicasets"), ("apps/v1", "statefulsets"),
        ("apps/v1", "daemonsets"), ("apps/v1", "controllerrevisions"), ("batch/v1", "jobs"), ("batch/v1", "cronjobs"),
        ("policy/v1", "poddisruptionbudgets"), ("autoscaling/v2", "horizontalpodautoscalers"), ("discovery.k8s.io/v1", "endpointslices"),
        ("coordination.k8s.io/v1", "leases"),
    ):  # fmt: skip
        path = c.core(plural) if version == "v1" else c.group(version, plural)
        body = (await c.send("GET", path, accept=table)).body
        c.say(f"{plural}: " + ", ".join(f"{one['name']}{'+' if one['priority'] else ''}" for one in body["columnDefinitions"]))
    for plural in ("nodes", "namespaces"):
        body = (await c.send("GET", f"/api/v1/{plural}", accept=table)).body
        c.say(f"{plural}: " + ", ".join(f"{one['name']}{'+' if one['priority'] else ''}" for one in body["columnDefinitions"]))


async def deletions(c: Caller) -> None:
    """Preconditions, grace, finalizers; what a deletion answers."""
    path = c.core("configmaps", "a")
    await c.make(c.core("configmaps"), config("a"))
    await c.see("DELETE", path, {"preconditions": {"uid": OTHER}})
    await c.see("DELETE", path, {"preconditions": {"resourceVersion": "1"}})
    await c.see("DELETE", f"{path}?dryRun=All", None, "status")
    await c.see("DELETE", path, None, "status", "details.name", "details.kind")
    await c.see("DELETE", path)
    await c.make(c.core("services"), {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    await c.see("DELETE", c.core("services", "s"), None, "metadata.name")
    await c.make(c.core("pods"), pod("unbound"))
    await c.see("DELETE", c.core("pods", "unbound"), None, "metadata.deletionGracePeriodSeconds")
    await c.see("GET", c.core("pods", "unbound"))
    node = await c.node()
    await c.make(c.core("pods"), pod("bound"))
    await c.bind("bound", node)
    await c.see(
        "POST",
        f"{c.core('pods', 'bound')}/binding",
        {"kind": "Binding", "apiVersion": "v1", "metadata": {"name": "bound"}, "target": {"kind": "Node", "name": "other"}},
    )
    await c.see("DELETE", c.core("pods", "bound"), None, "metadata.deletionGracePeriodSeconds")
    await c.see("DELETE", c.core("pods", "bound"), {"gracePeriodSeconds": 60}, "metadata.deletionGracePeriodSeconds")
    await c.see(
        "DELETE",
        f"{c.core('pods', 'bound')}?gracePeriodSeconds=0",
        {"gracePeriodSeconds": 5},
        "metadata.deletionGracePeriodSeconds",
    )
    await c.see("DELETE", c.core("pods", "bound"), {"gracePeriodSeconds": 0, "preconditions": {"uid": OTHER}})
    await c.see("DELETE", c.core("pods", "bound"), {"gracePeriodSeconds": 0})
    await c.see("GET", c.core("pods", "bound"))
    await c.make(c.core("pods"), pod("ended"))
    await c.bind("ended", node)
    await c.runs("ended", ready=False, phase="Succeeded")
    await c.see("DELETE", c.core("pods", "ended"))
    await c.see("GET", c.core("pods", "ended"))
    await c.make(c.core("configmaps"), {"metadata": {"name": "f", "finalizers": ["example.org/a"]}})
    await c.see("DELETE", c.core("configmaps", "f"), None, "metadata.finalizers", "metadata.deletionGracePeriodSeconds")
    await c.see("DELETE", c.core("configmaps", "f"), None, "metadata.finalizers")
    await c.see("PATCH", c.core("configmaps", "f"), {"metadata": {"finalizers": None}}, kind=MERGE)
    await c.see("GET", c.core("configmaps", "f"))
    for name in "xyz":
        await c.make(c.core("secrets"), {"metadata": {"name": name, "labels": {"some": str(name != "z")}}})
    body = await c.see("DELETE", f"{c.core('secrets')}?labelSelector=some=True", None)
    c.say(
        f"{[one['metadata']['name'] for one in body['items']]} {[one['metadata']['name'] for one in (await c.get(c.core('secrets')))['items']]}"
    )


PROBES = (
    optimistic_concurrency, creation, validation, defaults, generations_and_subresources, strategic_merge, other_patches,
    server_side_apply, pages, continue_tokens_expire, watches, shapes, deletions,
)  # fmt: skip
