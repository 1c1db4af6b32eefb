"""What the store promises to several processes at once: only PostgreSQL can be asked. Two stores stand for two replicas."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from msgspec import structs
from sqlalchemy import Connection, text

from responder.clock import SystemClock
from responder.model.action import Plan
from responder.model.alert import AlertStatus
from responder.model.errors import InvariantError, SettingsError, StoreUnavailableError
from responder.model.incident import Command, Mode, Phase, Signal, SignalKind
from responder.model.reason import Reason
from responder.model.storing import Claimed, DeliveryState, ModeRow, NewDelivery, Replica, RoutedAlert, Scopes, Transition
from responder.stores import SqlStore, open_postgres
from responder.stores.sql import tables
from responder.stores.sql.dialect import take_turns
from responder.stores.sql.migrate import HERE, newest
from responder.stores.sql.runners import postgres as runner
from responder.stores.sql.runners.postgres import migrated, once
from tests import builders as make
from tests import postgres
from tests.fakes.clock import FakeClock

LEASE = timedelta(seconds=15)


@pytest.fixture
async def pair(postgres_url: str, clock: FakeClock) -> AsyncIterator[tuple[SqlStore, SqlStore]]:
    """Two replicas' stores on one database."""
    first = await open_postgres(postgres_url, clock, database_time=False)
    second = await open_postgres(postgres_url, clock, database_time=False)
    yield first, second
    await first.close()
    await second.close()


@pytest.fixture
def empty_url(postgres_server: postgres.PostgresServer) -> Iterator[str]:
    """A database without a schema."""
    name = postgres.now(postgres.create(postgres_server, empty=True))
    yield postgres_server.database(name)
    postgres.now(postgres.drop(postgres_server, name))


def delivery(key: str) -> NewDelivery:
    return NewDelivery(source="alertmanager", source_name="test", retry_key=key, body=b"{}", received_at=make.NOON)


def seeded(number: int, replica: str = "a") -> RoutedAlert:
    """Return a firing alert of one target, with the incident that a replica would open for it."""
    target = replace(make.TARGET, name=f"api-{number}")
    seed = make.incident(id=f"inc-{number}-{replica}", key=f"armed:{number}", target=target)
    labels = {"alertname": "KubePodCrashLooping", "namespace": "shop", "deployment": f"api-{number}"}
    return RoutedAlert(alert=make.alert(labels=labels), rules=("crash",), seeds=(seed,))


async def route(store: SqlStore, *alerts: RoutedAlert) -> list[Any]:
    return list(await store.route(list(alerts), delivery=None, state=DeliveryState.ROUTED, note="", shape=""))


def step(of: Claimed, **changes: Any) -> Transition:
    values = {"incident": of.incident, "fence": of.fence, "wake": of.wake, "wake_at": make.NOON + timedelta(minutes=5)}
    return Transition(**{**values, **changes})


def intention(of: Claimed, target: str, *, cluster: str = "prod", in_flight: int | None = 1) -> Transition:
    name = f"{of.incident.id}/1"
    scopes = Scopes(
        cluster=cluster, target=(target,), scope=f"{cluster}/namespace/shop", in_flight=in_flight, rule="crash",
        max_actions=None, window=timedelta(hours=1),
    )  # fmt: skip
    plan = Plan(action="workload.restart", command=name, target=make.TARGET)
    wanted = Command(key=name, rule="crash", rung="restart", index=0, grade=2, plans=(plan,), begun_at=make.NOON)
    return step(of, intend=wanted, scopes=scopes, keep=True)


# --- at the same time


async def test_the_same_delivery_posted_to_two_replicas_at_once_is_one(pair: tuple[SqlStore, SqlStore]) -> None:
    """Two hundred of them, by single posts in different order: each is stored once and a success for both senders."""
    keys = [f"k{number}" for number in range(200)]
    shuffled = random.Random(7).sample(keys, len(keys))

    def posted(store: SqlStore, given: list[str]) -> list[Any]:
        return [store.accept([replace(delivery(one), source_name=one)]) for one in given]

    answers = await asyncio.gather(*posted(pair[0], keys), *posted(pair[1], shuffled))

    assert sum(stored for (stored,) in answers) == len(keys)
    assert await pair[0].backlog() == len(keys)


