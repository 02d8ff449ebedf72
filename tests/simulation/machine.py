"""A machine in virtual time: an event loop without waiting, processes that can be killed or frozen at any await.

Everything that the engine does to the outside goes through `run_in_executor`: a database call, a file, a
request. Here each such call is one step of a simulated process. It happens at one instant, a while after it was
asked for, and its result arrives a while after that; in between other processes run. A process may be killed
before the step, inside it (at a rename, a sync, a request on its way) or before the result arrives; then nothing
of its memory is ever used again, and the disk is as the step left it.
"""

import asyncio
import contextvars
import functools
import random
import selectors
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

_R = TypeVar("_R")

EPOCH = 1_790_000_000.0
LONGEST = 90 * 86_400.0
"""Virtual seconds after which a run counts as stuck."""


class Stuck(Exception):
    """Nothing will ever happen again, or not within three months."""


class Crash(BaseException):
    """The process dies here. Not an Exception: nothing may handle it."""


class _Selector(selectors.DefaultSelector):
    """Instead of waiting, time passes."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Stuck("every task waits for another")
        self.loop.pass_time(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs tasks in virtual time; what would run in a thread is a step of the current process."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self._now = 0.0
        self._tasks: list[asyncio.Task[Any]] = []
        super().__init__(selector)
        self.set_task_factory(self._task)

    def close(self) -> None:
        _GRAVEYARD.extend(task for task in self._tasks if not task.done())
        super().close()

    def _task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> "asyncio.Task[Any]":
        task = asyncio.Task(coroutine, loop=loop, **options)
        self._tasks.append(task)
        return task

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float) -> None:
        self._now += seconds
        if self._now > LONGEST:
            raise Stuck(f"not finished after {LONGEST / 86_400:.0f} days")

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., _R], *args: Any
    ) -> "asyncio.Future[_R]":
        process = PROCESS.get(None)
        future: asyncio.Future[_R] = self.create_future()
        if process is None:
            future.set_result(func(*args))
            return future
        process.step(future, contextvars.copy_context(), func, args)
        return future


_GRAVEYARD: list[Any] = []
"""Tasks of killed processes. To collect them would run their `finally` clauses, which no killed process does."""

PROCESS: contextvars.ContextVar["Process"] = contextvars.ContextVar("process")


class Disk:
    """The files of jobs: what a killed process leaves of them is what was there at that instant."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._image = folder.with_name(folder.name + ".image")

    def remember(self) -> None:
        shutil.rmtree(self._image, ignore_errors=True)
        shutil.copytree(self._folder, self._image)

    def restore(self) -> None:
        # Cleaning up on the way out of a step is what a killed process does not do. Files that are as they were
        # are left alone: other processes have them open.
        for path in sorted(self._folder.rglob("*"), reverse=True):
            if not (self._image / path.relative_to(self._folder)).exists():
                path.rmdir() if path.is_dir() else path.unlink()
        for image in sorted(self._image.rglob("*")):
            path = self._folder / image.relative_to(self._image)
            if image.is_dir():
                path.mkdir(exist_ok=True)
            elif not path.exists() or path.read_bytes() != image.read_bytes():
                path.write_bytes(image.read_bytes())
        shutil.rmtree(self._image)


class Machine:
    """What processes share: the loop, the disk, the seed, and how much may still go wrong.

    `reach`: within how many of its places something befalls a process, if anything does.
    """

    def __init__(self, loop: VirtualLoop, seed: int, jobs: Path, reach: int = 70) -> None:
        self.reach = reach
        self.loop = loop
        self.random = random.Random(f"machine {seed}")
        self.disk = Disk(jobs)
        self.crashes_left = 0
        self.reached: Counter[str] = Counter()
        """Places where a process could have died, and how often they were passed."""
        self.crashed: Counter[str] = Counter()
        self.trace: list[str] = []
        self._serial = 0

    def process(self) -> "Process":
        self._serial += 1
        return Process(self, f"p{self._serial}")

    def say(self, text: str) -> None:
        self.trace.append(f"{self.loop.time():14.3f} {text}")


