"""What both clusters do by themselves: evictions and budgets, owners, controllers, quotas, nodes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.calibration.caller import APPLY, JSON_PATCH, MERGE, STRATEGIC, Caller, config, pod, pod_spec, workload

OTHER = "00000000-0000-0000-0000-000000000001"
BUDGETS = "poddisruptionbudgets"
BUDGET_FIELDS = ("status.currentHealthy", "status.desiredHealthy", "status.expectedPods", "status.disruptionsAllowed")


def evict(name: str, **options: Any) -> dict[str, Any]:
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options}


async def budget(c: Caller, name: str, *, app: str = "web", healthy: int | None = None, **spec: Any) -> None:
    """Create a budget and wait until it is counted."""
    path = c.group("policy/v1", BUDGETS)
    await c.make(path, {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": app}}, **spec}})
    await counted(c, name, healthy)


async def counted(c: Caller, name: str, healthy: int | None = None) -> None:
    async def holds() -> bool:
        item = await c.get(c.group("policy/v1", BUDGETS, name))
        status = item["status"]
        seen = status.get("observedGeneration") == item["metadata"]["generation"]
        return bool(seen and (healthy is None or status["currentHealthy"] == healthy))

    await c.until(holds, what=f"budget {name} is counted")


async def running(c: Caller, count: int, *, app: str = "web", ready: bool = True) -> tuple[str, list[str]]:
    """Have a ReplicaSet's pods run on a node; return the node and the pods' names."""
    node = await c.node()
    await c.make(c.group("apps/v1", "replicasets"), workload(app, replicas=count))
    pods = await c.play(app, count, node, ready=ready)
    return node, sorted(one["metadata"]["name"] for one in pods)


async def evictions_and_budgets(c: Caller) -> None:
    """A budget is spent, a spent one is 429 without a time, a dry run asks it too, and a pod that is leaving is let go again."""
    _, pods = await running(c, 3)
    await budget(c, "b", healthy=3, minAvailable=2)
    await c.see("GET", c.group("policy/v1", BUDGETS, "b"), None, *BUDGET_FIELDS, "status.conditions.0.reason")
    await c.see("POST", f"{c.core('pods', pods[0])}/eviction?dryRun=All", evict(pods[0]))
    await c.see("POST", f"{c.core('pods', pods[0])}/eviction", evict(pods[0]), "status")
    found = await c.get(c.core("pods", pods[0]))
    c.say(
        f"{[(one['reason'], one['status']) for one in found['status']['conditions'] if one['type'] == 'DisruptionTarget']} {'deletionTimestamp' in found['metadata']}"
    )
    await counted(c, "b", 2)
    await c.see("POST", f"{c.core('pods', pods[1])}/eviction", evict(pods[1]))
    await c.see("POST", f"{c.core('pods', pods[1])}/eviction", evict(pods[1], dryRun=["All"]))
    await c.see("POST", f"{c.core('pods', pods[0])}/eviction", evict(pods[0]), "status")
    await c.see("POST", f"{c.core('pods', 'nobody')}/eviction", evict("nobody"))
    await c.see("POST", f"{c.core('pods', pods[1])}/eviction", evict("other"))


async def eviction_of_another_uid_burns_the_budget(c: Caller) -> None:
    """The precondition is asked after the budget was spent: 409, and the next eviction is 429."""
    _, pods = await running(c, 2)
    await budget(c, "b", healthy=2, minAvailable=1)
    await c.see("POST", f"{c.core('pods', pods[0])}/eviction", evict(pods[0], preconditions={"uid": OTHER}))
    found = await c.get(c.group("policy/v1", BUDGETS, "b"))
    c.say(f"{found['status']['disruptionsAllowed']} {list(found['status'].get('disruptedPods', {})) == [pods[0]]}")
    await counted(c, "b", 1)
    await c.see("POST", f"{c.core('pods', pods[1])}/eviction", evict(pods[1]))
    await c.see("DELETE", c.core("pods", pods[1]), None, "metadata.deletionGracePeriodSeconds")


async def eviction_with_two_budgets(c: Caller) -> None:
    """It is a 500, for good."""
    _, pods = await running(c, 2)
    await budget(c, "one", minAvailable=0)
    await budget(c, "two", minAvailable=0)
    await c.see("POST", f"{c.core('pods', pods[0])}/eviction", evict(pods[0]))


async def eviction_of_unready_pods(c: Caller) -> None:
    """At the floor a broken pod cannot be evicted, unless the policy is AlwaysAllow; with enough healthy ones it costs nothing."""
    _, pods = await running(c, 2)
    await c.runs(pods[0], ready=False)
    await budget(c, "b", healthy=1, minAvailable=2)
    await c.see("POST", f"{c.core('pods', pods[0])}/eviction", evict(pods[0]))
    always = {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}}
    await c.see("PATCH", c.group("policy/v1", BUDGETS, "b"), always, "metadata.generation", kind=MERGE)
    await counted(c, "b", 1)
    await c.see("POST", f"{c.core('pods', pods[0])}/eviction?dryRun=All", evict(pods[0]), "status")
    less = {"spec": {"unhealthyPodEvictionPolicy": None, "minAvailable": 1}}
    await c.send("PATCH", c.group("policy/v1", BUDGETS, "b"), less, kind=MERGE)
    await counted(c, "b", 1)
    await c.see("POST", f"{c.core('pods', pods[0])}/eviction", evict(pods[0]), "status")
    found = await c.get(c.group("policy/v1", BUDGETS, "b"))
    c.say(f"nothing was spent: {found['status'].get('disruptedPods', {})}")


async def eviction_without_asking(c: Caller) -> None:
    """A pod that is Pending or has ended goes without any budget; one of a namespace that is going away is 403."""
    node = await c.node()
    await c.make(c.core("pods"), pod("pending"))
    await c.make(c.core("pods"), pod("ended"))
    await c.bind("ended", node)
    await c.runs("ended", ready=False, phase="Failed")
    await budget(c, "b", minAvailable=9)
    await c.see("POST", f"{c.core('pods', 'pending')}/eviction", evict("pending"), "status")
    await c.see("GET", c.core("pods", "pending"))
    await c.see("POST", f"{c.core('pods', 'ended')}/eviction", evict("ended"), "status")
    await c.make(c.core("pods"), pod("last"))
    await c.bind("last", node)
    await c.runs("last")
    seen = await c.send("DELETE", "/api/v1/namespaces/{ns}")
    c.say(f"{seen.status} {seen.body['status']['phase']} {seen.body['spec']['finalizers']}")
    await c.see("POST", f"{c.core('pods', 'last')}/eviction", evict("last"))
    await c.see("POST", c.core("configmaps"), config("late"))
    await c.end("last")
    await c.gone("/api/v1/namespaces/{ns}")


async def budget_arithmetic(c: Caller) -> None:
    """Counts and shares, of pods and of what their controllers want; shares round up; unready, finished and ownerless pods."""
    _, pods = await running(c, 5)
    await c.runs(pods[0], ready=False)
    for name, spec in (
        ("a", {"minAvailable": 2}), ("b", {"minAvailable": "50%"}), ("c", {"maxUnavailable": 1}), ("d", {"maxUnavailable": "30%"}),
        ("e", {"maxUnavailable": 0}), ("f", {"minAvailable": 9}), ("g", {"minAvailable": "100%"}),
    ):  # fmt: skip
        await budget(c, name, healthy=4, **spec)
        await c.see("GET", c.group("policy/v1", BUDGETS, name), None, *BUDGET_FIELDS, "status.conditions.0.reason")
    await budget(c, "none", app="nobody", minAvailable=1)
    await c.see("GET", c.group("policy/v1", BUDGETS, "none"), None, *BUDGET_FIELDS, "status.conditions.0.reason")
    await c.make(c.core("pods"), pod("bare", app="bare"))
    await budget(c, "bare", app="bare", maxUnavailable=1)
    await c.see("GET", c.group("policy/v1", BUDGETS, "bare"), None, *BUDGET_FIELDS, "status.conditions.0.reason")
    template = {"metadata": {"labels": {"app": "job"}}, "spec": pod_spec(restartPolicy="Never")}
    await c.make(c.group("batch/v1", "jobs"), {"metadata": {"name": "j"}, "spec": {"template": template}})

    async def made() -> bool:
        return bool(await c.pods("job"))

    await c.until(made)
    await asyncio.sleep(0.5)  # until the budgets' controller has surely seen the pod as well
    body = {"metadata": {"name": "job"}, "spec": {"selector": {"matchLabels": {"app": "job"}}, "maxUnavailable": 1}}
    await c.make(c.group("policy/v1", BUDGETS), body)

    async def failed() -> bool:
        found = (await c.get(c.group("policy/v1", BUDGETS, "job")))["status"].get("conditions") or [{}]
        return bool(found[0].get("reason") == "SyncFailed")

    await c.until(failed)
    shown = (
        "status.disruptionsAllowed",
        "status.observedGeneration",
        "status.conditions.0.status",
        "status.conditions.0.message",
    )
    await c.see("GET", c.group("policy/v1", BUDGETS, "job"), None, *shown)


async def garbage(c: Caller) -> None:
    """Dependents go with their owner in the background; orphaning leaves them; in the foreground the owner waits for them."""
    sets, deployments = c.group("apps/v1", "replicasets"), c.group("apps/v1", "deployments")
    for name in ("back", "fore", "orphan"):
        await c.make(deployments, workload(name, replicas=1))

    async def made() -> bool:
        return [len(await c.pods(name)) for name in ("back", "fore", "orphan")] == [1, 1, 1]

    await c.until(made)
    await c.see("DELETE", f"{deployments}/back", None, "status")

    async def none() -> bool:
        return not await c.pods("back") and not (await c.get(f"{sets}?labelSelector=app=back"))["items"]

    await c.until(none)
    (held,) = await c.pods("fore")
    await c.send(
        "PATCH", c.core("pods", held["metadata"]["name"]), {"metadata": {"finalizers": ["example.org/held"]}}, kind=MERGE
    )
    await c.see("DELETE", f"{deployments}/fore", {"propagationPolicy": "Foreground"}, "metadata.finalizers")
    await asyncio.sleep(0.5)
    await c.see("GET", f"{deployments}/fore", None, "metadata.finalizers")
    await c.send("PATCH", c.core("pods", held["metadata"]["name"]), {"metadata": {"finalizers": None}}, kind=MERGE)
    await c.gone(f"{deployments}/fore")
    await c.see("DELETE", f"{deployments}/orphan", {"propagationPolicy": "Orphan"}, "metadata.finalizers")
    await c.gone(f"{deployments}/orphan")
    left = (await c.get(f"{sets}?labelSelector=app=orphan"))["items"]
    c.say(f"orphans: {len(left)} with owners {[one['metadata'].get('ownerReferences') for one in left]}")
    ghost = {"apiVersion": "v1", "kind": "ConfigMap", "name": "ghost", "uid": OTHER}
    await c.make(c.core("configmaps"), {"metadata": {"name": "child", "ownerReferences": [ghost]}})
    await c.gone(c.core("configmaps", "child"))
    first, second = [await c.make(c.core("configmaps"), config(name)) for name in ("p1", "p2")]
    owners = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": one["metadata"]["name"], "uid": one["metadata"]["uid"]}
        for one in (first, second)
    ]
    await c.make(c.core("configmaps"), {"metadata": {"name": "two", "ownerReferences": owners}})
    await c.send("DELETE", c.core("configmaps", "p1"))

    async def one_left() -> bool:
        return len((await c.get(c.core("configmaps", "two")))["metadata"]["ownerReferences"]) == 1

    await c.until(one_left)
    await c.send("DELETE", c.core("configmaps", "p2"))
    await c.gone(c.core("configmaps", "two"))
    job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": pod_spec(restartPolicy="Never")}}}
    await c.make(c.group("batch/v1", "jobs"), job)

    async def started() -> bool:
        return bool((await c.get(f"{c.core('pods')}?labelSelector=job-name=j"))["items"])

    await c.until(started)
    await c.see("DELETE", c.group("batch/v1", "jobs", "j"), None, "metadata.finalizers")


async def deployments(c: Caller) -> None:
    """Surge and unavailability, revisions, conditions, annotations; a restart is a revision; pausing; the deadline of progress."""
    path = c.group("apps/v1", "deployments", "web")
    sets = f"{c.group('apps/v1', 'replicasets')}?labelSelector=app=web"
    node = await c.node()
    body = workload(replicas=4, progressDeadlineSeconds=2)
    body["metadata"]["annotations"] = {"team": "blue"}
    await c.make(c.group("apps/v1", "deployments"), body)
    await c.play("web", 4, node)

    async def whole() -> bool:
        item = await c.get(path)
        status = item["status"]
        seen = status.get("observedGeneration") == item["metadata"]["generation"]
        counts = [status.get(one, 0) for one in ("availableReplicas", "updatedReplicas", "replicas", "terminatingReplicas")]
        return bool(seen and counts == [4, 4, 4, 0])

    async def see(*more: str) -> None:
        item = await c.get(path)
        status = {name: value for name, value in item["status"].items() if name != "conditions"}
        conditions = sorted((one["type"], one["status"], one["reason"]) for one in item["status"]["conditions"])
        c.say(f"{json.dumps(status, sort_keys=True)} {conditions} {json.dumps(item['metadata']['annotations'], sort_keys=True)}")
        del more

    async def said(reason: str) -> bool:
        return any(one["reason"] == reason for one in (await c.get(path))["status"]["conditions"])

    await c.until(whole)
    await c.until(lambda: said("NewReplicaSetAvailable"))
    await see()
    (first,) = (await c.get(sets))["items"]
    kept = dict(first["metadata"]["annotations"])
    c.say(
        f"{json.dumps(kept, sort_keys=True)} {sorted(first['spec']['selector']['matchLabels'])} owner {first['metadata']['ownerReferences'][0]['kind']}"
    )
    await c.send(
        "PATCH", path, {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}, kind=STRATEGIC
    )

    async def spread() -> bool:
        found = (await c.get(sets))["items"]
        return sorted(one["spec"]["replicas"] for one in found) == [2, 3] and sum(one["status"]["replicas"] for one in found) == 5

    await c.until(spread)
    await c.until(lambda: said("ProgressDeadlineExceeded"))
    await see()
    for one in await c.pods():
        if one["spec"]["containers"][0]["image"] == "web:2":
            await c.bind(one["metadata"]["name"], node)

    async def rolled() -> bool:
        for one in await c.pods():
            if not one["spec"].get("nodeName"):
                await c.bind(one["metadata"]["name"], node)
            await c.send(
                "PATCH",
                f"{c.core('pods', one['metadata']['name'])}/status",
                {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}},
                kind=STRATEGIC,
            )
        for one in (await c.get(f"{c.core('pods')}?labelSelector=app=web"))["items"]:
            if one["metadata"].get("deletionTimestamp"):
                await c.end(one["metadata"]["name"])
        return await whole()

    await c.until(rolled)
    await c.until(lambda: said("NewReplicaSetAvailable"))
    await see()
    found = sorted(
        (await c.get(sets))["items"], key=lambda one: int(one["metadata"]["annotations"]["deployment.kubernetes.io/revision"])
    )
    c.say(f"{[(one['metadata']['annotations']['deployment.kubernetes.io/revision'], one['spec']['replicas']) for one in found]}")
    back = {key: value for key, value in first["spec"]["template"]["metadata"]["labels"].items() if key != "pod-template-hash"}
    template = {**first["spec"]["template"], "metadata": {"labels": back}}
    await c.send("PATCH", path, [{"op": "replace", "path": "/spec/template", "value": template}], kind=JSON_PATCH)
    await c.until(rolled)
    found = sorted(
        (await c.get(sets))["items"], key=lambda one: int(one["metadata"]["annotations"]["deployment.kubernetes.io/revision"])
    )
    c.say(
        f"{[(one['metadata']['annotations']['deployment.kubernetes.io/revision'], one['spec']['replicas'], one['metadata']['name'] == first['metadata']['name']) for one in found]}"
    )
    await c.send("PATCH", path, {"spec": {"paused": True, "replicas": 3}}, kind=MERGE)

    async def paused() -> bool:
        item = await c.get(path)
        return await said("DeploymentPaused") and item["status"].get("replicas") == 3

    await c.until(paused)
    item = await c.get(path)
    c.say(
        f"{[(one['type'], one['status'], one['reason']) for one in item['status']['conditions'] if one['type'] == 'Progressing']}"
    )


async def stateful_sets(c: Caller) -> None:
    """One after the other; a broken revision blocks, and so does the way back until its pod is deleted; OnDelete does nothing."""
    path = c.group("apps/v1", "statefulsets", "db")
    node = await c.node()
    await c.make(c.group("apps/v1", "statefulsets"), workload("db", replicas=2, serviceName="db"))
    await c.play("db", 1, node)
    await c.play("db", 2, node)

    async def until_status(**wanted: Any) -> None:
        async def holds() -> bool:
            item = await c.get(path)
            seen = item["status"].get("observedGeneration") == item["metadata"]["generation"]
            return bool(seen and all(item["status"].get(name, 0) == value for name, value in wanted.items()))

        await c.until(holds, what=str(wanted))

    async def see() -> None:
        status = (await c.get(path))["status"]
        same = status["currentRevision"] == status["updateRevision"]
        counts = {name: value for name, value in status.items() if isinstance(value, int)}
        c.say(f"{json.dumps(counts, sort_keys=True)} same revision: {same}")

    await until_status(readyReplicas=2, updatedReplicas=2)
    await see()
    pods = await c.pods("db")
    c.say(f"{[one['metadata']['name'] for one in pods]} {sorted(name for name in pods[0]['metadata']['labels'])}")
    (revision,) = (await c.get(c.group("apps/v1", "controllerrevisions")))["items"]
    c.say(
        f"{sorted(revision['data']['spec']['template'])} {revision['revision']} {revision['data']['spec']['template']['$patch']}"
    )

    async def image(word: str) -> None:
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "db", "image": word}]}}}}
        await c.send("PATCH", path, patch, kind=STRATEGIC)

    async def replaced(name: str, word: str) -> bool:
        seen = await c.send("GET", c.core("pods", name))
        if seen.status != 200:
            return False
        if seen.body["metadata"].get("deletionTimestamp"):
            await c.end(name)
            return False
        return bool(seen.body["spec"]["containers"][0]["image"] == word)

    await image("db:broken")
    await c.until(lambda: replaced("db-1", "db:broken"))
    await c.bind("db-1", node)
    await c.runs("db-1", ready=False)
    await until_status(readyReplicas=1, updatedReplicas=1)
    await see()
    await image("web:1")
    await asyncio.sleep(1)
    found = {one["metadata"]["name"]: one["spec"]["containers"][0]["image"] for one in await c.pods("db")}
    c.say(f"after the way back: {found}")
    await c.send("DELETE", c.core("pods", "db-1"), {"gracePeriodSeconds": 0})
    await c.until(lambda: replaced("db-1", "web:1"))
    await c.play("db", 2, node)
    await until_status(readyReplicas=2, updatedReplicas=2)
    await see()
    await c.send("PATCH", path, {"spec": {"updateStrategy": {"$patch": "replace", "type": "OnDelete"}}}, kind=STRATEGIC)
    await image("db:3")
    await asyncio.sleep(1)
    found = {one["metadata"]["name"]: one["spec"]["containers"][0]["image"] for one in await c.pods("db")}
    c.say(f"OnDelete: {found}")
    await see()


async def daemon_sets(c: Caller) -> None:
    """A pod a node, tied to it, tolerating what daemons tolerate; cordon keeps none away, a NoSchedule taint does."""
    node, tainted = await c.node(), await c.node(taints=[{"key": "a", "effect": "NoSchedule"}])
    await c.see("PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}}, "spec.unschedulable", kind=STRATEGIC)

    async def cordoned() -> bool:
        return bool((await c.get(f"/api/v1/nodes/{node}"))["spec"].get("taints"))

    await c.until(cordoned)
    found = await c.get(f"/api/v1/nodes/{node}")
    c.say(f"{[(one['key'], one['effect'], 'timeAdded' in one) for one in found['spec']['taints']]}")
    await c.make(c.group("apps/v1", "daemonsets"), workload("agent", pod={"nodeSelector": {"probe": c.namespace}}))

    async def there() -> bool:
        return len(await c.pods("agent")) == 1

    await c.until(there)
    (one,) = await c.pods("agent")
    affinity = one["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    c.say(json.dumps(affinity).replace(node, "NODE"))
    c.say(json.dumps(sorted(f"{each.get('key')}:{each.get('effect')}:{each['operator']}" for each in one["spec"]["tolerations"])))
    await c.bind(one["metadata"]["name"], node)
    await c.runs(one["metadata"]["name"])
    path = c.group("apps/v1", "daemonsets", "agent")

    async def ready() -> bool:
        return bool((await c.get(path))["status"].get("numberAvailable") == 1)

    await c.until(ready)
    await c.see("GET", path, None, "status")
    await c.send("PATCH", f"/api/v1/nodes/{tainted}", {"spec": {"taints": []}}, kind=MERGE)

    async def second() -> bool:
        return len(await c.pods("agent")) == 2

    await c.until(second)
    c.say("a second pod when the taint is gone")


async def jobs(c: Caller) -> None:
    """Success, failure after as many tries as allowed."""
    node = await c.node()
    path = c.group("batch/v1", "jobs")
    for name, limit in (("good", 6), ("bad", 0)):
        await c.make(
            path,
            {"metadata": {"name": name}, "spec": {"backoffLimit": limit, "template": {"spec": pod_spec(restartPolicy="Never")}}},
        )

    async def pods_of(name: str) -> list[Any]:
        return list((await c.get(f"{c.core('pods')}?labelSelector=job-name={name}"))["items"])

    for name, phase in (("good", "Succeeded"), ("bad", "Failed")):

        async def made(name: str = name) -> bool:
            return bool(await pods_of(name))

        await c.until(made)
        (one,) = await pods_of(name)
        await c.bind(one["metadata"]["name"], node)
        await c.runs(one["metadata"]["name"], ready=False, phase=phase)

        async def over(name: str = name) -> bool:
            conditions = (await c.get(f"{path}/{name}"))["status"].get("conditions") or ()
            return any(one["type"] in {"Complete", "Failed"} and one["status"] == "True" for one in conditions)

        await c.until(over)
        status = (await c.get(f"{path}/{name}"))["status"]
        c.say(
            f"{name}: {sorted((one['type'], one['reason'], one['message']) for one in status['conditions'])} {status.get('succeeded', 0)} {status.get('failed', 0)} {'completionTime' in status}"
        )


async def quotas(c: Caller) -> None:
    """A full quota is a 403 in the API's words, a controller's failure is a condition and an event."""
    path = c.core("resourcequotas")
    await c.make(path, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1", "count/deployments.apps": "1"}}})

    async def counted_now() -> bool:
        return bool((await c.get(f"{path}/q"))["status"].get("hard"))

    await c.until(counted_now)
    await c.see("GET", f"{path}/q", None, "status")
    await c.make(c.core("pods"), pod("one", app="one"))
    await c.see("POST", c.core("pods"), pod("two", app="one"))
    deployments = c.group("apps/v1", "deployments")
    await c.make(deployments, workload(replicas=1))
    await c.see("POST", deployments, workload("more"))

    async def refused() -> bool:
        conditions = (await c.get(f"{deployments}/web"))["status"].get("conditions") or ()
        return any(one["type"] == "ReplicaFailure" for one in conditions)

    await c.until(refused)
    (condition,) = [one for one in (await c.get(f"{deployments}/web"))["status"]["conditions"] if one["type"] == "ReplicaFailure"]
    c.say(f"{condition['status']} {condition['reason']} {condition['message']}")

    async def told() -> bool:
        return bool([one for one in (await c.get(c.core("events")))["items"] if one["reason"] == "FailedCreate"])

    await c.until(told)
    event = next(one for one in (await c.get(c.core("events")))["items"] if one["reason"] == "FailedCreate")
    c.say(f"{event['type']} {event['involvedObject']['kind']} {event['message']}")
    await c.send("DELETE", f"{path}/q")
    await c.make(path, {"metadata": {"name": "cpu"}, "spec": {"hard": {"requests.cpu": "1"}}})

    async def refuses() -> bool:
        """The status is the controller's; who admits pods has its own view of quotas, and gets to know a moment later."""
        asked = await c.send("POST", f"{c.core('pods')}?dryRun=All", pod("early", app="x"))
        return asked.status == 403

    await c.until(refuses)
    await c.see("POST", c.core("pods"), pod("sizeless", app="x"))
    sized = {"containers": [{"name": "a", "image": "a:1", "resources": {"requests": {"cpu": "1500m"}}}]}
    await c.see("POST", c.core("pods"), {"metadata": {"name": "big"}, "spec": sized})


