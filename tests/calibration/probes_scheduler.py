"""What both schedulers say of pods that fit nowhere, and where they put those that do. Needs a scheduler on both sides."""

from __future__ import annotations

from typing import Any

from tests.calibration.caller import JSON_PATCH, MERGE, STRATEGIC, Caller, pod_spec


def asking(name: str, cpu: str = "", **spec: Any) -> dict[str, Any]:
    body = pod_spec(**spec)
    if cpu:
        body["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": body}


async def scheduled(c: Caller, name: str) -> Any:
    """Wait until the scheduler has said something of a pod, and return the condition and the node."""

    async def holds() -> bool:
        item = await c.get(c.core("pods", name))
        return any(one["type"] == "PodScheduled" for one in item["status"].get("conditions") or ())

    await c.until(holds, what=f"{name} was tried")
    return await c.get(c.core("pods", name))


async def say(c: Caller, name: str) -> None:
    item = await scheduled(c, name)
    (condition,) = [one for one in item["status"]["conditions"] if one["type"] == "PodScheduled"]
    c.say(f"{name}: {condition['status']} {condition.get('reason', '')} {condition.get('message', '')}")


async def scheduling(c: Caller) -> None:
    """Room, cordons, taints, selectors, affinity, anti-affinity, gates: one line each, in the scheduler's words."""
    await c.make(c.core("pods"), asking("alone", cpu="1"))
    await say(c, "alone")
    await c.send("DELETE", c.core("pods", "alone"))
    nodes = [await c.node() for _ in range(3)]
    await c.see(
        "PATCH", f"/api/v1/nodes/{nodes[0]}", {"metadata": {"labels": {"disk": "ssd"}}}, "metadata.labels.disk", kind=MERGE
    )
    await c.make(c.core("pods"), asking("big", cpu="9"))
    await say(c, "big")
    await c.make(c.core("pods"), asking("picky", nodeSelector={"disk": "tape"}))
    await say(c, "picky")
    await c.send("PATCH", f"/api/v1/nodes/{nodes[1]}", {"spec": {"unschedulable": True}}, kind=STRATEGIC)
    taint = {"key": "a", "value": "b", "effect": "NoSchedule"}
    await c.send("PATCH", f"/api/v1/nodes/{nodes[2]}", [{"op": "add", "path": "/spec/taints", "value": [taint]}], kind=JSON_PATCH)

    async def tainted() -> bool:
        return bool((await c.get(f"/api/v1/nodes/{nodes[1]}"))["spec"].get("taints"))

    await c.until(tainted)
    await c.make(c.core("pods"), asking("mixed", cpu="9"))
    await say(c, "mixed")
    await c.make(c.core("pods"), asking("fits", cpu="1"))
    await say(c, "fits")
    c.say(f"on the only free one: {(await c.get(c.core('pods', 'fits')))['spec']['nodeName'] == nodes[0]}")
    tolerant = [{"key": "a", "operator": "Exists"}]
    await c.make(c.core("pods"), asking("tolerant", cpu="3500m", tolerations=tolerant))
    await say(c, "tolerant")
    c.say(f"on the tainted one: {(await c.get(c.core('pods', 'tolerant')))['spec']['nodeName'] == nodes[2]}")
    term = {"labelSelector": {"matchLabels": {"app": "fits"}}, "topologyKey": "kubernetes.io/hostname"}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    await c.make(c.core("pods"), asking("apart", affinity=apart))
    await say(c, "apart")
    await c.make(c.core("pods"), asking("gated", schedulingGates=[{"name": "example.org/wait"}]))
    await say(c, "gated")
    expression = {"key": "disk", "operator": "In", "values": ["ssd"]}
    wanted = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    await c.make(c.core("pods"), asking("ssd", cpu="3500m", affinity={"nodeAffinity": wanted}))
    await say(c, "ssd")

    async def told() -> bool:
        return bool(await first())

    async def first() -> list[str]:
        found = (await c.get(f"{c.core('events')}?fieldSelector=involvedObject.name=big,reason=FailedScheduling"))["items"]
        return [f"{one['type']} {one['reason']} {one['message']}" for one in found if ": 3 Insufficient cpu." in one["message"]]

    await c.until(told)
    c.say((await first())[0])


PROBES = (scheduling,)
