"""Processes to be measured: the product, the floor, the cluster; their CPU and memory from /proc, over the whole process tree."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                found += tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """Return user and system seconds of a process tree, its ended children included."""
    ticks = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(fields[place]) for place in (11, 12, 13, 14))
    return ticks / TICK


def rss_mib(pid: int, *, peak: bool = False) -> float:
    """Return resident memory of a process tree in MiB, now or at its peak."""
    word = "VmHWM:" if peak else "VmRSS:"
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/status").read_text().splitlines():
                if line.startswith(word):
                    total += int(line.split()[1])
    return total / 1024


def get(url: str, *, within: float = 10) -> Any:
    """Return the JSON of a GET."""
    with urllib.request.urlopen(url, timeout=within) as answer:
        return json.loads(answer.read())


def until(holds: Any, *, within: float, every: float = 0.05) -> float:
    """Wait until something holds; return the seconds it took.

    Raises:
        TimeoutError: It did not.
    """
    began = time.perf_counter()
    while time.perf_counter() - began < within:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            if holds():
                return time.perf_counter() - began
        time.sleep(every)
    raise TimeoutError(f"not within {within:g} s")


@dataclass(slots=True)
class Running:
    """A service that runs; ``started_in`` are the seconds from its start to its first answer."""

    process: subprocess.Popen[bytes]
    url: str
    started_in: float = 0.0

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def cluster(folder: Path, targets: int) -> Iterator[Path]:
    """Run the sandbox cluster; give its kubeconfig."""
    path = folder / "kubeconfig"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.cluster", str(path), str(targets)], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
        yield path
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def floor(folder: Path, *, rules: int) -> Running:
    """Start the floor."""
    port = free_port()
    began = time.perf_counter()
    command = [sys.executable, str(HERE / "floor.py"), str(port), str(folder / "floor.sqlite"), str(rules)]
    one = Running(subprocess.Popen(command), f"http://127.0.0.1:{port}")
    until(lambda: get(f"{one.url}/state"), within=30, every=0.01)
    one.started_in = time.perf_counter() - began
    return one


def rule(number: int) -> str:
    """Return a rule about one alert of the load."""
    document = {
        "rule": f"bench-{number}", "title": "Bench", "owner": "bench", "runbook": "https://runbooks.example/", "severity": "warning",
        "match": [{"alert": f"Alert{number}"}], "target": "workload", "ladder": [{"do": "workload.restart", "within": "5m"}],
    }  # fmt: skip
    return yaml.safe_dump(document, sort_keys=False)


def product(folder: Path, kubeconfig: Path, *, rules: int, log: Path | None = None) -> Running:
    """Start the product with so many rules of the load's and none of the shipped ones."""
    port = free_port()
    own = folder / "rules"
    if not own.exists():
        own.mkdir(parents=True)
        for number in range(rules):
            (own / f"bench-{number}.yaml").write_text(rule(number))
    config = {
        "shipped_rules": False,
        "rule_paths": [str(own)],
        "store": {"path": str(folder / "responder.sqlite")},
        "http": {"listen": f"127.0.0.1:{port}", "authentication": False},
        "clusters": {"sandbox": {"kubeconfig": str(kubeconfig)}},
    }
    path = folder / "responder.yaml"
    path.write_text(yaml.safe_dump(config))
    began = time.perf_counter()
    with (log or folder / "log").open("ab") as out:
        command = [sys.executable, "-m", "responder", "serve", "--config", str(path)]
        one = Running(subprocess.Popen(command, stderr=out, stdout=out, cwd=ROOT), f"http://127.0.0.1:{port}")
    until(lambda: get(f"{one.url}/readyz"), within=120, every=0.01)
    one.started_in = time.perf_counter() - began
    return one


def post_alerts(url: str, *, alerts: int, per_post: int, connections: int, targets: int, rules: int) -> dict[str, Any]:
    """Run the load generator to its end."""
    arguments = [str(one) for one in (alerts, per_post, connections, targets, rules)]
    done = subprocess.run([sys.executable, str(HERE / "load.py"), url, *arguments], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def metric(url: str, name: str) -> float:
    """Return the sum of a metric's samples."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith(name) and line[len(name) : len(name) + 1] in {" ", "{"}
    )
