"""A storm against the running service: real processes, HTTP on loopback, SQLite, a sandbox cluster that answers.

Ten thousand alerts for two thousand targets as fast as they are taken, one a POST and a hundred a POST; a fifth of that in shadow.
``RESPONDER_STORM_ALERTS`` sets another number. What it took is printed, and never asserted.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bench import measure

ALERTS = int(os.environ.get("RESPONDER_STORM_ALERTS", "10000"))
TARGETS = max(20, ALERTS // 5)
RULE = {
    "rule": "bench-0", "title": "Crashing", "owner": "tests", "runbook": "https://runbooks.example/", "severity": "error",
    "match": [{"alert": "Alert0"}], "target": "workload", "ladder": [{"do": "workload.restart", "within": "5m"}],
}  # fmt: skip


@dataclass(slots=True)
class Pager:
    """PagerDuty, as far as counting its calls goes."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    @property
    def triggers(self) -> set[str]:
        return {one["dedup_key"] for one in self.calls if one["event_action"] == "trigger"}


@pytest.fixture
def pager() -> Iterator[Pager]:
    """Answer every page with 202."""
    one = Pager()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            one.calls.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.end_headers()
            self.wfile.write(b'{"status": "success", "message": "Event processed", "dedup_key": "x"}')

        def log_message(self, *_said: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.url = f"http://127.0.0.1:{server.server_address[1]}/v2/enqueue"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield one
    server.shutdown()
    server.server_close()


class Health(threading.Thread):
    """Asks ``/healthz`` and ``/readyz`` all the time; keeps the slowest answer of each, and every one that was not 200."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.slowest: dict[str, float] = {}
        self.wrong: list[str] = []
        self.asked = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            for path in ("/healthz", "/readyz"):
                began = time.perf_counter()
                try:
                    with urllib.request.urlopen(f"{self._url}{path}", timeout=10) as answer:
                        answer.read()
                except (urllib.error.URLError, TimeoutError) as error:
                    self.wrong.append(f"{path}: {error}")
                self.asked += 1
                self.slowest[path] = max(self.slowest.get(path, 0.0), time.perf_counter() - began)


def serve(folder: Path, kubeconfig: Path, pager: Pager, *, act: list[str], most_waiting: int = 20_000) -> measure.Running:
    """Start the service with one rule."""
    (folder / "rules").mkdir()
    (folder / "rules" / "bench-0.yaml").write_text(yaml.safe_dump(RULE, sort_keys=False))
    port = measure.free_port()
    config = {
        "shipped_rules": False, "rule_paths": [str(folder / "rules")], "act": act,
        "store": {"path": str(folder / "responder.sqlite")},
        "http": {"listen": f"127.0.0.1:{port}", "authentication": False, "most_waiting": most_waiting},
        "clusters": {"sandbox": {"kubeconfig": str(kubeconfig)}},
        "channels": {"pager": {"kind": "pagerduty", "routing_key": {"env": "STORM_KEY"}, "endpoint": pager.url}},
        "policies": {"people": {"levels": [{"channels": ["pager"]}]}}, "routes": {"default": "people"},
    }  # fmt: skip
    path = folder / "responder.yaml"
    path.write_text(yaml.safe_dump(config))
    with (folder / "log").open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "responder", "serve", "--config", str(path)],
            stdout=out, stderr=out, cwd=measure.ROOT, env={**os.environ, "STORM_KEY": "k" * 32},
        )  # fmt: skip
    one = measure.Running(process, f"http://127.0.0.1:{port}")
    measure.until(lambda: measure.get(f"{one.url}/readyz"), within=60)
    return one


def rows(folder: Path, query: str) -> list[Any]:
    """Ask the store, beside the service."""
    with sqlite3.connect(f"file:{folder / 'responder.sqlite'}?mode=ro", uri=True) as db:
        return db.execute(query).fetchall()


def standing(folder: Path) -> Counter[str]:
    """Count incidents by phase and newest reason, the parent apart."""
    found: Counter[str] = Counter()
    for phase, symptom, state in rows(folder, "select phase, symptom, state from incidents"):
        word = "parent" if symptom.startswith("storm:") else "child"
        found[f"{word} {phase} {json.loads(state)['reason']}"] += 1
    return found


@pytest.mark.parametrize("act", [["bench-0"], []], ids=["armed", "shadow"])
@pytest.mark.parametrize("per_post", [1, 100], ids=["single", "100 a POST"])
def test_ten_thousand_alerts_are_one_parent_and_one_page(tmp_path: Path, pager: Pager, per_post: int, act: list[str]) -> None:
    """None lost, every target decided, five samples of evidence, nothing written; health answers throughout."""
    alerts, targets = (ALERTS, TARGETS) if act else (ALERTS // 5, TARGETS // 5)
    with measure.cluster(tmp_path, targets) as kubeconfig:
        one = serve(tmp_path, kubeconfig, pager, act=act)
        health = Health(one.url)
        try:
            idle, cpu, began = measure.rss_mib(one.pid), measure.cpu_seconds(one.pid), time.perf_counter()
            health.start()
            answers = measure.post_alerts(one.url, alerts=alerts, per_post=per_post, connections=32, targets=targets, rules=1)
            posted = time.perf_counter() - began
            measure.until(lambda: rows(tmp_path, "select count(*) from alerts") == [(alerts,)], within=600, every=0.2)
            routed = time.perf_counter() - began
            measure.until(lambda: standing(tmp_path)["child waiting storm"] == targets, within=300, every=0.5)
            decided = time.perf_counter() - began
            if act:
                measure.until(lambda: pager.triggers, within=30)
            time.sleep(3)  # for a page too many
            health.over.set()
            health.join()
            peak = measure.rss_mib(one.pid, peak=True)
            used = measure.cpu_seconds(one.pid) - cpu
        finally:
            one.kill()
    evidence = rows(tmp_path, "select count(distinct incident) from evidence")[0][0]
    print(  # noqa: T201 - figures of this run, for whoever runs it
        f"\n{alerts} alerts, {targets} targets, {per_post} a POST, {'armed' if act else 'shadow'}: answers {answers['statuses']}, "
        f"posted in {posted:.1f} s, routed in {routed:.1f} s, every target decided in {decided:.1f} s, CPU {used:.1f} s, "
        f"memory {idle:.0f} → {peak:.0f} MiB; health asked {health.asked} times, "
        f"slowest {', '.join(f'{path} {seconds * 1000:.0f} ms' for path, seconds in sorted(health.slowest.items()))}"
    )

    assert standing(tmp_path) == {"child waiting storm": targets, "parent exhausted storm": 1}
    assert rows(tmp_path, "select count(*) from alerts where incident = '' and shadow_incident = ''") == [(0,)]
    unsaid = "select count(*) from incidents i where not exists (select 1 from timeline t where t.incident = i.id and t.reason = 'storm')"
    assert rows(tmp_path, unsaid) == [(0,)]
    assert evidence == 5
    assert len(pager.triggers) == (1 if act else 0)
    assert rows(tmp_path, "select count(*) from commands") == [(0,)]
    assert health.wrong == []


def test_a_full_intake_says_so_and_after_relief_everything_is_decided(tmp_path: Path, pager: Pager) -> None:
    """503 with Retry-After while more than fifty deliveries wait to be routed; the sender repeats, and nothing is lost."""
    alerts = ALERTS // 5
    targets = TARGETS // 5
    with measure.cluster(tmp_path, targets) as kubeconfig:
        one = serve(tmp_path, kubeconfig, pager, act=["bench-0"], most_waiting=50)
        health = Health(one.url)
        try:
            health.start()
            answers = measure.post_alerts(one.url, alerts=alerts, per_post=1, connections=64, targets=targets, rules=1)
            measure.until(lambda: rows(tmp_path, "select count(*) from alerts") == [(alerts,)], within=300, every=0.2)
            measure.until(lambda: standing(tmp_path)["child waiting storm"] == targets, within=300, every=0.5)
            measure.until(lambda: pager.triggers, within=30)
            health.over.set()
            health.join()
        finally:
            one.kill()
    print(f"\n{alerts} alerts one by one, at most 50 waiting: answers {answers['statuses']}")  # noqa: T201

    assert answers["statuses"]["202"] == alerts
    assert answers["statuses"]["503"] > 0
    assert len(pager.triggers) == 1
    assert health.wrong == []
