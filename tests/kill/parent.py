"""For scripts that serve until they are ended: they end as well when whoever started them is gone."""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any


async def while_it_lives(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` for as long as the process lives that started this one."""
    parent = os.getppid()
    task = asyncio.create_task(work)
    while os.getppid() == parent and not task.done():
        await asyncio.wait({task}, timeout=1.0)
    if task.done():
        task.result()
    task.cancel()
