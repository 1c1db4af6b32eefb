"""The floor that the product is measured against: the least that any service must do which never loses an alert.

A bare aiohttp + uvloop service: typed decode by msgspec, one group-committed SQLite insert (WAL, FULL) before the 202, then: match by name in a dict, one effect, the
row deleted. Nothing else: no authentication, no merge of repeats, no targets, no incidents, no audit. Usage: ``floor.py PORT DATABASE RULES``.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import sys
import threading
import time
from concurrent.futures import Future
from typing import Any

import msgspec
import uvloop
from aiohttp import web


class Alert(msgspec.Struct):
    """What the floor reads of an alert."""

    status: str
    labels: dict[str, str]
    startsAt: str = ""  # noqa: N815 - as it is on the wire


class Body(msgspec.Struct):
    """What the floor reads of a delivery."""

    alerts: list[Alert]


class Database:
    """One writer thread; what waits is one transaction."""

    def __init__(self, path: str) -> None:
        self._queue: queue.Queue[tuple[str, tuple[Any, ...], Future[int]]] = queue.Queue()
        self._path = path
        threading.Thread(target=self._write, daemon=True).start()

    async def run(self, statement: str, *values: Any) -> int:
        """Run one statement; it is durable when this returns."""
        done: Future[int] = Future()
        self._queue.put((statement, values, done))
        return await asyncio.wrap_future(done)

    def _write(self) -> None:
        db = sqlite3.connect(self._path, isolation_level=None)
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=full")
        db.execute("create table if not exists deliveries (id integer primary key, body blob)")
        while True:
            jobs = [self._queue.get()]
            while len(jobs) < 500 and not self._queue.empty():
                jobs.append(self._queue.get())
            db.execute("begin immediate")
            answers = [db.execute(statement, values).lastrowid or 0 for statement, values, _ in jobs]
            db.execute("commit")
            for (_, _, done), answer in zip(jobs, answers, strict=True):
                done.set_result(answer)


def main() -> None:
    """Serve until killed."""
    port, path, rules = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    database = Database(path)
    decode = msgspec.json.Decoder(Body).decode
    known = {f"Alert{number}": number for number in range(rules)}
    effects: dict[str, int] = {}
    last: dict[str, float] = {}
    waiting = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal waiting
        raw = await request.read()
        body = decode(raw)
        row = await database.run("insert into deliveries (body) values (?)", raw)
        waiting += 1
        asyncio.get_running_loop().create_task(routed(row, body))
        return web.json_response({"accepted": True}, status=202)

    async def routed(row: int, body: Body) -> None:
        nonlocal waiting
        for alert in body.alerts:
            if alert.labels["alertname"] in known:
                effects[alert.labels["deployment"]] = effects.get(alert.labels["deployment"], 0) + 1
                last[alert.labels["deployment"]] = time.monotonic()
        await database.run("delete from deliveries where id = ?", row)
        waiting -= 1

    async def state(_request: web.Request) -> web.Response:
        return web.json_response({"waiting": waiting, "effects": sum(effects.values())})

    async def times(_request: web.Request) -> web.Response:
        return web.json_response(last)

    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/alerts/alertmanager/bench", handle)
    app.router.add_get("/state", state)
    app.router.add_get("/times", times)
    web.run_app(app, host="127.0.0.1", port=port, print=None, loop=uvloop.new_event_loop(), access_log=None)


if __name__ == "__main__":
    main()