async def test_batches_of_the_same_deliveries_in_different_order_do_not_deadlock_for_good(
    pair: tuple[SqlStore, SqlStore],
) -> None:
    """A hundred in one post, backwards at the other replica: repeated until one has seen the other's."""
    rows = [replace(delivery(f"k{number:03}"), source_name=f"s{number}") for number in range(100)]

    one, other = await asyncio.gather(pair[0].accept(rows), pair[1].accept(rows[::-1]))

    assert sum(one) + sum(other) == len(rows)
    assert await pair[1].backlog() == len(rows)


async def test_an_incident_opened_by_two_replicas_at_once_is_one(pair: tuple[SqlStore, SqlStore]) -> None:
    """Two senders tell two replicas about one target; the second one joins."""
    for number in range(20):
        other = make.alert(labels={"alertname": "KubePodNotReady", "deployment": f"api-{number}"})
        opened, joined = await asyncio.gather(
            route(pair[0], seeded(number, "a")), route(pair[1], structs.replace(seeded(number, "b"), alert=other))
        )
        assert len((*opened[0].opened, *joined[0].opened)) == 1
        assert len((*opened[0].joined, *joined[0].joined)) == 1

    found = await pair[0].incidents(unclosed=True, limit=99)
    assert len(found) == 20
    assert {len(await pair[0].held(one.id)) for one in found} == {2}


async def test_the_same_alert_routed_by_two_replicas_at_once_is_counted_twice_and_held_once(
    pair: tuple[SqlStore, SqlStore],
) -> None:
    """No update is lost."""
    for number in range(20):
        await asyncio.gather(route(pair[0], seeded(number, "a")), route(pair[1], seeded(number, "b")))

    known = await pair[0].known([seeded(number).alert.instance for number in range(20)])
    assert [one.count for one in known.values()] == [2] * 20
    assert len(await pair[0].incidents(unclosed=True, limit=99)) == 20


async def test_deliveries_with_the_same_alerts_in_different_order_are_both_routed(pair: tuple[SqlStore, SqlStore]) -> None:
    """The rows that exist are locked in one order; what still deadlocks is repeated."""
    alerts = [seeded(number) for number in range(30)]
    await route(pair[0], *alerts)

    await asyncio.gather(*(route(pair[number % 2], *(alerts if number % 2 else alerts[::-1])) for number in range(8)))

    known = await pair[0].known([one.alert.instance for one in alerts])
    assert {one.count for one in known.values()} == {9}


async def test_two_replicas_never_claim_the_same_incident(pair: tuple[SqlStore, SqlStore]) -> None:
    """Neither waits for the other, and nothing is left."""
    await route(pair[0], *(seeded(number) for number in range(120)))

    claims = await asyncio.gather(
        *(pair[number % 2].claim_incidents(owner=f"r{number % 2}", limit=15, lease=LEASE, own=()) for number in range(12))
    )

    ids = [one.incident.id for claimed in claims for one in claimed]
    assert len(ids) == len(set(ids))
    rest = await pair[0].claim_incidents(owner="r0", limit=200, lease=LEASE, own=())
    assert len(ids) + len(rest) == 120


async def test_two_replicas_never_claim_the_same_delivery_or_message(pair: tuple[SqlStore, SqlStore]) -> None:
    """As for incidents."""
    await pair[0].accept([delivery(f"k{number}") for number in range(60)])

    claims = await asyncio.gather(*(pair[number % 2].claim_deliveries(limit=9, lease=LEASE) for number in range(8)))

    ids = [one.id for claimed in claims for one in claimed]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("same_target", [True, False], ids=["one target", "limit of one in a namespace"])
