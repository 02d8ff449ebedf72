"""Other processes for the tests: run as a script, `child.py <verb> <url> ...`, one line on stdout a fact."""

import os
import sqlite3
import sys
from contextlib import closing

import msgspec

from halfrate.base.errors import HalfrateError
from halfrate.base.results import Billed, Collection
from halfrate.base.types import Counts, Usage
from halfrate.core.job import JobState
from halfrate.core.lifecycle import Refs, Shard, State
from halfrate.store.store import Store


def say(*words: object) -> None:
    print(*words, flush=True)


def wait() -> None:
    """Until the parent says so; several children then start at once."""
    say("ready")
    sys.stdin.readline()


def opens(url: str, user: str = "") -> None:
    if user:
        # Only now: this user may not be allowed to read what Python is made of.
        os.setuid(int(user))
    wait()
    try:
        store = Store.open(url)
    except HalfrateError as error:
        say(type(error).__name__, error)
        return
    say("opened", len(store.jobs()))
    store.close()


def claims(url: str, owner: str) -> None:
    store = Store.open(url)
    wait()
    # Bounded: a store that goes on offering what is taken must fail the test, not hang it.
    for _ in range(1000):
        for shard in store.claim(owner, 1.0, 100.0, limit=3):
            say(shard.id)
    store.close()


def intends(url: str, owner: str) -> None:
    store = Store.open(url)
    (shard,) = store.claim(owner, 1.0, 100.0, limit=1)
    wait()
    meant = msgspec.structs.replace(shard, state=State.SUBMITTING)
    say("alone" if store.save_intent(meant, owner, 200.0, alone=True) else "not alone")
    store.close()


def holds(path: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        wait()


def works(url: str, owner: str) -> None:
    """Takes attempts through their states for ever, and says each payment once it is committed."""
    store = Store.open(url)
    wait()
    now = 1.0
    while True:
        now += 1000.0
        for shard in store.claim(owner, now, 100.0, limit=4):
            attempt(store, owner, shard, now)


def attempt(store: Store, owner: str, shard: Shard, now: float) -> None:
    number = shard.attempt + 1
    meant = msgspec.structs.replace(shard, state=State.SUBMITTING, attempt=number)
    saved = store.save_intent(meant, owner, now + 100.0, alone=False)
    assert saved is not None
    refs = Refs(batch_id=f"{shard.id}-b{number}")
    running = msgspec.structs.replace(saved, state=State.RUNNING, refs=refs)
    saved = store.save(running, owner, lease_until=now + 100.0)
    line = Billed("m", 1, Usage(input=1), 10**12 + 1, None)
    collection = Collection(Counts(succeeded=1), 0, (line,), (line,), 0, 0, 0, 0, ())
    ended = msgspec.structs.replace(saved, state=State.CLEANING)
    store.save_collected(ended, owner, number, collection, now)
    say(shard.id, number)


def ends(url: str) -> None:
    """Ends every job, and says so of each once it is committed."""
    store = Store.open(url)
    jobs = store.jobs()
    wait()
    for job in jobs:
        store.save_job(msgspec.structs.replace(job, state=JobState.DONE, finished_at=9.0), 9.0)
        say(job.id)
    store.close()


if __name__ == "__main__":
    verbs = {
        "opens": opens,
        "claims": claims,
        "intends": intends,
        "holds": holds,
        "works": works,
        "ends": ends,
    }
    verbs[sys.argv[1]](*sys.argv[2:])
