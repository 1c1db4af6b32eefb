"""A node without a container engine: it runs the pods that it can as real processes, and plays the others.

What it takes from a pod is what a kubelet takes: its volumes, environment, user, read-only root, probes, grace period and service account. A pod's
root is a mount namespace of its own: this machine's programs, the image's folder in its place, nothing writable but what the pod mounts. It plays the
node's proxy and DNS too, by ``/etc/hosts``: a service's name is the address of its ready pod. Needs root. Never here: anything of Responder's own code but
its client for the API.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from responder.clusters.kubernetes.client import KubernetesClient
from responder.model.errors import ContestedError, GoneError
from tests.e2e.image import Image

NAME = "node-1"
REPORTS_EVERY = 10.0
MERGE = "application/strategic-merge-patch+json"
_ROOT = """
set -e
mount -t tmpfs tmpfs "$R"
for d in bin sbin lib lib64 usr root dev proc sys var home; do if [ -e "/$d" ]; then mkdir -p "$R/$d"; mount --rbind "/$d" "$R/$d"; fi; done
mkdir -p "$R/opt/responder" "$R/etc" "$R/tmp" "$R/run"
mount --rbind "$IMAGE" "$R/opt/responder"
mount --bind "$ETC" "$R/etc"
mount -t tmpfs tmpfs "$R/var"
mkdir -p "$R/var/run"
while read -r from to; do
  if [ -d "$from" ]; then mkdir -p "$R$to"; else mkdir -p "$(dirname "$R$to")"; touch "$R$to"; fi
  mount --bind "$from" "$R$to"