async def test_of_two_intentions_at_once_one_is_granted(pair: tuple[SqlStore, SqlStore], same_target: bool) -> None:
    """Counted and taken under one lock of the cluster; the denied one has let go of nothing and stored nothing."""
    for number in range(15):
        cluster = f"c{number}"
        await route(pair[0], seeded(2 * number), seeded(2 * number + 1))
        first, second = await pair[0].claim_incidents(owner="r", limit=2, lease=LEASE, own=())
        targets = ("x", "x") if same_target else ("x", "y")

        results = await asyncio.gather(
            pair[0].commit(intention(first, f"{cluster}/{targets[0]}", cluster=cluster)),
            pair[1].commit(intention(second, f"{cluster}/{targets[1]}", cluster=cluster)),
        )

        assert sum(one.stored for one in results) == 1
        (denied,) = [one.denied for one in results if not one.stored]
        assert denied is (Reason.ANOTHER_HAND if same_target else Reason.IN_FLIGHT)


async def test_intentions_in_two_clusters_do_not_wait_for_each_other(pair: tuple[SqlStore, SqlStore]) -> None:
    """The turn is a cluster's: one that is being decided upon holds up no other."""
    await route(pair[0], seeded(1), seeded(2))
    first, second = await pair[0].claim_incidents(owner="r", limit=2, lease=LEASE, own=())
    assert (await pair[0].commit(intention(first, "one/x", cluster="one"))).stored
    holding, go_on = asyncio.Event(), asyncio.Event()

    async def holds() -> None:
        connection = await asyncpg.connect(_url(pair[0]))
        async with connection.transaction():
            await connection.execute("select * from cluster_turns where cluster = 'one' for update")
            holding.set()
            await go_on.wait()
        await connection.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(holds())
        await holding.wait()
        assert (await pair[1].commit(intention(second, "two/x", cluster="two"))).stored
        go_on.set()


def _url(store: SqlStore) -> str:
    return str(store.runner._url)  # type: ignore[attr-defined] # the runner on PostgreSQL has one


@pytest.mark.parametrize("inside_a_statement", [True, False])
async def test_a_replica_stopped_in_a_transaction_does_not_hold_its_rows(
    postgres_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, inside_a_statement: bool
) -> None:
    """Nor between two messages of one statement, where none of the server's own timeouts runs; another program's transaction is left alone."""
    monkeypatch.setattr(runner, "HOLDS_AT_MOST", timedelta(seconds=0.4))
    monkeypatch.setattr(runner, "LOOK_EVERY", timedelta(seconds=0.1))
    stopped = await asyncpg.connect(postgres_url, server_settings={"application_name": "responder"})
    psql = await asyncpg.connect(postgres_url, server_settings={"application_name": "psql"})
    await stopped.execute("begin; insert into cluster_turns values ('one')")
    await psql.execute("begin; insert into cluster_turns values ('two')")
    if inside_a_statement:
        await stopped.prepare("select 1")  # Parse, Describe, Flush: the server waits for the rest of it
    store = await open_postgres(postgres_url, clock, database_time=False)

    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(StoreUnavailableError):  # the lock is waited for in tries of five seconds
                await store.runner.run(lambda db: take_turns(db, tables.cluster_turns, "cluster", "one"))
                break

    assert await psql.fetchval("select count(*) from cluster_turns where cluster = 'two'") == 1
    await psql.execute("commit")  # a transaction sees one state of pg_stat_activity
    async with asyncio.timeout(60):
        while await psql.fetchval("select count(*) from pg_stat_activity where pid = $1", stopped.get_server_pid()):
            await asyncio.sleep(0.05)
    await psql.close()
    stopped.terminate()
    await store.close()


async def test_the_kill_switch_waits_for_nobody(pair: tuple[SqlStore, SqlStore]) -> None:
    """A process that was stopped in the middle of a transaction holds its rows; the switch is set, and the others wake."""
    await route(pair[0], seeded(1), seeded(2))
    for held in await pair[0].claim_incidents(owner="r", limit=2, lease=LEASE, own=()):
        await pair[0].commit(step(held))
    connection = await asyncpg.connect(_url(pair[0]))
    async with connection.transaction():
        await connection.execute("select * from incidents where id = 'inc-1-a' for update")
        await pair[1].set_mode(ModeRow(scope="global", mode=Mode.OFF, by="ana"))
        woken = await pair[1].claim_incidents(owner="r", limit=2, lease=LEASE, own=())
    await connection.close()

    assert [one.mode for one in await pair[0].modes()] == [Mode.OFF]
    assert [one.incident.id for one in woken] == ["inc-2-a"]


