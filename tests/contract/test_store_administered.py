"""``responder db``: a store migrated, checked and exported without a service, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text
from typer.testing import CliRunner, Result

from responder.cli.main import app
from responder.clock import SystemClock
from responder.model.errors import SettingsError
from responder.model.evidence import EvidenceItem
from responder.model.incident import Candidate
from responder.model.storing import DeliveryState, NewDelivery, RoutedAlert
from responder.stores import Administration, SqlStore, open_postgres, open_sqlite
from responder.stores.sql.migrate import HERE, newest
from tests import builders as make


@dataclass(slots=True)
class Place:
    """A store that is open, as a service has it, and its administration beside it."""

    store: SqlStore
    administration: Administration
    config: Path
    environment: dict[str, str]

    async def broken(self, *statements: str) -> None:
        for one in statements:
            await self.store.runner.run(lambda db, one=one: db.execute(text(one)))

    async def findings(self) -> set[str]:
        return {one.what for one in (await self.administration.inspect()).findings}

    async def started(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line as a process."""
        command = [sys.executable, "-m", "responder", "db", *arguments, "--config", str(self.config)]
        return await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False, env={**os.environ, **self.environment}
        )

    async def cli(self, *arguments: str) -> Result:
        """Run the command line in this process: starting one is two seconds of importing."""
        given = ["db", *arguments, "--config", str(self.config)]
        return await asyncio.to_thread(CliRunner().invoke, app, given, env=self.environment)


@pytest.fixture(params=["sqlite", "postgres"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    clock, config = SystemClock(), tmp_path / "responder.yaml"
    base: dict[str, Any] = {"http": {"listen": "127.0.0.1:0", "authentication": False}}
    if request.param == "sqlite":
        path = tmp_path / "store.sqlite"
        store, administration, environment = open_sqlite(path, clock), Administration(clock, path=path), {}
        base["store"] = {"path": str(path)}
    else:
        url = request.getfixturevalue("postgres_url")
        store, administration, environment = await open_postgres(url, clock), Administration(clock, url=url), {"THE_URL": url}
        base["store"] = {"url": {"env": "THE_URL"}}
    config.write_text(yaml.safe_dump(base))
    yield Place(store=store, administration=administration, config=config, environment=environment)
    await store.close()


async def filled(store: SqlStore) -> None:
    """Store a little of everything."""
    rule = make.rule()
    seed = make.incident(opened_at=store.clock.now(), candidates=(Candidate(rule="crash", digest=rule.digest),))
    alert = RoutedAlert(alert=make.alert(), rules=("crash",), seeds=(seed,), pinned={rule.digest: rule.document})
    await store.route([alert], delivery=None, state=DeliveryState.ROUTED, note="", shape="")
    body = b'{"alerts": []}'
    await store.accept(
        [NewDelivery(source="s", source_name="n", retry_key="k", body=body, received_at=store.clock.now(), sender="ana")]
    )
    items = [
        EvidenceItem(name="logs", content=b"FATAL", taken_at=store.clock.now()),
        EvidenceItem(name="raw", content=b"\xff\x00\xfe", taken_at=store.clock.now()),
    ]
    await store.keep_evidence("inc-1", opening=1, items=items)


async def test_nothing_is_wrong_with_a_store_that_works(place: Place) -> None:
    """Also while a service has it open."""
    await filled(place.store)

    found = await place.administration.inspect()

    assert found.findings == ()
    assert (found.schema, found.known) == (newest(), newest())
    assert (found.rows["incidents"], found.rows["deliveries"], found.rows["blobs"]) == (1, 1, 2)


LONG_AGO = "1767614400000"


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("update incidents set state = '{}'", "unreadable"),
        ("update incidents set state_v = 99", "newer_state"),
        ("delete from pinned_rules", "rule_missing"),
        ("update incidents set wake_at = null", "no_wake_up"),
        (f"update incidents set wake_at = {LONG_AGO}", "overdue"),
        ("update incidents set lease_until = 4102444800000", "leased_too_long"),
        (f"update deliveries set wake_at = {LONG_AGO}", "delivery_overdue"),
        ("update deliveries set state = 'failed'", "delivery_failed"),
        (
            f"""insert into outbox (incident, channel, kind, level, reason, opening, due_at, wake_at)
                values ('inc-1', 'p', 'page', 1, 'exhausted', 1, {LONG_AGO}, {LONG_AGO})""",
            "message_overdue",
        ),
        ("insert into claims (identity, incident, cluster, scope, fence, at) values ('x', 'inc-9', 'c', 's', 1, 1)", "orphan"),
        ("delete from blobs", "orphan"),
        ("update alerts set incident = 'inc-9'", "orphan"),
        ("update alembic_version set version_num = '0001'", "schema"),
    ],
)
async def test_what_is_wrong_is_found_and_nothing_else(place: Place, statement: str, what: str) -> None:
    """Each by its own name, with rows and advice."""
    await filled(place.store)
    await place.broken(statement)

    assert await place.findings() == {what}