async def services(c: Caller) -> None:
    """Endpoints are ready, serving and terminating; a slice says whose it is."""
    node, pods = await running(c, 3)
    await c.runs(pods[1], ready=False)
    await c.make(
        c.core("services"),
        {
            "metadata": {"name": "web"},
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}], "selector": {"app": "web"}},
        },
    )
    slices = f"{c.group('discovery.k8s.io/v1', 'endpointslices')}?labelSelector=kubernetes.io/service-name=web"
    await c.send("DELETE", c.core("pods", pods[2]))

    async def three() -> bool:
        found = (await c.get(slices))["items"]
        conditions = [one["conditions"] for one in found[0].get("endpoints") or ()] if found else []
        return len(conditions) == 3 and sum(1 for one in conditions if one["ready"]) == 1

    await c.until(three)
    (one,) = (await c.get(slices))["items"]
    by_name = {each["targetRef"]["name"]: each for each in one["endpoints"]}
    c.say(
        f"{[json.dumps(by_name[name]['conditions'], sort_keys=True) for name in pods]} {by_name[pods[0]]['nodeName'] == node} {one['addressType']} {json.dumps(one['ports'], sort_keys=True)}"
    )
    c.say(
        f"{one['metadata']['ownerReferences'][0]['kind']} {one['metadata']['labels']['endpointslice.kubernetes.io/managed-by']}"
    )