async def test_an_alert_that_comes_while_its_incident_is_closed_is_never_lost(pair: tuple[SqlStore, SqlStore]) -> None:
    """Whichever is first: it is in an unclosed incident, or its turn at the router has come."""
    for number in range(25):
        await route(pair[0], seeded(number, "a"))
        (held,) = await pair[0].claim_incidents(owner="r", limit=1, lease=LEASE, own=())
        late = make.alert(labels={"alertname": "KubePodNotReady", "deployment": f"api-{number}"})
        closing = step(held, incident=replace(held.incident, phase=Phase.CLOSED, reason=Reason.QUIET), wake_at=None)

        await asyncio.gather(pair[0].commit(closing), route(pair[1], structs.replace(seeded(number, "b"), alert=late)))

        unclosed = await pair[0].unclosed([f"armed:{number}"])
        again = [one.instance for one in await pair[0].due_instances(limit=9)]
        in_it = [one.instance for found in unclosed.values() for one in await pair[0].held(found.id)]
        assert late.instance in (*in_it, *again)
        for found in await pair[0].claim_incidents(owner="r", limit=9, lease=LEASE, own=()):
            await pair[0].commit(step(found, incident=replace(found.incident, phase=Phase.CLOSED), wake_at=None))


async def test_what_a_person_says_while_an_incident_is_closed_is_told_as_closed_or_kept(pair: tuple[SqlStore, SqlStore]) -> None:
    """True means that it stands on the timeline."""
    for number in range(25):
        await route(pair[0], seeded(number))
        (held,) = await pair[0].claim_incidents(owner="r", limit=1, lease=LEASE, own=())
        closing = step(held, incident=replace(held.incident, phase=Phase.CLOSED), wake_at=None)
        said = Signal(incident=held.incident.id, kind=SignalKind.NOTED, at=make.NOON, by="ana", body={"text": "disk 3"})

        _, taken = await asyncio.gather(pair[0].commit(closing), pair[1].signal(said))

        kept = any("disk 3" in one.text for one in await pair[0].timeline(held.incident.id))
        assert kept is taken


async def test_resolved_and_fired_of_two_replicas_leave_one_truth(pair: tuple[SqlStore, SqlStore]) -> None:
    """The row is locked while it is judged: the stored state is that of whichever came second, whole."""
    for number in range(15):
        one = seeded(number)
        await route(pair[0], one)
        gone = structs.replace(one, alert=structs.replace(one.alert, status=AlertStatus.RESOLVED), seeds=())

        await asyncio.gather(route(pair[0], one), route(pair[1], gone))

        known = (await pair[0].known([one.alert.instance]))[one.alert.instance]
        assert known.count == 3 or known.status is AlertStatus.RESOLVED


# --- leases


async def test_a_lease_that_another_replica_has_taken_is_not_renewed(pair: tuple[SqlStore, SqlStore], clock: FakeClock) -> None:
    """Who was away too long hears it at its next heartbeat."""
    await route(pair[0], seeded(1))
    await pair[0].claim_incidents(owner="a", limit=1, lease=LEASE, own=())
    clock.forward(seconds=16)
    await pair[1].claim_incidents(owner="b", limit=1, lease=LEASE, own=())

    assert await pair[0].renew(owner="a", ids=("inc-1-a",), lease=LEASE) == {}
    assert set(await pair[1].renew(owner="b", ids=("inc-1-a",), lease=LEASE)) == {"inc-1-a"}


