"""Stored forms: instants, versions, the schema, and the indexes that the service's polling lives on."""

from __future__ import annotations

import zlib
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from responder.model.errors import InvariantError
from responder.stores.sql import deliveries, incidents, outbox, tables
from responder.stores.sql.codec import SMALL, instant, millis, not_before, pack_incident, squeeze, stretch, unpack_incident
from responder.stores.sql.engine import sqlite_engine
from responder.stores.sql.migrate import HERE, known, migrate, newest
from tests import builders as make


@given(st.integers(0, 4_102_444_800_000))
def test_an_instant_survives_its_stored_form(at: int) -> None:
    """To the millisecond, always: a float would be off by one now and then."""
    assert millis(instant(at)) == at


@given(st.integers(0, 10**9))
def test_a_wake_up_is_never_early(microseconds: int) -> None:
    """Who wakes a moment early finds nothing due and spins."""
    at = make.NOON + timedelta(microseconds=microseconds)
    stored = not_before(at)

    assert stored is not None
    assert timedelta(0) <= instant(stored) - at < timedelta(milliseconds=1)


@pytest.mark.parametrize("size", [0, 1, SMALL - 1, SMALL, 100_000])
def test_a_body_of_any_size_comes_back_and_is_stored_in_the_one_form_that_every_release_reads(size: int) -> None:
    """Few bytes are not compressed; the release before, which compresses all, runs beside this one."""
    body = b'{"a": 1}' * (size // 8) + b" " * (size % 8)

    stored = squeeze(body)

    assert stretch(stored) == zlib.decompress(stored) == body
    assert len(stored) < max(len(body) / 5, SMALL + 20)


def test_an_incident_of_an_older_version_is_lifted_step_by_step() -> None:
    """Each release brings one step; all that are missing are taken in order."""
    stored = msgspec.json.decode(pack_incident(make.incident(title="Crashing")))
    stored["name"] = stored.pop("title")

    def to_2(raw: dict[str, Any]) -> dict[str, Any]:
        return {**raw, "title": raw["name"] + " 2"}

    def to_3(raw: dict[str, Any]) -> dict[str, Any]:
        return {**raw, "title": raw["title"] + " 3"}

    lifted = unpack_incident(msgspec.json.encode(stored), 1, present=3, casters={1: to_2, 2: to_3})

    assert lifted.title == "Crashing 2 3"
    assert lifted.opened_at == make.incident().opened_at


def test_a_release_that_raises_the_version_still_writes_what_the_one_before_can_read() -> None:
    """Both run beside each other on one store, and the older one can be gone back to."""

    def to_1(raw: dict[str, Any]) -> dict[str, Any]:
        return {**raw, "title": raw["title"].removesuffix(" 2")}

    stored = pack_incident(make.incident(title="Crashing 2"), present=2, written=1, casters={2: to_1})

    assert unpack_incident(stored, 1, present=1).title == "Crashing"


@pytest.mark.parametrize(("version", "present"), [(3, 2), (1, 2)], ids=["newer release", "step missing"])
def test_an_incident_of_an_unknown_version_is_refused(version: int, present: int) -> None:
    """Guessing would act on a state that was not understood."""
    with pytest.raises(InvariantError):
        unpack_incident(pack_incident(make.incident()), version, present=present, casters={})


def test_the_migrated_schema_is_that_of_the_tables() -> None:
    """Also the conditions of partial indexes, which Alembic does not compare: their very statements are equal."""
    migrated, made = sqlite_engine(":memory:"), sqlite_engine(":memory:")
    query = "select name, sql from sqlite_master where type = 'index' and sql is not null"
    with migrated.begin() as db, made.begin() as other:
        migrate(db)
        tables.METADATA.create_all(other)

        assert compare_metadata(MigrationContext.configure(db), tables.METADATA) == []
        assert set(db.exec_driver_sql(query).all()) == set(other.exec_driver_sql(query).all())
    migrated.dispose()
    made.dispose()


def test_a_migration_is_known_by_its_file() -> None:
    """What is newest is told by file names, without Alembic; its own chain of revisions says the same."""
    config = Config()
    config.set_main_option("script_location", str(HERE))
    script = ScriptDirectory.from_config(config)

    assert newest() == script.get_current_head()
    assert known() == {one.revision for one in script.walk_revisions()}


def test_polling_reads_no_table_from_end_to_end() -> None:
    """With a month of deliveries, messages and incidents kept, what is due is found by index."""
    engine = sqlite_engine(":memory:")
    statements: list[tuple[str, Any]] = []
    lease = timedelta(seconds=15)
    with engine.begin() as db:
        migrate(db)

        @event.listens_for(engine, "before_cursor_execute")
        def _noted(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
            statements.append((statement, parameters))

        deliveries.claim(db, 1, 9, lease)
        deliveries.next_due(db, 1)
        deliveries.backlog(db, 1)
        incidents.claim(db, 1, "me", 9, lease, ())
        incidents.next_due(db, 1)
        outbox.claim(db, 1, 9, lease)
        outbox.next_due(db)
        plans = [
            str(line[3])
            for statement, parameters in list(statements)
            for line in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    engine.dispose()

    assert statements
    assert [line for line in plans if line.startswith("SCAN") and "INDEX" not in line] == []
    partial = {"deliveries_due", "deliveries_leased", "incidents_due", "incidents_leased", "outbox_lane"}
    assert {name for name in partial if any(f"INDEX {name}" in line for line in plans)} == partial
