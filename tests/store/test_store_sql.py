"""What the statements promise: that both databases understand them, and that indexes answer the frequent ones."""

import re
import subprocess
import sys

import pytest

from halfrate.core.job import JobState
from halfrate.core.lifecycle import MOVING, WAITING, State
from halfrate.store import call_sql, migrate, process_sql, sql, surface_sql, webhook_sql
from halfrate.store.connector import Dialect, Params
from halfrate.store.store import Store

from .databases import Database

POSTGRES = Dialect("FOR UPDATE", "FOR UPDATE SKIP LOCKED", "CAST(trunc(at) AS BIGINT) / 86400", "")


def every_statement() -> list[str]:
    found: list[str] = []
    modules = (sql, surface_sql, call_sql, webhook_sql, process_sql)
    for name, value in [pair for module in modules for pair in vars(module).items()]:
        if name.isupper() and not name.startswith("_"):
            found += [value] if isinstance(value, str) else []
            found += list(value.values()) if isinstance(value, dict) else []
    return found + [each for number in migrate.MIGRATIONS for each in migrate.statements(number)]


def test_there_are_statements() -> None:
    assert len(every_statement()) > 40
    assert {sql.CLAIM, surface_sql.CLAIM_SURFACE_BATCHES, surface_sql.FILES_OLDEST} <= set(every_statement())


@pytest.mark.parametrize(
    "word",
    [
        "AUTOINCREMENT", "PRAGMA", "INSERT OR", "REPLACE INTO", "IFNULL", "DATETIME", "STRFTIME", "ROWID",
        "SERIAL", "JSONB", "ILIKE", "TOTAL", "ANY", "LIKE", "GLOB", "::", "%", "`", '"', r"\?",
    ],
)  # fmt: skip
def test_no_statement_speaks_one_dialect(word: str) -> None:
    """`%` would have to be doubled for PostgreSQL's driver; LIKE minds case in one and not in the other."""
    pattern = rf"\b{word}\b" if word[0].isalpha() else word
    assert [each for each in every_statement() if re.search(pattern, each, re.IGNORECASE)] == []


def test_placeholders_are_the_connectors() -> None:
    for statement in every_statement():
        assert "{" not in POSTGRES.fill(statement)
    assert "LIMIT :limit\n    FOR UPDATE SKIP LOCKED\n)" in POSTGRES.fill(sql.CLAIM)
    assert POSTGRES.fill(sql.SHARD_TO_CHANGE).endswith("WHERE id = :id FOR UPDATE")
    claim = POSTGRES.fill(surface_sql.CLAIM_SURFACE_BATCHES)
    assert "LIMIT :limit\n    FOR UPDATE SKIP LOCKED\n)" in claim
    for statement in (
        surface_sql.UPLOAD_TO_CHANGE,
        surface_sql.SURFACE_BATCH_TO_CHANGE,
        surface_sql.STILL_HELD,
        webhook_sql.WEBHOOK_TO_CHANGE,
        webhook_sql.WEBHOOKS_OF_TEAM,
        webhook_sql.JOB_STATE,
    ):
        assert POSTGRES.fill(statement).strip().endswith("FOR UPDATE")


def test_what_counts_as_live_is_the_life_cycles() -> None:
    assert set(State) - MOVING == {State.DONE, State.STOPPED, State.PAUSED}
    assert "state NOT IN ('done', 'stopped', 'paused')" in sql.CLAIM
    assert {State.DONE.value, State.STOPPED.value, State.PAUSED.value} == {"done", "stopped", "paused"}
    assert {State.PLANNED, State.UPLOADED} == WAITING
    assert all("state IN ('planned', 'uploaded')" in text for text in (sql.NEXT_WAITING, sql.CANDIDATES))
    assert f"state = '{State.SUBMITTING.value}'" in sql.OTHER_INTENTS
    assert f"state = '{State.SUBMITTING.value}'" in sql.OPEN_INTENT
    assert f"('{JobState.OPEN.value}', '{JobState.STOPPED.value}', '{JobState.PAUSED.value}')" in sql.TWINS


_CLAIM: Params = {"now": 1.0, "limit": 8, "owner": "w", "lease_until": 2.0}
_PLACE: Params = {"team": "t", "created_at": 1.0, "id": "i", "limit": 8}
_FILES: Params = {**_PLACE, "purpose": "batch"}
_BATCHES: Params = {**_PLACE, "surface": "openai"}
_DELIVERIES: Params = {"since": 1.0, "webhook_id": "", "state": "", "limit": 8}
_REPLAY: Params = {"now": 1.0, "event_id": "evt", "since": 1.0, "webhook_id": "", "state": ""}
_IN_ORDER = ("shard_due", "job_newest", "stored_file", "upload_oldest", "surface_batch", "delivery")
"""Indexes that give rows in the order in which they are asked for."""


