"""Where steps run: in threads, in processes, in this thread, or in any executor of `concurrent.futures`.

It prints:

    threads: [25, 168, 1229], in this process
    processes: [25, 168, 1229], in others
    inline: [25, 168, 1229], in this process
    ThreadPoolExecutor: [25, 168, 1229], in this process
"""

import os
from concurrent.futures import ThreadPoolExecutor

import cpgraph as cp


def primes(below: int) -> int:
    """Count primes: work for a processor, which threads do not share out and processes do."""
    sieve = bytearray([1]) * below
    for number in range(2, below):
        sieve[number * number :: number] = bytes(len(range(number * number, below, number)))
    return sum(sieve[2:])


def process() -> int:
    return os.getpid()


graph = cp.Graph(cp.pipeline(primes, each={"below": [100, 1_000, 10_000]}), process, name="primes")


def shown(executor: object) -> str:
    run = graph.run(dir=None, executor=executor)
    here = run.value(process) == os.getpid()
    return f"{list(run.values(primes).values())}, in {'this process' if here else 'others'}"


if __name__ == "__main__":
    for executor in ("threads", "processes", "inline"):
        print(f"{executor}: {shown(executor)}")
    with ThreadPoolExecutor(2) as pool:  # or a Dask client's get_executor(), loky, mpi4py, …
        print(f"{type(pool).__name__}: {shown(pool)}")