async def test_a_replica_that_leaves_frees_what_it_holds(pair: tuple[SqlStore, SqlStore]) -> None:
    """A rolling restart costs no lease."""
    await route(pair[0], seeded(1), seeded(2))
    await pair[0].claim_incidents(owner="a", limit=1, lease=LEASE, own=())
    await pair[1].beat(Replica(id="b", version="1"))
    await pair[0].beat(Replica(id="a", version="1"))
    await pair[0].leave("a")

    assert len(await pair[1].claim_incidents(owner="b", limit=9, lease=LEASE, own=())) == 2
    assert [one.id for one in await pair[1].beat(Replica(id="b", version="1"))] == ["b"]


# --- trouble


async def test_a_deadlock_is_repeated_and_nobody_hears_of_it(pair: tuple[SqlStore, SqlStore]) -> None:
    """PostgreSQL ends one of the two after a second; its second try finds the rows free."""
    await route(pair[0], seeded(1), seeded(2))
    locked = [asyncio.Event(), asyncio.Event()]
    tries = [0, 0]
    loop = asyncio.get_running_loop()

    def takes(who: int, first: str, second: str) -> Any:
        def operation(db: Connection) -> str:
            tries[who] += 1
            one = "select phase from incidents where id = :id for update"
            db.execute(text(one), {"id": first})
            loop.call_soon(locked[who].set)
            db.execute(text("select pg_sleep(0.3)"))
            db.execute(text(one), {"id": second})
            return "done"

        return operation

    results = await asyncio.gather(
        pair[0].runner.run(takes(0, "inc-1-a", "inc-2-a")), pair[1].runner.run(takes(1, "inc-2-a", "inc-1-a"))
    )

    assert list(results) == ["done", "done"]
    assert sum(tries) == 3


async def test_what_the_schema_refuses_is_a_bug_also_after_all_tries(pair: tuple[SqlStore, SqlStore]) -> None:
    """A key that is there at every try is no race."""

    def twice(db: Connection) -> None:
        for _ in range(2):
            db.execute(tables.pinned_rules.insert().values(digest="d", document=b"{}"))

    with pytest.raises(InvariantError, match="twice"):
        await pair[0].runner.run(twice)


async def test_connections_that_died_unnoticed_fail_nobody(
    pair: tuple[SqlStore, SqlStore], postgres_server: postgres.PostgresServer
) -> None:
    """The server restarted, a firewall forgot them: nothing was stored yet, so the operation begins again on a new one."""
    await asyncio.gather(*(pair[0].backlog() for _ in range(8)))
    await postgres_server.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname like 't%' and pid <> pg_backend_pid()"
    )

    answers = await asyncio.gather(*(pair[0].accept([delivery(f"k{number}")]) for number in range(20)))

    assert all(stored for (stored,) in answers)


async def test_a_connection_lost_in_the_middle_stores_nothing_of_the_first_try(pair: tuple[SqlStore, SqlStore]) -> None:
    """The transaction died with it; the second try is the only one that counts."""
    tries = 0

    def broken_once(db: Connection) -> int:
        nonlocal tries
        tries += 1
        db.execute(text("insert into healthy_revisions (revision, seen_at) values (:r, 1)"), {"r": f"r{tries}"})
        if tries == 1:
            db.execute(text("select pg_terminate_backend(pg_backend_pid())"))
        return tries

    assert await pair[0].runner.run(broken_once) == 2
    assert await pair[1].seen_healthy(["r1", "r2"]) == ["r2"]


async def test_a_server_that_is_not_there_is_said_without_the_password() -> None:
    """At the start: settings, with what to do."""
    with pytest.raises(SettingsError, match="check that the server runs") as caught:
        await open_postgres("postgresql://ana:s3cret@127.0.0.1:1/x", SystemClock())

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://ana:s3cret@h/x", "nonsense s3cret", "postgresql://ana:s3cret@[::1/x"])
async def test_a_url_that_is_none_is_refused_without_the_password(url: str) -> None:
    """Whatever stands in it."""
    with pytest.raises(SettingsError, match=r"store\.url") as caught:
        await open_postgres(url, SystemClock())

    assert "s3cret" not in str(caught.value)


