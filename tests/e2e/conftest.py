"""Real parts: a control plane, helm, Prometheus, Alertmanager, Chromium. Missing ones are skipped with the reason, and never in CI."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.image import Image

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / ".e2e" / "debian" / "usr" / "bin"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs real parts."""
    for item in items:
        if Path(str(item.fspath)).is_relative_to(ROOT / "tests" / "e2e"):
            item.add_marker(pytest.mark.e2e)


def require(name: str, *, env: str = "", within_assets: str = "") -> str:
    """Return the path of a real part; skip with the reason, or fail in CI."""
    places = [os.environ.get(env, "") if env else ""]
    if within_assets and os.environ.get("KUBEBUILDER_ASSETS"):
        places.append(str(Path(os.environ["KUBEBUILDER_ASSETS"]) / within_assets))
    places += [str(DEBIAN / name), shutil.which(name) or ""]
    for place in places:
        if place and Path(place).exists():
            return place
    reason = (
        f"{name} is not there: put it on PATH"
        + (f", or name it in {env}" if env else "")
        + (" or KUBEBUILDER_ASSETS" if within_assets else "")
    )
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def require_file(path: Path, why: str) -> None:
    """Skip with the reason, or fail in CI, when a file is missing."""
    if path.exists():
        return
    if os.environ.get("CI"):
        pytest.fail(f"{path} is missing: {why}")
    pytest.skip(f"{path} is missing: {why}")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def running(arguments: list[str], log: Path, *, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; it is stopped by its pid."""
    with log.open("wb") as out:
        process = subprocess.Popen(arguments, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=cwd)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def until(holds: Callable[[], bool], *, within: float, what: str) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: It did not.
    """
    try:
        async with asyncio.timeout(within):
            while not holds():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise TimeoutError(f"{what} did not hold within {within:g} s") from None


def reachable(port: int) -> bool:
    """Tell whether something listens."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A real Kubernetes API with its controllers; no kubelet."""

    kubeconfig: Path
    kubectl: str

    def ctl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl as an administrator and return what it prints."""
        done = subprocess.run(
            [self.kubectl, "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def service_account(self, *rbac: str) -> Path:
        """Make the service account with the very roles that ``responder rbac`` prints, and return a kubeconfig that is it.

        Args:
            rbac: Options of ``responder rbac``.
        """
        made = subprocess.run(
            [sys.executable, "-m", "responder", "rbac", *rbac], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert made.returncode == 0, made.stderr
        self.ctl("create", "namespace", "responder")
        self.ctl("-n", "responder", "create", "serviceaccount", "responder")
        self.ctl("apply", "-f", "-", stdin=made.stdout)
        token = self.ctl("-n", "responder", "create", "token", "responder", "--duration=1h").strip()
        config = json.loads(self.kubeconfig.read_text())
        config["users"] = [{"name": "admin", "user": {"token": token}}]
        path = self.kubeconfig.with_name("kubeconfig-responder")
        path.write_text(json.dumps(config))
        return path


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image's contents, built once."""
    from tests.e2e.image import build_image  # noqa: PLC0415 - it needs ROOT from here

    return build_image(tmp_path_factory.mktemp("image"))


def wait_until(holds: Callable[[], bool], *, within: float, what: str) -> None:
    """Wait until something holds, where no loop runs.

    Raises:
        TimeoutError: It did not.
    """
    ends_at = time.monotonic() + within
    while not holds():
        if time.monotonic() > ends_at:
            raise TimeoutError(f"{what} did not hold within {within:g} s")
        time.sleep(0.1)


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane of this test's own."""
    with running_control_plane(tmp_path) as plane:
        yield plane


@contextlib.contextmanager
def running_control_plane(
    tmp_path: Path, *controller_flags: str, api_flags: tuple[str, ...] = (), scheduler: bool = False
) -> Iterator[ControlPlane]:
    """etcd, kube-apiserver, kube-controller-manager and perhaps kube-scheduler on loopback."""
    etcd = require("etcd", within_assets="etcd")
    apiserver = require("kube-apiserver", within_assets="kube-apiserver")
    manager = require("kube-controller-manager", within_assets="kube-controller-manager")
    kubectl = require("kubectl", within_assets="kubectl")
    client, peer, api = free_port(), free_port(), free_port()
    token = secrets.token_hex(16)
    (tmp_path / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    subprocess.run(["openssl", "genrsa", "-out", str(tmp_path / "sa.key"), "2048"], check=True, capture_output=True)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "real",
                "clusters": [
                    {"name": "real", "cluster": {"server": f"https://127.0.0.1:{api}", "insecure-skip-tls-verify": True}}
                ],
                "users": [{"name": "admin", "user": {"token": token}}],
                "contexts": [{"name": "real", "context": {"cluster": "real", "user": "admin"}}],
            }
        )
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            running(
                [
                    etcd, "--data-dir", str(tmp_path / "etcd"), "--unsafe-no-fsync",
                    "--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls", f"http://127.0.0.1:{client}",
                    "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                ],
                tmp_path / "etcd.log",
            )
        )  # fmt: skip
        wait_until(lambda: reachable(client), within=30, what="etcd")
        stack.enter_context(
            running(
                [
                    apiserver, "--bind-address", "127.0.0.1", "--secure-port", str(api), "--cert-dir", str(tmp_path / "certs"),
                    "--etcd-servers", f"http://127.0.0.1:{client}", "--token-auth-file", str(tmp_path / "tokens.csv"),
                    "--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", str(tmp_path / "sa.key"),
                    "--service-account-signing-key-file", str(tmp_path / "sa.key"), "--authorization-mode", "RBAC",
                    "--service-cluster-ip-range", "10.96.0.0/16", "--endpoint-reconciler-type", "none", *api_flags,
                ],
                tmp_path / "apiserver.log",
            )
        )  # fmt: skip

        def ask(*arguments: str) -> bool:
            done = subprocess.run(
                [kubectl, "--kubeconfig", str(kubeconfig), "--request-timeout=3s", *arguments], capture_output=True, check=False
            )
            return done.returncode == 0

        wait_until(lambda: ask("get", "--raw", "/readyz"), within=90, what="kube-apiserver")
        stack.enter_context(
            running(
                [
                    manager, "--kubeconfig", str(kubeconfig), "--bind-address", "127.0.0.1", "--secure-port", str(free_port()),
                    "--cert-dir", str(tmp_path / "kcm"), "--service-account-private-key-file", str(tmp_path / "sa.key"),
                    "--use-service-account-credentials=false", "--leader-elect=false", "--root-ca-file", str(tmp_path / "certs" / "apiserver.crt"),
                    *controller_flags,
                ],
                tmp_path / "kcm.log",
            )
        )  # fmt: skip
        if scheduler:
            program = require("kube-scheduler", within_assets="kube-scheduler")
            stack.enter_context(
                running(
                    [
                        program, "--kubeconfig", str(kubeconfig), "--bind-address", "127.0.0.1", "--secure-port", str(free_port()),
                        "--cert-dir", str(tmp_path / "ks"), "--leader-elect=false",
                    ],
                    tmp_path / "scheduler.log",
                )
            )  # fmt: skip
        wait_until(
            lambda: ask("-n", "default", "get", "serviceaccount", "default"), within=60, what="the default service account"
        )
        yield ControlPlane(kubeconfig=kubeconfig, kubectl=kubectl)