async def autoscalers(c: Caller) -> None:
    """What is scaled beyond its bounds is brought back; zero replicas disable it."""
    path = c.group("apps/v1", "deployments", "web")
    await c.make(c.group("apps/v1", "deployments"), workload(replicas=5))
    target = {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}
    await c.make(
        c.group("autoscaling/v2", "horizontalpodautoscalers"),
        {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3}},
    )

    async def bound() -> bool:
        return bool((await c.get(path))["spec"]["replicas"] == 3)

    await c.until(bound)
    await c.send("PATCH", f"{path}/scale", {"spec": {"replicas": 0}}, kind=MERGE)

    async def disabled() -> bool:
        found = (await c.get(c.group("autoscaling/v2", "horizontalpodautoscalers", "h")))["status"].get("conditions") or ()
        return any((one["type"], one["status"], one["reason"]) == ("ScalingActive", "False", "ScalingDisabled") for one in found)

    await c.until(disabled)
    c.say(f"replicas {(await c.get(path))['spec']['replicas']}, ScalingActive=False ScalingDisabled")


async def silent_nodes(c: Caller) -> None:
    """Silence after the grace: Unknown, taints, pods not ready; no toleration, no pod; a report takes it all back."""
    nodes = [await c.node() for _ in range(3)]
    silent = nodes[0]
    short = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
        for key in ("not-ready", "unreachable")
    ]
    await c.make(c.core("pods"), pod("tolerant"))
    await c.make(c.core("pods"), pod("short", tolerations=short))
    for name in ("tolerant", "short"):
        await c.bind(name, silent)
        await c.runs(name)
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    stop = asyncio.Event()

    async def beat() -> None:
        for count in range(1000):
            for name in nodes[1:]:
                spec = {
                    "holderIdentity": name,
                    "leaseDurationSeconds": 40,
                    "renewTime": f"2026-01-05T12:{count // 60:02}:{count % 60:02}.000000Z",
                }
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
                await c.send("PATCH", f"{leases}/{name}?fieldManager=beat&force=true", body, kind=APPLY)
            try:
                async with asyncio.timeout(0.5):
                    await stop.wait()
                    return
            except TimeoutError:
                continue

    async def watch() -> None:
        path = f"/api/v1/nodes/{silent}"

        async def unknown() -> bool:
            return any(
                (one["type"], one["status"]) == ("Ready", "Unknown") for one in (await c.get(path))["status"]["conditions"]
            )

        async def tainted() -> bool:
            return len((await c.get(path))["spec"].get("taints") or ()) == 2

        await c.until(unknown)
        await c.until(tainted)
        found = await c.get(path)
        c.say(f"{sorted((one['type'], one['status'], one['reason'], one['message']) for one in found['status']['conditions'])}")
        c.say(f"{sorted((one['key'], one['effect'], 'timeAdded' in one) for one in found['spec']['taints'])}")

        async def not_ready() -> bool:
            found = (await c.get(c.core("pods", "tolerant")))["status"]["conditions"]
            return any((one["type"], one["status"]) == ("Ready", "False") for one in found)

        await c.until(not_ready)

        async def leaving() -> bool:
            return "deletionTimestamp" in (await c.get(c.core("pods", "short")))["metadata"]

        await c.until(leaving)
        found = await c.get(c.core("pods", "short"))
        c.say(
            f"{[(one['reason'], one['message']) for one in found['status']['conditions'] if one['type'] == 'DisruptionTarget']} grace {found['metadata']['deletionGracePeriodSeconds']}"
        )
        c.say(f"the other stays: {'deletionTimestamp' in (await c.get(c.core('pods', 'tolerant')))['metadata']}")
        others = [await c.get(f"/api/v1/nodes/{name}") for name in nodes[1:]]
        c.say(f"the others: {[one['spec'].get('taints') for one in others]}")
        taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
        await c.send("PATCH", path, [{"op": "add", "path": "/spec/taints/-", "value": taint}], kind=JSON_PATCH)
        await c.gone(c.core("pods", "tolerant"))
        await c.gone(c.core("pods", "short"))
        c.say("out of service: both are gone")
        taints = (await c.get(path))["spec"]["taints"]
        place = next(number for number, one in enumerate(taints) if one["key"].endswith("out-of-service"))
        await c.send("PATCH", path, [{"op": "remove", "path": f"/spec/taints/{place}"}], kind=JSON_PATCH)
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2026-01-05T13:00:00Z"}
        await c.status(path, {"conditions": [ready]})

        async def clean() -> bool:
            return not (await c.get(path))["spec"].get("taints")

        await c.until(clean)
        c.say("a report takes the taints away")

    async with asyncio.TaskGroup() as group:
        beating = group.create_task(beat())
        try:
            await watch()
        finally:
            stop.set()
            await beating