async def test_a_server_that_goes_away_is_unavailable_and_not_a_bug(
    pair: tuple[SqlStore, SqlStore], postgres_server: postgres.PostgresServer
) -> None:
    """Senders are told to come back; everything goes on when it is there again."""
    name = _url(pair[0]).split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    end = f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    await postgres_server.execute(f'alter database "{name}" allow_connections false', end)

    for call in (pair[0].accept([delivery("a")]), pair[0].backlog(), pair[1].claim_deliveries(limit=1, lease=LEASE)):
        with pytest.raises(StoreUnavailableError, match="check the database server"):
            await call

    await postgres_server.execute(f'alter database "{name}" allow_connections true')
    assert await pair[0].accept([delivery("a")]) == [True]


async def test_a_broken_operation_fails_alone_in_its_batch(pair: tuple[SqlStore, SqlStore]) -> None:
    """Deliveries share a transaction; one that cannot be stored leaves the others alone."""
    wrong = replace(delivery("wrong"), source=None)  # type: ignore[arg-type] # that is what is wrong with it

    results = await asyncio.gather(
        pair[0].accept([delivery("a")]), pair[0].accept([wrong]), pair[0].accept([delivery("b")]), return_exceptions=True
    )

    assert (results[0], results[2]) == ([True], [True])
    assert isinstance(results[1], InvariantError)


async def test_what_is_queued_is_stored_before_the_store_is_closed(postgres_url: str, clock: FakeClock) -> None:
    """A sender that waits for its answer gets it."""
    store = await open_postgres(postgres_url, clock, database_time=False)
    waiting = [asyncio.ensure_future(store.accept([delivery(f"k{number}")])) for number in range(30)]
    await asyncio.sleep(0)
    await store.close()
    await store.close()

    assert await asyncio.gather(*waiting) == [[True]] * 30
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.backlog()


# --- the hint


async def test_another_replica_hears_at_once_that_there_is_work(pair: tuple[SqlStore, SqlStore]) -> None:
    """A hint: the poll of a second is the truth."""
    heard = asyncio.Event()
    pair[1].runner.on_notify = heard.set
    async with asyncio.timeout(60):
        while not heard.is_set():  # until its listener has connected
            await pair[0].set_mode(ModeRow(scope="global", mode=Mode.ARMED))
            await asyncio.sleep(0.05)
        heard.clear()
        await pair[0].accept([delivery("k")])
        await heard.wait()


# --- migrations


async def test_replicas_that_start_together_on_an_empty_database_migrate_it_once(empty_url: str, clock: FakeClock) -> None:
    """One at a time; the others find nothing left to do."""
    stores = await asyncio.gather(*(open_postgres(empty_url, clock, database_time=False) for _ in range(4)))

    assert await stores[3].accept([delivery("k")]) == [True]
    for one in stores:
        await one.close()


async def test_the_migrated_schema_is_that_of_the_tables_here_too(postgres_url: str, empty_url: str) -> None:
    """Columns and their types as PostgreSQL has them, and the very statements of the indexes."""

    def compared(db: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(db), tables.METADATA))

    def indexes(db: Connection) -> set[str]:
        rows = db.execute(text("select indexdef from pg_indexes where schemaname = 'public' and tablename <> 'alembic_version'"))
        return set(rows.scalars())

    await once(empty_url, tables.METADATA.create_all)

    assert await once(postgres_url, compared) == []
    assert await once(postgres_url, indexes) == await once(empty_url, indexes)


async def test_a_database_of_an_older_release_is_upgraded_with_what_it_holds(empty_url: str, clock: FakeClock) -> None:
    """From the first migration to the newest; nothing is lost."""

    def first(db: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(HERE))
        config.attributes["connection"] = db
        command.upgrade(config, "0001")
        db.execute(text("insert into replicas (id, seen_at) values ('old', 1767614400000)"))

    await once(empty_url, first)
    store = await open_postgres(empty_url, clock, database_time=False)

    assert {one.id for one in await store.beat(Replica(id="new", version="2"))} == {"new", "old"}
    await store.close()