class Process:
    """One process: a context for tasks, a clock of its own, and an end that may come at any point."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name
        self.dead = asyncio.Event()
        self.on_death: Callable[[], None] = lambda: None
        self.skew = 0.0
        rng = machine.random
        self._points = 0
        self._crash_at = rng.randint(1, machine.reach) if rng.random() < 0.6 else None
        self._freeze_at = rng.randint(1, machine.reach) if rng.random() < 0.25 else None
        self._jump_at = rng.randint(1, 60) if rng.random() < 0.15 else None
        self._frozen_until = 0.0
        self._slow = rng.choice([0.001, 0.01, 0.01, 1.0])

    def now(self) -> float:
        """This process's clock."""
        return EPOCH + self.machine.loop.time() + self.skew

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    def start(self, main: Callable[[], Any]) -> "asyncio.Task[Any]":
        context = contextvars.copy_context()
        context.run(PROCESS.set, self)
        return self.machine.loop.create_task(main(), context=context)

    def step(
        self,
        future: "asyncio.Future[Any]",
        context: contextvars.Context,
        func: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        """Run `func` after a while, and give its result a while later."""
        loop = self.machine.loop
        name = _name(func)

        def begin() -> None:
            if self.dead.is_set():
                return
            if self._frozen_until > loop.time():
                loop.call_at(self._frozen_until, begin)
                return
            try:
                self.point(f"before {name}")
                result, error = context.run(func, *args), None
                self.point(f"after {name}")
            except Crash:
                self.die()
                return
            except Exception as failure:  # noqa: BLE001 - whatever it is, it is the caller's
                result, error = None, failure
            self._deliver(future, result, error)

        self._later(begin)

    def _deliver(self, future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
        loop = self.machine.loop

        def deliver() -> None:
            if self.dead.is_set() or future.done():
                return
            if self._frozen_until > loop.time():
                loop.call_at(self._frozen_until, deliver)
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._later(deliver)

    def _later(self, call: Callable[[], None]) -> None:
        self.machine.loop.call_later(self.machine.random.random() * self._slow, call)

    def hold(self, seconds: float) -> None:
        """The step under way takes so long: the result is late, and so is whatever comes after."""
        self._frozen_until = max(self._frozen_until, self.machine.loop.time() + seconds)

    def point(self, what: str, *, between: bool = True) -> None:
        """A place where this process may die, freeze, or find its clock changed.

        `between`: of two things that it does, not inside a single one (a request that is on its way out).
        """
        machine, rng = self.machine, self.machine.random
        machine.reached[what] += 1
        self._points += 1
        if self._freeze_at is not None and self._points >= self._freeze_at and between:
            self._freeze_at = None
            seconds = 10 ** rng.uniform(1, 4.6)
            machine.say(f"{self.name} freezes for {seconds:.0f} s: {what}")
            self.hold(seconds)
        if self._points == self._jump_at:
            self.skew += rng.choice([-1, 1]) * 10 ** rng.uniform(0, 1.4)
            machine.say(f"{self.name}'s clock jumps to {self.skew:+.0f} s: {what}")
        if self._points == self._crash_at and machine.crashes_left > 0:
            machine.crashes_left -= 1
            machine.crashed[what] += 1
            machine.say(f"{self.name} is killed: {what}")
            machine.disk.remember()
            raise Crash(what)

    def die(self) -> None:
        """All memory is gone; the kernel closes what was open."""
        self.dead.set()
        self.on_death()
        self.machine.disk.restore()


def _name(func: Callable[..., Any]) -> str:
    """What a step does, under all that was wrapped around it."""
    while isinstance(func, functools.partial):
        inner = func.args[0] if func.args and callable(func.args[0]) else func.func
        func = inner
    return func.__qualname__.replace(".<locals>.<lambda>", "")


@contextmanager
def crash_points() -> Generator[None]:
    """Inside steps, too, a process may die: whenever a file is synced or renamed."""
    import os

    fsync, replace = os.fsync, Path.replace

    def point(what: str) -> None:
        process = PROCESS.get(None)
        if process is not None:
            # Two frames up: whoever syncs or renames.
            process.point(f"{what} in {sys._getframe(2).f_code.co_qualname}")

    def synced(handle: int) -> None:
        point("before a sync")
        # Nothing here outlives a power cut: a sync would only take time.
        del handle

    def replaced(self: Path, target: Path) -> Path:
        point("before a rename")
        done = replace(self, target)
        point("after a rename")
        return done

    os.fsync, Path.replace = synced, replaced  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        os.fsync, Path.replace = fsync, replace  # type: ignore[method-assign]