async def rights(c: Caller) -> None:
    """Who may not is told so in the API's words, and a review says it before."""
    token = await c.restricted()
    await c.see("GET", c.core("pods"), None, token=token)
    await c.see("GET", c.core("configmaps"), None, token=token)
    await c.see("GET", "/api/v1/nodes", None, token=token)
    await c.see("DELETE", c.core("pods", "x"), None, token=token)
    await c.see("POST", f"{c.core('pods', 'x')}/eviction", evict("x"), token=token)
    await c.see("PATCH", c.group("apps/v1", "deployments", "web"), {}, kind=MERGE, token=token)
    for verb, group, resource, sub in (
        ("list", "", "pods", ""),
        ("create", "", "pods", "eviction"),
        ("patch", "apps", "deployments", ""),
    ):
        asked = {"namespace": c.namespace, "verb": verb, "group": group, "resource": resource, "subresource": sub}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        await c.see("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, "status.allowed", token=token)
    await c.see("GET", c.core("pods"), None, token="nobody's")


PROBES = (
    evictions_and_budgets, eviction_of_another_uid_burns_the_budget, eviction_with_two_budgets, eviction_of_unready_pods,
    eviction_without_asking, budget_arithmetic, garbage, deployments, stateful_sets, daemon_sets, jobs, quotas, services, autoscalers,
    silent_nodes, rights,
)  # fmt: skip