@pytest.mark.parametrize(("least", "used"), [("0001", True), ("9999", False)], ids=["only added to", "something taken away"])
async def test_a_newer_schema_is_used_when_it_says_that_this_release_may(postgres_url: str, least: str, used: bool) -> None:
    """The database knows; an old release has only its own code."""

    def newer(db: Connection) -> None:
        db.execute(text("update alembic_version set version_num = '9999'"))
        db.execute(text("update compatibility set least_revision = :least"), {"least": least})

    await once(postgres_url, newer)

    assert newest() < "9999"
    if used:
        assert await migrated(postgres_url) == "9999"
    else:
        with pytest.raises(SettingsError, match="newer release"):
            await migrated(postgres_url)


# --- time

SHADOW = (
    "create schema shadow",
    "create table shadow.step (by interval)",
    "insert into shadow.step values ('0')",
    """create function shadow.clock_timestamp() returns timestamptz language sql volatile as
    'select pg_catalog.clock_timestamp() + by from shadow.step'""",
)


async def stepped(url: str, by: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("update shadow.step set by = $1::text::interval", by)
    await connection.close()


@pytest.fixture
async def stepping_url(postgres_url: str, postgres_server: postgres.PostgresServer) -> str:
    """A database whose clock can be stepped: its own ``clock_timestamp`` is found before PostgreSQL's."""
    connection = await asyncpg.connect(postgres_url)
    for one in SHADOW:
        await connection.execute(one)
    await connection.close()
    name = postgres_url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    await postgres_server.execute(f'alter database "{name}" set search_path = shadow, public, pg_catalog')
    return postgres_url


class OwnTime(FakeClock):
    """A replica's own clocks: its wall clock may be wrong, its boot-time clock goes on by itself."""

    def __init__(self, wrong_by: timedelta = timedelta(0)) -> None:
        super().__init__(make.NOON + wrong_by)


async def test_replicas_with_wrong_clocks_agree_on_the_time(stepping_url: str) -> None:
    """An hour apart by their own clocks: neither takes the other's lease."""
    first = await open_postgres(stepping_url, SystemClock())
    second = await open_postgres(stepping_url, OwnTime(timedelta(hours=1)))
    await route(first, seeded(1))
    await first.claim_incidents(owner="a", limit=1, lease=LEASE, own=())

    assert await second.claim_incidents(owner="b", limit=1, lease=LEASE, own=()) == []
    assert abs(first.clock.now() - second.clock.now()) < timedelta(seconds=2)
    await first.close()
    await second.close()


async def test_a_database_clock_that_steps_forward_frees_leases_but_not_hands(stepping_url: str) -> None:
    """The other replica may take the incident over, and writes nothing for one lease: until then its holder may still believe."""
    first, own = await open_postgres(stepping_url, OwnTime()), OwnTime()
    second = await open_postgres(stepping_url, own)
    await route(first, seeded(1))
    await first.claim_incidents(owner="a", limit=1, lease=LEASE, own=())
    own.forward(seconds=16)
    await stepped(stepping_url, "-16 seconds")  # only the boot-time clock of the second one went on: the offset stays
    await second.read_clock()
    await stepped(stepping_url, "10 minutes")

    claimed = await second.claim_incidents(owner="b", limit=1, lease=LEASE, own=())

    assert [one.incident.id for one in claimed] == ["inc-1-a"]
    assert not second.steady()
    assert await first.renew(owner="a", ids=("inc-1-a",), lease=LEASE) == {}
    own.forward(seconds=15)
    assert second.steady()
    await first.close()
    await second.close()


async def test_a_database_clock_that_steps_back_holds_nobody_up(stepping_url: str) -> None:
    """A dead replica's lease would last for ten minutes more, and nothing would wake."""
    dead, own = await open_postgres(stepping_url, SystemClock()), SystemClock()
    await route(dead, seeded(1))
    await dead.claim_incidents(owner="dead", limit=1, lease=LEASE, own=())
    await dead.close()
    living = await open_postgres(stepping_url, own)
    await stepped(stepping_url, "-10 minutes")

    await living.read_clock()

    due = await living.next_due()
    assert due is not None
    assert due <= living.clock.now() + timedelta(seconds=30)
    assert not living.steady()
    await living.close()
