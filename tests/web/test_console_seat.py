"""How the tasks of a console's connection end."""

from __future__ import annotations

import asyncio

from vps.console_seat import end


def test_a_task_that_takes_its_cancellation_for_a_timeout_ends_all_the_same() -> None:
    taken = 0

    async def types() -> None:
        nonlocal taken
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                taken += 1
                if taken > 1:
                    raise

    async def fails() -> None:
        raise ValueError("whatever it was")

    async def main() -> None:
        tasks = [asyncio.create_task(types()), asyncio.create_task(fails())]
        await asyncio.sleep(0)
        await asyncio.wait_for(end(tasks), 10)
        assert all(task.done() for task in tasks)

    asyncio.run(main())
    assert taken == 2
