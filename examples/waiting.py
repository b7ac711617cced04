"""Waiting overlaps: whatever waits for a network, a command or a timer, as threads or as `async def`, within limits.

It prints:

    threads: pages 1 to 4, four at once
    async: pages 1 to 100, a hundred at once
    with a limit: two at once
"""

import asyncio
import threading

import cpgraph as cp

four = threading.Barrier(4, timeout=20)  # passed only by four at once


def fetch(page: int) -> int:
    four.wait()  # a server that answers after a while
    return page


waiting = 0


async def fetch_async(page: int) -> int:
    global waiting
    waiting += 1
    while waiting < 100:  # passed only by a hundred at once
        await asyncio.sleep(0)
    return page


server = cp.Limit(2)  # shared by all steps that name it; also Limit(per_second=10)
calls: list[int] = []


@cp.step(limit=server)
async def ask(page: int) -> int:
    calls.append(page)
    at_once = len(calls)
    await asyncio.sleep(0.01)
    calls.remove(page)
    return at_once


def paged(step: object, pages: int) -> cp.Graph:
    return cp.Graph(cp.pipeline(step, each={"page": range(1, pages + 1)}))


if __name__ == "__main__":
    pages = list(paged(fetch, 4).run(dir=None).values(fetch).values())
    print(f"threads: pages {pages[0]} to {pages[-1]}, four at once")
    pages = list(paged(fetch_async, 100).run(dir=None).values(fetch_async).values())
    print(f"async: pages {pages[0]} to {pages[-1]}, a hundred at once")
    most = max(paged(ask, 20).run(dir=None).values(ask).values())
    print(f"with a limit: {'two' if most == 2 else most} at once")