@pytest.mark.parametrize(
    ("statement", "params", "index"),
    [
        (sql.CLAIM, _CLAIM, "shard_due"),
        (sql.CLAIM_OF_JOB, {**_CLAIM, "job_id": "job"}, "shard_due_of_job"),
        (sql.NEXT_DUE, {}, "shard_due"),
        (sql.NEXT_DUE_OF_JOB, {"job_id": "job"}, "shard_due_of_job"),
        (sql.OTHER_INTENTS, {"account": "a", "id": "job-0"}, "shard_intents"),
        (sql.OPEN_INTENT, {"account": "a"}, "shard_intents"),
        (sql.HINT, {"account": "a", "batch_id": "b", "now": 1.0}, "(sqlite_autoindex_batch_1|batch_pkey)"),
        (sql.OWNERS, {}, "shard_owner"),
        (sql.TAKE_OVER, {"owner": "w", "dead": "d", "lease_until": 2.0}, "shard_owner"),
        (sql.JOBS, {"limit": 10}, "job_newest"),
        (sql.TWINS, {"spec_hash": "h", "input_size": 1}, "job_twins"),
        (sql.COLLECTIONS, {"job_id": "job"}, "batch_of_job"),
        (sql.LEDGER_OF_JOB["model"], {"job_id": "job"}, "ledger_of_job"),
        (surface_sql.KEY, {"id": "k"}, "(sqlite_autoindex_api_key_1|api_key_pkey)"),
        (surface_sql.FILES_NEWEST, _FILES, "stored_file_of_team"),
        (surface_sql.FILES_OLDEST, _FILES, "stored_file_of_team"),
        (surface_sql.EXPIRED_FILES, {"now": 1.0, "limit": 8}, "stored_file_life"),
        (surface_sql.OLD_UPLOADS, {"before": 1.0, "limit": 8}, "upload_oldest"),
        (surface_sql.SURFACE_BATCHES, _BATCHES, "surface_batch_of_team"),
        (surface_sql.SURFACE_BATCHES_BEFORE, _BATCHES, "surface_batch_of_team"),
        (surface_sql.SURFACE_TWINS, {"team": "t", "digest": "d", "since": 1.0}, "surface_batch_twins"),
        (surface_sql.CLAIM_SURFACE_BATCHES, _CLAIM, "surface_batch_due"),
        (surface_sql.NEXT_SURFACE_BATCH, {}, "surface_batch_due"),
        (webhook_sql.WEBHOOKS_OF_TEAM, {"team": "t"}, "webhook_of_team"),
        (webhook_sql.NEXT_DELIVERY, {}, "delivery_due"),
        (webhook_sql.DUE_WEBHOOKS, {"now": 1.0}, "(delivery_due|delivery_due_of_webhook)"),
        (webhook_sql.CLAIM_DELIVERIES, {**_CLAIM, "webhook_id": "wh"}, "delivery_due_of_webhook"),
        (webhook_sql.DELIVERIES, _DELIVERIES, "delivery_newest"),
        (webhook_sql.REPLAY_EVENT, _REPLAY, "(sqlite_autoindex_delivery_1|delivery_pkey)"),
        (webhook_sql.REPLAY_SINCE, _REPLAY, "delivery_newest"),
        (webhook_sql.SWEEP_DELIVERIES, {"before": 1.0}, "delivery_newest"),
    ],
)
def test_an_index_answers(
    store: Store, database: Database, statement: str, params: Params, index: str
) -> None:
    explain, uses, sorts = (
        "EXPLAIN QUERY PLAN",
        rf"USING (COVERING )?INDEX {index}\b",
        "TEMP B-TREE FOR ORDER",
    )
    if database.kind == "postgres":
        explain, uses, sorts = "EXPLAIN", rf"Index (Only )?Scan.* (using|on) {index}\b", "Sort Key: "
    with store._connector.reading() as transaction:
        if database.kind == "postgres":
            # In tables as small as these, reading all of one is cheaper.
            transaction.execute("SET LOCAL enable_seqscan = off")
        plan = [str(row[-1]) for row in transaction.fetch_all(f"{explain} {statement}", params)]
    assert any(re.search(uses, step) for step in plan), plan
    if index.startswith(_IN_ORDER):
        assert not any(sorts in step for step in plan), plan


def test_the_store_brings_no_framework_along() -> None:
    """Every command imports it: what it costs is paid on each."""
    heavy = {"sqlalchemy", "alembic", "asyncio", "importlib.resources", "importlib_resources", "psycopg"}
    code = f"import sys, halfrate.store.store; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