done < "$MOUNTS"
mount -o remount,ro,bind "$R/etc"
mount -o remount,ro "$R/var"
mount -o remount,ro "$R"
exec chroot "$R" setpriv --reuid="$U" --regid="$G" --groups="$G" --no-new-privs --inh-caps=-all "$@"
"""


def stamp() -> str:
    return datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class Running:
    """A pod that runs as a process."""

    process: subprocess.Popen[bytes]
    log: Path
    address: str
    stopping_at: float = 0.0


@dataclass(slots=True)
class Node:
    """Runs what is bound to it, and binds what nobody has.

    Attributes:
        client: An administrator's.
        api: Host and port at which pods reach the API server.
        address: The loopback address that all its pods have; one at a time listens there.
        plays: Gives the status of a pod that is not of the image.
        logs: Pod's name to its log file, also of those that have ended.
    """

    client: KubernetesClient
    api: tuple[str, int]
    image: Image
    folder: Path
    address: str
    plays: Callable[[Mapping[str, Any]], dict[str, Any]]
    running: dict[str, Running] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)
    reported_at: float = 0.0

    @contextlib.asynccontextmanager
    async def on(self) -> AsyncIterator[Node]:
        """Be a Ready node until the block ends; what still runs is killed."""
        await self.client.send("POST", "/api/v1/nodes", body={"metadata": {"name": NAME}})
        await self._report()
        loop = asyncio.create_task(self._loop())
        try:
            yield self
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop
            for one in self.running.values():
                one.process.kill()
                one.process.wait()

    async def _report(self) -> None:
        """Say that the node is Ready, as a kubelet does every ten seconds: what runs on a silent one waits for it."""
        self.reported_at = time.monotonic()
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": stamp()}
        body = {"status": {"conditions": [ready]}}
        await self.client.send("PATCH", f"/api/v1/nodes/{NAME}/status", body=body, content_type=MERGE)

    async def _loop(self) -> None:
        while True:
            if time.monotonic() - self.reported_at > REPORTS_EVERY:
                await self._report()
            pods = (await self._get("/api/v1/pods"))["items"]
            for pod in pods:
                with contextlib.suppress(GoneError, ContestedError):
                    await self._one(pod)
            for gone in self.running.keys() - {pod["metadata"]["uid"] for pod in pods}:
                self._stopped(gone, 0)  # deleted without a grace: a finished hook
            await asyncio.sleep(0.2)

    async def _get(self, path: str) -> Any:
        return json.loads(await self.client.send("GET", path))

    async def _one(self, pod: Mapping[str, Any]) -> None:
        meta, uid = pod["metadata"], pod["metadata"]["uid"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        if meta.get("deletionTimestamp"):
            if not self._stopped(uid, meta.get("deletionGracePeriodSeconds") or 0):
                return
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
            await self.client.send("DELETE", path, body=body)
            return
        if not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NAME}
            await self.client.send("POST", f"{path}/binding", body={"metadata": {"name": meta["name"]}, "target": target})
            return
        if pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
            return
        container = pod["spec"]["containers"][0]
        if container["image"].startswith("responder:"):
            if uid not in self.running:
                self.running[uid] = await self._start(pod, container)
            status = await self._status(pod, container, self.running[uid])
        else:
            status = self.plays(pod)
        await self.client.send("PATCH", f"{path}/status", body={"status": status}, content_type=MERGE)

    def _stopped(self, uid: str, grace: int) -> bool:
        one = self.running.get(uid)
        if one is None:
            return True
        now = asyncio.get_running_loop().time()
        if not one.stopping_at:
            one.stopping_at = now
            one.process.send_signal(signal.SIGTERM)
        if one.process.poll() is None and now - one.stopping_at < grace:
            return False
        one.process.kill()
        one.process.wait()
        del self.running[uid]
        return True

    async def _start(self, pod: Mapping[str, Any], container: Mapping[str, Any]) -> Running:
        meta, spec = pod["metadata"], pod["spec"]
        home = self.folder / meta["uid"]
        (home / "root").mkdir(parents=True)
        shutil.copytree(
            "/etc", home / "etc", symlinks=True, ignore_dangling_symlinks=True, ignore=shutil.ignore_patterns("responder")
        )
        (home / "etc" / "hosts").write_text(await self._hosts(meta["namespace"]))
        security = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
        user, group = security["runAsUser"], security["runAsGroup"]
        mounts: list[str] = []
        volumes = {one["name"]: one for one in spec["volumes"]}
        for mount in sorted(container["volumeMounts"], key=lambda one: one["mountPath"].count("/")):
            source = await self._volume(meta, spec, volumes[mount["name"]], home / "volumes" / mount["name"], group)
            place = mount["mountPath"]
            if place.startswith("/etc/"):  # a bind mount needs a place, and /etc is the image's
                inside = home / "etc" / place.removeprefix("/etc/")
                inside.parent.mkdir(parents=True, exist_ok=True)
                if mount.get("subPath"):
                    inside.touch()
                else:
                    inside.mkdir(exist_ok=True)
            mounts.append(
                f"{source / mount['subPath'] if mount.get('subPath') else source} {place.replace('/var/run/', '/run/', 0)}"
            )
        (home / "mounts").write_text("".join(f"{line}\n" for line in mounts))
        environment = {
            "PATH": "/opt/responder/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            **self.image.environment,
            "KUBERNETES_SERVICE_HOST": self.api[0],
            "KUBERNETES_SERVICE_PORT": str(self.api[1]),
            **await self._environment(meta["namespace"], container),
            "R": str(home / "root"), "IMAGE": str(self.image.home), "ETC": str(home / "etc"), "MOUNTS": str(home / "mounts"),
            "U": str(user), "G": str(group),
        }  # fmt: skip
        command = [*container.get("command", ["/opt/responder/bin/python", "-m", "responder"]), *container.get("args", [])]
        log = self.logs[meta["name"]] = home / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ROOT, "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd="/",
            )
        return Running(process=process, log=log, address=self.address)

    async def _hosts(self, namespace: str) -> str:
        lines = ["127.0.0.1 localhost", f"127.0.0.1 {self.api[0]}"]
        for service in (await self._get(f"/api/v1/namespaces/{namespace}/services"))["items"]:
            name = service["metadata"]["name"]
            lines.append(f"{self.address} {name} {name}.{namespace} {name}.{namespace}.svc")
        return "\n".join(lines) + "\n"

    async def _environment(self, namespace: str, container: Mapping[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in container.get("env", []):
            key = one.get("valueFrom", {}).get("secretKeyRef")
            if key is not None:
                secret = await self._get(f"/api/v1/namespaces/{namespace}/secrets/{key['name']}")
                found[one["name"]] = base64.b64decode(secret["data"][key["key"]]).decode()
            else:
                found[one["name"]] = one.get("value", "")
        return found

    async def _volume(
        self, meta: Mapping[str, Any], spec: Mapping[str, Any], volume: Mapping[str, Any], place: Path, group: int
    ) -> Path:
        namespace = meta["namespace"]
        if "persistentVolumeClaim" in volume:
            claim = await self._get(
                f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{volume['persistentVolumeClaim']['claimName']}"
            )
            held = await self._get(f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")
            disk = Path(held["spec"]["hostPath"]["path"])
            disk.mkdir(exist_ok=True)
            os.chown(disk, 0, group)
            disk.chmod(0o2775)
            return disk
        place.mkdir(parents=True)
        if "emptyDir" in volume:
            place.chmod(0o1777)
            return place
        sources = volume["projected"]["sources"] if "projected" in volume else [volume]
        for source in sources:
            for name, content in (await self._files(namespace, spec, source)).items():
                (place / name).write_bytes(content)
                os.chown(place / name, 0, group)
                (place / name).chmod(0o440)
        place.chmod(0o755)
        return place

    async def _files(self, namespace: str, spec: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, bytes]:
        if "configMap" in source:
            found = await self._get(f"/api/v1/namespaces/{namespace}/configmaps/{source['configMap']['name']}")
            return {name: text.encode() for name, text in found["data"].items()}
        if "secret" in source:
            name = source["secret"].get("name") or source["secret"]["secretName"]
            found = await self._get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
            return {key: base64.b64decode(text) for key, text in found["data"].items()}
        if "serviceAccountToken" in source:
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{spec['serviceAccountName']}/token"
            made = json.loads(await self.client.send("POST", path, body={"spec": {"expirationSeconds": 3600}}))
            return {"token": made["status"]["token"].encode()}
        return {"namespace": namespace.encode()}

    async def _status(self, pod: Mapping[str, Any], container: Mapping[str, Any], one: Running) -> dict[str, Any]:
        started = pod.get("status", {}).get("startTime") or stamp()
        code = one.process.poll()
        ready = code is None and await self._ready(container)
        state: dict[str, Any] = {"running": {"startedAt": started}}
        phase = "Running"
        if code is not None:
            state = {"terminated": {"exitCode": code, "startedAt": started, "finishedAt": stamp()}}
            phase = "Succeeded" if code == 0 else "Failed"
            if pod["spec"].get("restartPolicy", "Always") == "Always":  # one look at its log is enough: it is not started again
                phase, state = "Running", {"waiting": {"reason": "CrashLoopBackOff"}}
        conditions = [
            {"type": kind, "status": str(ready), "lastTransitionTime": stamp()} for kind in ("Ready", "ContainersReady")
        ] + [{"type": "Initialized", "status": "True"}]
        status = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": ready,
            "restartCount": 0,
            "state": state,
        }
        return {
            "phase": phase,
            "podIP": one.address,
            "podIPs": [{"ip": one.address}],
            "startTime": started,
            "conditions": conditions,
            "containerStatuses": [status],
        }

    async def _ready(self, container: Mapping[str, Any]) -> bool:
        probe = container.get("readinessProbe")
        if probe is None:
            return True
        port = next(one["containerPort"] for one in container["ports"] if one["name"] == probe["httpGet"]["port"])
        url = f"http://{self.address}:{port}{probe['httpGet']['path']}"
        timeout = aiohttp.ClientTimeout(total=probe.get("timeoutSeconds", 1))
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
