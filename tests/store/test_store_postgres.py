"""What holds of a store on PostgreSQL alone: its URLs, its errors, and connections that break."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import psycopg
import pytest

from halfrate.base.errors import HalfrateError, IllegalStep, SettingsError, StorageError, StoreBusy
from halfrate.core.lifecycle import Shard, State
from halfrate.service.home import Home
from halfrate.store import postgres
from halfrate.store.connector import CommitUnknown
from halfrate.store.postgres import PostgresConnector, translated
from halfrate.store.store import Store

from .databases import PostgresDatabase
from .records import LEASE, a_job, a_shard, shards, stepped
from .server import Server, free_port
from .wire import Wire


@pytest.fixture
def database(server: Server) -> PostgresDatabase:
    return PostgresDatabase(server)


@pytest.fixture
def connector(database: PostgresDatabase) -> Iterator[PostgresConnector]:
    with closing(PostgresConnector(database.url, patience=5.0)) as connector:
        yield connector


@pytest.fixture(scope="module")
def frail() -> Iterator[Server]:
    """A server that the tests may stop."""
    with Server() as server:
        yield server


# ---------------------------------------------------------------- statements


@pytest.mark.parametrize(
    ("statement", "expected", "names"),
    [
        ("SELECT 1", b"SELECT 1", ()),
        ("SELECT :a, :b", b"SELECT $1, $2", ("a", "b")),
        ("SET x = :x + 1 WHERE y = :y AND z = :x", b"SET x = $1 + 1 WHERE y = $2 AND z = $1", ("x", "y")),
        ("SELECT :a1_B::text, x::bigint", b"SELECT $1::text, x::bigint", ("a1_B",)),
        ("SELECT ':a', 'it''s :b', \":c\", :d", b"SELECT ':a', 'it''s :b', \":c\", $1", ("d",)),
        ("SELECT :a -- not :b\n, :c", b"SELECT $1 -- not :b\n, $2", ("a", "c")),
        ("SELECT '10:30', '%s', :at % 2", b"SELECT '10:30', '%s', $1 % 2", ("at",)),
        ("SELECT 1 {for_update}", b"SELECT 1 FOR UPDATE", ()),
    ],
)
def test_named_parameters_are_numbered(statement: str, expected: bytes, names: tuple[str, ...]) -> None:
    assert translated(statement) == (expected, names)
    assert translated(statement) is translated(statement)


def test_values_come_back_as_they_were(connector: PostgresConnector) -> None:
    with connector.writing() as transaction:
        transaction.execute("CREATE TABLE t (n BIGINT, x DOUBLE PRECISION, s TEXT)")
        rows = [
            (2**63 - 1, 0.1 + 0.2, "'; --:a $1 %s \N{SNOWMAN}"),
            (-(2**63), 1e-300, ""),
            (None, None, None),
            (0, 1.7e308, "a\nb\\"),
        ]
        for n, x, s in rows:
            assert transaction.execute("INSERT INTO t VALUES (:n, :x, :s)", {"n": n, "x": x, "s": s}) == 1
        assert transaction.fetch_all("SELECT n, x, s FROM t") == rows
        assert transaction.fetch_one("SELECT n FROM t WHERE s = :s", {"s": ""}) == (-(2**63),)
        assert transaction.fetch_one("SELECT n FROM t WHERE s = 'x'") is None
        transaction.execute("UPDATE t SET n = :yes WHERE s = :s", {"yes": True, "s": ""})
        assert transaction.fetch_one("SELECT n FROM t WHERE s = :s", {"s": ""}) == (1,)


def test_our_own_mistakes_are_not_dressed_up(connector: PostgresConnector) -> None:
    with pytest.raises(KeyError), connector.reading() as transaction:
        transaction.execute("SELECT :missing")
    with pytest.raises(StorageError, match="does not exist"), connector.reading() as transaction:
        transaction.execute("SELECT * FROM elsewhere")
    with connector.reading() as transaction:
        assert transaction.fetch_one("SELECT 1") == (1,)


# ---------------------------------------------------------------- transactions


def test_a_reading_sees_one_moment_and_writes_nothing(connector: PostgresConnector) -> None:
    with connector.writing() as transaction:
        transaction.execute("CREATE TABLE t (n BIGINT)")
    with connector.reading() as reading:
        assert reading.fetch_all("SELECT n FROM t") == []
        with connector.writing() as writing:
            writing.execute("INSERT INTO t VALUES (1)")
        assert reading.fetch_all("SELECT n FROM t") == []
    with pytest.raises(StorageError, match="read-only"), connector.reading() as reading:
        reading.execute("INSERT INTO t VALUES (2)")
    with connector.reading() as reading:
        assert reading.fetch_all("SELECT n FROM t") == [(1,)]


def test_what_is_asked_after_a_lock_is_not_older_than_the_lock(connector: PostgresConnector) -> None:
    with connector.writing() as transaction:
        transaction.execute("CREATE TABLE t (n BIGINT)")
    seen: list[int] = []

    def counts() -> None:
        with connector.writing() as second:
            second.lock("count")
            row = second.fetch_one("SELECT count(*) FROM t")
            assert row is not None
            seen.append(row[0])

    with connector.writing() as first:
        first.lock("count")
        with connector.writing() as other:
            other.lock("another name")
        thread = threading.Thread(target=counts)
        thread.start()
        time.sleep(0.2)
        assert seen == []
        first.execute("INSERT INTO t VALUES (1)")
    thread.join()
    assert seen == [1]


def test_a_failed_statement_cannot_be_passed_over(connector: PostgresConnector) -> None:
    with connector.writing() as transaction:
        transaction.execute("CREATE TABLE t (n BIGINT PRIMARY KEY)")

    def passes_over() -> None:
        with connector.writing() as transaction:
            transaction.execute("INSERT INTO t VALUES (1)")
            with suppress(psycopg.Error):
                transaction.execute("INSERT INTO t VALUES (1)")

    with pytest.raises(StorageError, match="did not keep"):
        passes_over()
    with connector.reading() as transaction:
        assert transaction.fetch_all("SELECT n FROM t") == []


def test_a_commit_waits_for_the_disk(server: Server) -> None:
    server.run("CREATE ROLE hasty LOGIN PASSWORD 'p'", "ALTER ROLE hasty SET synchronous_commit = off")
    url = f"postgresql://hasty:p@127.0.0.1:{server.port}/postgres"
    with closing(PostgresConnector(url)) as connector:
        with connector.writing() as transaction:
            assert transaction.fetch_one("SHOW synchronous_commit") == ("on",)
        server.run("ALTER ROLE hasty SET synchronous_commit = remote_apply")
    with closing(PostgresConnector(url)) as connector, connector.writing() as transaction:
        assert transaction.fetch_one("SHOW synchronous_commit") == ("remote_apply",)


# ---------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    "bad",
    [
        "postgresql://me:secret@host:port/db",
        "postgresql://me:secret/more@host/db",
        "postgresql://me:secret@more@host/db",
        "postgresql://me:secret%zz@host/db",
        "postgresql://me@host/db?password=secret&colour=red",
        "postgresql://me:secret@[host/db",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(bad: str) -> None:
    with pytest.raises(SettingsError, match="cannot be read") as caught:
        Store.open(bad)
    assert "secret" not in str(caught.value)
    assert "secret" not in str(caught.value.__cause__ or "")


def refused(url: str) -> str:
    started = time.monotonic()
    with pytest.raises(StorageError) as caught:
        Store.open(url)
    assert time.monotonic() - started < 5, "what waiting does not mend is not waited for"
    return str(caught.value)


def test_a_server_that_cannot_be_used_is_named_without_the_password(server: Server) -> None:
    wrong = server.url().replace(server.password, "pw-wrong")
    texts = [
        refused(wrong),
        refused(server.url("nowhere")),
        refused(f"postgresql://me:pw-secret@127.0.0.1:{free_port()}/db?sslpassword=pw-other"),
        refused("postgresql://me:pw-secret@nowhere.invalid/db"),
    ]
    for text, words in zip(
        texts, ["password authentication", "does not exist", "refused", "resolve"], strict=True
    ):
        assert words in text
        assert "HALFRATE_DATABASE" in text
        assert "pw-" not in text
    assert f"postgresql://127.0.0.1:{server.port}/nowhere" in texts[1]


def test_a_password_is_in_no_repr(database: PostgresDatabase, server: Server) -> None:
    home = Home.from_environment({"HALFRATE_DATABASE": database.url, "HALFRATE_HOME": "/home/of"})
    assert home.database == database.url
    with closing(PostgresConnector(database.url)) as connector:
        shown = [repr(connector), connector.place, repr(home), str(home), f"{[home]!r}"]
    assert all(server.password not in text for text in shown)


def test_without_psycopg_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "halfrate.store.postgres")
    with pytest.raises(SettingsError, match=r"pip install 'halfrate\[postgres\]'"):
        Store.open("postgresql://me:secret@host/db")


def test_text_that_could_not_hold_every_prompt_is_refused(server: Server) -> None:
    server.run("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    assert "ENCODING 'UTF8'" in refused(server.url("latin"))


def test_an_old_server_is_refused(database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_OLDEST", 99)
    assert "needs 99 or newer" in refused(database.url)


def test_a_user_who_may_not_make_tables_is_told(server: Server) -> None:
    server.run("CREATE ROLE guest LOGIN PASSWORD 'p'", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    text = refused(f"postgresql://guest:p@127.0.0.1:{server.port}/postgres")
    assert "permission denied" in text
    assert "what the user of HALFRATE_DATABASE may do" in text


def test_tables_of_another_schema_are_not_ours(server: Server) -> None:
    theirs, ours = PostgresDatabase(server), PostgresDatabase(server)
    theirs.look("CREATE TABLE job (id TEXT)", "INSERT INTO job VALUES ('theirs')")
    both = server.url(options=f"-csearch_path%3D{ours.schema},{theirs.schema}")
    with closing(Store.open(both)) as store:
        store.add_job(a_job(), shards(1))
    assert theirs.look("SELECT id FROM job") == [("theirs",)]
    assert ours.look("SELECT id FROM job") == [("job",)]


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("40001", StoreBusy, "held by another"),
        ("40P01", StoreBusy, "held by another"),
        ("57014", StoreBusy, "held by another"),
        ("23505", IllegalStep, "refused a record"),
        ("53100", StorageError, "no room left"),
        ("42501", StorageError, "what the user of HALFRATE_DATABASE may do"),
        ("XX001", StorageError, "cannot be used"),
    ],
)
def test_errors_are_for_people(
    connector: PostgresConnector, state: str, kind: type[HalfrateError], words: str
) -> None:

    def fails() -> None:
        with connector.writing() as transaction:
            transaction.execute("CREATE TABLE t (n BIGINT)")
            transaction.execute(f"DO $$ BEGIN RAISE SQLSTATE '{state}' USING MESSAGE = 'thus'; END $$")

    with pytest.raises(kind, match=words) as caught:
        fails()
    assert "(thus)" in str(caught.value)
    assert connector.place in str(caught.value)
    # The connection is as good as new.
    with connector.writing() as transaction:
        assert transaction.fetch_one(connector.dialect.has_table, {"name": "t"}) is None


def test_a_record_held_by_another_process_is_busy(database: PostgresDatabase) -> None:
    with closing(Store.open(database.url, patience=0.2)) as store:
        store.add_job(a_job(), shards(1, state=State.RUNNING))
        with psycopg.connect(database.url) as other:
            other.execute("SELECT 1 FROM shard FOR UPDATE")
            with pytest.raises(StoreBusy, match="held by another process"):
                store.change("job-0", lambda shard: stepped(shard, State.COLLECTING))
            # A claim passes over what is locked, and who only looks is in nobody's way.
            assert store.claim("w", 0.0, LEASE) == []
            assert store.shards("job") == [a_shard(state=State.RUNNING)]
        assert len(store.claim("w", 0.0, LEASE)) == 1


def test_of_two_that_wait_for_each_other_one_is_busy(connector: PostgresConnector) -> None:
    both = threading.Barrier(2)
    busy: list[str] = []

    def locks(first: str, second: str) -> None:
        try:
            with connector.writing() as transaction:
                transaction.lock(first)
                both.wait()
                transaction.lock(second)
        except StoreBusy as error:
            busy.append(str(error))

    threads = [threading.Thread(target=locks, args=names) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(busy) == 1
    assert "deadlock" in busy[0]


def test_a_process_that_stopped_inside_a_transaction_is_not_waited_for(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_HELD", 0.3)
    with (
        closing(PostgresConnector(database.url)) as frozen,
        closing(PostgresConnector(database.url)) as other,
    ):

        def stops_inside() -> None:
            with frozen.writing() as first:
                first.execute("CREATE TABLE t (n BIGINT)")
                first.lock("intent")
                with other.writing() as second:
                    second.lock("intent")
                    assert second.fetch_one(other.dialect.has_table, {"name": "t"}) is None
                first.execute("INSERT INTO t VALUES (1)")

        with pytest.raises(StorageError, match="Nothing of this step was saved"):
            stops_inside()
        with frozen.writing() as again:
            again.lock("intent")


# ---------------------------------------------------------------- connections


def sessions(server: Server) -> int:
    ((count,),) = server.run("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'halfrate'")
    return count


def test_many_threads_share_few_connections(frail: Server) -> None:
    database = PostgresDatabase(frail)
    with closing(Store.open(database.url)) as store:
        store.add_job(a_job(), shards(40))
        most = 0

        def work(number: int) -> None:
            nonlocal most
            for _ in range(5):
                store.change(f"job-{number}", lambda shard: stepped(shard, State.RUNNING))
                store.shards("job")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, sessions(frail))
        assert {shard.version for shard in store.shards("job")} == {5}
        assert 1 <= most <= 8
    while sessions(frail):
        time.sleep(0.01)


def test_when_all_connections_are_in_use_it_says_so(database: PostgresDatabase) -> None:
    with closing(PostgresConnector(database.url, patience=0.1)) as connector:

        def nested(depth: int) -> None:
            with connector.reading():
                nested(depth + 1)

        with pytest.raises(StoreBusy, match="All 8 connections of this process"):
            nested(1)
        with connector.reading() as transaction:
            assert transaction.fetch_one("SELECT 1") == (1,)


def test_closing_waits_for_nobody(frail: Server) -> None:
    connector = PostgresConnector(frail.url())
    with connector.reading() as first, connector.reading() as second:
        connector.close()
        assert first.fetch_one("SELECT 1") == second.fetch_one("SELECT 1") == (1,)
    with pytest.raises(StorageError, match="closed"), connector.reading():
        pass
    while sessions(frail):
        time.sleep(0.01)


ENDS = [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
def test_a_server_that_was_restarted_goes_unnoticed(frail: Server, end: signal.Signals) -> None:
    database = PostgresDatabase(frail)
    with closing(Store.open(database.url)) as store:
        store.add_job(a_job(), shards(3))
        with store._connector.reading(), store._connector.reading():
            pass  # several connections are idle now
        frail.stop(end)
        frail.start()
        assert len(store.claim("w", 0.0, LEASE)) == 3
        assert store.shards("job")[0].version == 1


def test_a_server_that_is_away_is_waited_for(frail: Server) -> None:
    database = PostgresDatabase(frail)
    with closing(Store.open(database.url)) as store:
        store.add_job(a_job(), shards(1))
        frail.stop(signal.SIGKILL)
        back = threading.Timer(1.0, frail.start)
        back.start()
        started = time.monotonic()
        assert len(store.claim("w", 0.0, LEASE)) == 1
        assert 0.9 < time.monotonic() - started < 10
        back.join()


def test_a_server_that_stays_away_is_given_up(frail: Server) -> None:
    with closing(Store.open(PostgresDatabase(frail).url, patience=0.5)) as store:
        frail.stop()
        try:
            started = time.monotonic()
            with pytest.raises(StorageError, match="Nothing was changed"):
                store.claim("w", 0.0, LEASE)
            assert 0.2 < time.monotonic() - started < 3
        finally:
            frail.start()
        assert store.claim("w", 0.0, LEASE) == []


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
def test_a_server_that_ends_in_the_middle_of_a_step_has_saved_nothing_of_it(
    frail: Server, end: signal.Signals
) -> None:
    database = PostgresDatabase(frail)
    with closing(Store.open(database.url)) as store:
        store.add_job(a_job(), shards(1))

        def struck(shard: Shard) -> Shard:
            frail.stop(end)
            frail.start()
            return stepped(shard, State.RUNNING)

        with pytest.raises(StorageError, match="Nothing of this step was saved") as caught:
            store.change("job-0", struck)
        assert not isinstance(caught.value, CommitUnknown)
        assert store.shards("job") == [a_shard()]


# ---------------------------------------------------------------- commits whose outcome is unknown


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with Wire(server.port) as wire:
        yield wire


def once(where: str) -> Callable[[], str | None]:
    """Cuts one commit."""
    left = [where]
    return lambda: left.pop() if left else None


@pytest.mark.parametrize(("where", "kept"), [("before", False), ("after", True)])
def test_a_commit_without_an_answer_is_unknown(
    database: PostgresDatabase, wire: Wire, where: str, kept: bool
) -> None:
    with closing(Store.open(wire.url(database.url))) as store:
        store.add_job(a_job(), shards(1))
        (shard,) = store.claim("w", 0.0, LEASE)
        meant = stepped(shard, State.SUBMITTING, intent_at=1.0)
        wire.cut_commits = once(where)
        with pytest.raises(CommitUnknown, match="Whether it was kept is not known"):
            store.save_intent(meant, "w", 200.0, alone=True)
        (found,) = store.shards("job")
        assert (found.state is State.SUBMITTING) == kept
        # Who lost the answer gives the shard back, and whoever reads it next knows what may have been sent.
        store.release(shard, "w", 5.0)
        (again,) = store.claim("v", 5.0, LEASE)
        assert (again.state is State.SUBMITTING) == kept
        assert store.save(stepped(again, State.UPLOADED), "v").state is State.UPLOADED


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_step_whose_commit_is_unknown_is_not_saved_twice(
    database: PostgresDatabase, wire: Wire, where: str
) -> None:
    with closing(Store.open(wire.url(database.url))) as store:
        store.add_job(a_job(), shards(1))
        wire.cut_commits = once(where)
        with pytest.raises(CommitUnknown):
            store.change("job-0", lambda shard: stepped(shard, State.UPLOADED))
        versions = [shard.version for shard in store.shards("job")]
        assert versions == ([1] if where == "after" else [0])


def test_what_was_read_does_not_depend_on_the_end_of_reading(database: PostgresDatabase, wire: Wire) -> None:
    with closing(Store.open(wire.url(database.url))) as store:
        store.add_job(a_job(), shards(1))
        wire.cut_commits = once("before")
        assert store.shards("job") == shards(1)
        wire.cut_commits = once("after")
        assert store.jobs() == [a_job()]