async def test_a_schema_made_unfit_by_a_newer_release_is_found(place: Place) -> None:
    """And one that was only added to is none."""
    await place.broken("update alembic_version set version_num = '9999'")
    assert await place.findings() == set()

    await place.broken("update compatibility set least_revision = '9998'")
    assert await place.findings() == {"schema"}


async def test_a_damaged_file_is_found(tmp_path: Path) -> None:
    """Pages overwritten in the middle: told as damage or refused with advice, never passed."""
    path = tmp_path / "s.sqlite"
    store = open_sqlite(path, SystemClock())
    await filled(store)
    await store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xa5" * 8192)

    try:
        found = {one.what for one in (await Administration(SystemClock(), path=path).inspect()).findings}
    except SettingsError as error:
        found = {"integrity"} if "restore a backup" in str(error) else set()

    assert "integrity" in found


async def test_check_and_export_from_the_command_line(place: Place, tmp_path: Path) -> None:
    """Exit codes, JSON, and an export that has every row and reads as JSON."""
    await filled(place.store)
    good = await place.started("check")
    exported = await place.cli("export")
    to_file = await place.cli("export", "--out", str(tmp_path / "e.jsonl"), "--json")
    again = await place.cli("export", "--out", str(tmp_path / "e.jsonl"))
    migrated = await place.cli("migrate", "--json") if place.environment else None
    await place.broken("update incidents set wake_at = null")
    bad = await place.cli("check", "--json")

    assert (good.returncode, "nothing is wrong" in good.stdout) == (0, True), good.stderr
    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    assert (lines[0]["responder"], lines[0]["schema"]) == ("export", newest())
    tables = [line["table"] for line in lines[1:]]
    assert {"incidents", "deliveries", "alerts", "timeline", "blobs", "compatibility"} <= set(tables)
    rows = {line["table"]: line["row"] for line in lines[1:]}
    assert rows["incidents"]["state"]["id"] == "inc-1"
    assert rows["deliveries"]["body"] == '{"alerts": []}'
    contents = [line["row"]["body"] for line in lines[1:] if line["table"] == "blobs"]
    assert "FATAL" in contents
    assert {"base64": "/wD+"} in contents
    assert json.loads(to_file.stdout)["rows"]["incidents"] == 1
    assert (tmp_path / "e.jsonl").read_text().count("\n") == len(lines)
    assert again.exit_code == 2
    assert migrated is None or json.loads(migrated.stdout) == {"before": newest(), "after": newest(), "known": newest()}
    assert bad.exit_code == 1
    assert [one["what"] for one in json.loads(bad.stdout)["findings"]] == ["no_wake_up"]


async def test_migrate_makes_a_database_and_does_nothing_the_second_time(tmp_path: Path) -> None:
    """On SQLite beside a running service it is refused: one process owns the file."""
    administration = Administration(SystemClock(), path=tmp_path / "new.sqlite")

    first, second = await administration.migrate(), await administration.migrate()

    assert (first.before, first.after) == ("", newest())
    assert (second.before, second.after) == (newest(), newest())
    store = open_sqlite(tmp_path / "new.sqlite", SystemClock())
    with pytest.raises(SettingsError, match="in use by another responder"):
        await administration.migrate()
    await store.close()


async def test_a_store_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    """A wrong path is told, not filled."""
    with pytest.raises(SettingsError, match="is not there"):
        await Administration(SystemClock(), path=tmp_path / "typo.sqlite").inspect()

    assert list(tmp_path.iterdir()) == []


async def test_an_export_that_would_not_be_all_is_none(place: Place, tmp_path: Path) -> None:
    """A table that this schema has is lost: a backup that lacks it in silence is found when it is needed."""
    await filled(place.store)
    await place.broken("drop table claims")

    found = await place.cli("export")

    assert found.exit_code == 1
    assert "lacks claims" in str(found.exception)
    assert "inc-1" not in found.stdout


KILLED = """
import sys
from pathlib import Path
from responder.stores.sql.migrate import migrate
from responder.stores.sql.runners.sqlite import sqlite_engine
with sqlite_engine(sys.argv[1]).begin() as db:
    migrate(db, scripts=Path(sys.argv[2]))
"""


async def test_a_migration_that_is_killed_half_way_leaves_the_schema_as_it_was(tmp_path: Path) -> None:
    """Columns that it had added go with its transaction, and the next start does all of it: nobody has to repair a schema by hand."""
    path, scripts = tmp_path / "store.sqlite", tmp_path / "scripts"
    await Administration(SystemClock(), path=path).migrate()
    shutil.copytree(HERE, scripts)
    (scripts / "versions" / "9998_half.py").write_text(
        f"import os\nimport sqlalchemy as sa\nfrom alembic import op\nrevision, down_revision = '9998', '{newest()}'\n"
        "def upgrade():\n    op.add_column('alerts', sa.Column('half', sa.Integer()))\n    os._exit(9)\n"
    )

    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), str(scripts)], check=False)
    done = await Administration(SystemClock(), path=path).migrate()

    with contextlib.closing(sqlite3.connect(path)) as db:
        columns = {row[1] for row in db.execute("pragma table_info(alerts)")}
    assert killed.returncode == 9
    assert (done.before, done.after) == (newest(), newest())
    assert "half" not in columns
