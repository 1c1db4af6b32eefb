"""A real PostgreSQL for tests: found, started as a plain user in a folder of its own, one server a session, a fresh database a test.

Not by a package that downloads one: what is tested is the version that is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from responder.stores.sql.runners.postgres import migrated

R = TypeVar("R")
URL = "RESPONDER_TEST_POSTGRES"
TEMPLATE = "responder_template"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server. ``url`` leads to its maintenance database, as a superuser."""

    url: str

    def database(self, name: str) -> str:
        """Return the URL of one of its databases."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/{name}"))

    async def execute(self, *statements: str) -> None:
        """Run statements on the maintenance database."""
        connection = await asyncpg.connect(self.url)
        try:
            for one in statements:
                await connection.execute(one)
        finally:
            await connection.close()


def binaries() -> Path | None:
    """Return the folder of ``initdb`` and ``postgres``; None when there is none."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name), reverse=True)
    return next((one for one in folders if (one / "initdb").exists() and (one / "postgres").exists()), None)


def missing(why: str) -> None:
    """Skip with the reason, or fail in CI."""
    reason = (
        f"no PostgreSQL: {why}; install Debian's postgresql, put initdb and postgres on PATH, or set {URL} to a superuser's URL"
    )
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _plain_user() -> pwd.struct_passwd | None:
    """Return who runs the server when we are root (PostgreSQL refuses to)."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    missing("this is root, and there is no user postgres or nobody to run it as")
    return None


@contextlib.contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Start a server until the block ends."""
    given = os.environ.get(URL)
    if given:
        yield PostgresServer(given)
        return
    folder = binaries()
    if folder is None:
        missing("initdb and postgres are not found")
        return
    user = _plain_user()
    home = Path(
        tempfile.mkdtemp(prefix="responder-pg-")
    )  # not pytest's: its folders are closed to other users, and long for a socket
    as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    if user:
        os.chown(home, user.pw_uid, user.pw_gid)
    try:
        data, log = home / "data", (home / "log").open("wb")
        subprocess.run(
            [str(folder / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            check=True, stdout=log, stderr=log, cwd=home, **as_user,
        )  # type: ignore[call-overload] # fmt: skip
        # Crashes here are ours, not the machine's: fsync off loses nothing that a test looks at and spares the disk.
        server = subprocess.Popen(
            [
                str(folder / "postgres"), "-D", str(data), "-c", "listen_addresses=", "-c", f"unix_socket_directories={home}",
                "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=100", "-c", "autovacuum=off",
            ],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=home, **as_user,
        )  # type: ignore[call-overload] # fmt: skip
        log.close()
        try:
            _wait(folder, home, server)
            yield PostgresServer(f"postgresql://postgres@/postgres?host={home}")
        finally:
            server.send_signal(signal.SIGINT)  # fast: ends sessions
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.send_signal(signal.SIGQUIT)
                server.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _wait(folder: Path, home: Path, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if server.poll() is not None:
            raise RuntimeError(f"postgres ended: {(home / 'log').read_text()[-2000:]}")
        done = subprocess.run(
            [str(folder / "pg_isready"), "-q", "-h", str(home), "-d", "postgres", "-U", "postgres"], check=False, timeout=10
        )
        if done.returncode == 0:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=0.1)
    raise RuntimeError("postgres did not answer within 30 s")


def now(work: Coroutine[Any, Any, R]) -> R:
    """Do asynchronous work from a plain fixture, also while a loop runs in this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def prepare(server: PostgresServer) -> None:
    """Make the template that every test's database is cloned from: migrated once."""
    await server.execute(f'drop database if exists "{TEMPLATE}"', f'create database "{TEMPLATE}"')
    await migrated(server.database(TEMPLATE))


async def create(server: PostgresServer, *, empty: bool = False) -> str:
    """Make a database, migrated or empty, and return its name."""
    name = f"t{uuid.uuid4().hex[:16]}"
    await server.execute(f'create database "{name}"' + ("" if empty else f' template "{TEMPLATE}"'))
    return name


async def drop(server: PostgresServer, name: str) -> None:
    """Drop a database and end who is still in it."""
    await server.execute(f'drop database if exists "{name}" with (force)')
