"""A lease that is kept: whoever was stopped since it was taken does not believe that it still has it."""

import asyncio
from pathlib import Path

import pytest

from halfrate.core.lifecycle import Shard
from halfrate.engine.hold import held
from halfrate.store.store import Store

from ..store.databases import SqliteDatabase
from ..store.records import a_job, opened, shards, with_room

SPAN = 40.0


class Hands:
    """A clock that stands still until it is moved; who sleeps is woken by that."""

    def __init__(self, at: float) -> None:
        self.at = at
        self._moved = asyncio.Event()

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        end = self.at + seconds
        while self.at < end:
            await self._moved.wait()
            self._moved.clear()

    def move(self, seconds: float) -> None:
        self.at += seconds
        self._moved.set()


def claimed(store: Store, owner: str, now: float) -> Shard:
    (shard,) = store.claim(owner, now, SPAN)
    return shard


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    return SqliteDatabase(tmp_path)


async def settle() -> None:
    """Until the renewing has had its turn, which is in a thread."""
    for _ in range(50):
        await asyncio.sleep(0.005)


def test_who_was_stopped_between_the_claim_and_the_work_is_not_in_time(database: SqliteDatabase) -> None:
    """Another has had the shard meanwhile, and is done with it."""

    async def main() -> None:
        with opened(database) as store:
            with_room(store)
            store.add_job(a_job(), shards(1))
            mine = claimed(store, "w", 100.0)
            other = claimed(store, "other", 150.0)
            assert store.release(other, "other", 1_000.0)
            hands = Hands(9_000.0)
            lost = asyncio.Event()
            async with held(store, mine, "w", hands, 100.0 + SPAN, SPAN, lost.set) as hold:
                assert not hold.in_time()
                await asyncio.sleep(0)
                hands.move(SPAN / 4)
                await asyncio.wait_for(lost.wait(), 5)
                assert not hold.in_time()

    asyncio.run(main())


def test_who_was_stopped_and_missed_by_nobody_is_in_time_once_the_lease_is_renewed(
    database: SqliteDatabase,
) -> None:
    async def main() -> None:
        with opened(database) as store:
            with_room(store)
            store.add_job(a_job(), shards(1))
            mine = claimed(store, "w", 100.0)
            hands = Hands(9_000.0)
            async with held(store, mine, "w", hands, 100.0 + SPAN, SPAN) as hold:
                assert not hold.in_time()
                await asyncio.sleep(0)
                hands.move(SPAN / 4)
                await settle()
                assert hold.in_time()
                # And nobody else can have it until then.
                assert store.claim("other", hands.now() + SPAN - 1, SPAN) == []

    asyncio.run(main())


def test_a_lease_is_renewed_for_as_long_as_the_work_goes_on(database: SqliteDatabase) -> None:
    async def main() -> None:
        with opened(database) as store:
            with_room(store)
            store.add_job(a_job(), shards(1))
            mine = claimed(store, "w", 100.0)
            hands = Hands(100.0)
            async with held(store, mine, "w", hands, 100.0 + SPAN, SPAN) as hold:
                await asyncio.sleep(0)
                for _ in range(12):
                    hands.move(SPAN / 4)
                    await settle()
                    assert hold.in_time()
            assert hands.now() > 100.0 + 2 * SPAN

    asyncio.run(main())
