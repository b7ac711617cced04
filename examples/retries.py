"""Trying again: a step that fails now and then, one that is told when to come back, one that takes too long.

It prints:

    flaky: at the 3rd attempt
    busy: at the 2nd attempt
    slow failed after 1 attempt: TimeoutError
"""

import threading

import cpgraph as cp

attempts = {"flaky": 0, "busy": 0}


@cp.step(retries=5, backoff=0.01, retry_on=ConnectionError)  # waits about 0.01 s, then twice as long, …
def flaky() -> str:
    attempts["flaky"] += 1
    if attempts["flaky"] < 3:
        raise ConnectionError("reset by peer")
    return f"at the {attempts['flaky']}rd attempt"


@cp.step(retries=1)
def busy() -> str:
    attempts["busy"] += 1
    if attempts["busy"] < 2:
        raise cp.Retry(after=0.01)  # what a server asked for in its Retry-After
    return f"at the {attempts['busy']}nd attempt"


@cp.step(timeout=0.05)  # per attempt
def slow() -> str:
    threading.Event().wait(10)
    return "too late"


graph = cp.Graph([flaky, busy, slow])

if __name__ == "__main__":
    run = graph.run(dir=None)
    print(f"flaky: {run.value(flaky)}")
    print(f"busy: {run.value(busy)}")
    (failure,) = run.failures
    print(f"{failure.node} failed after {failure.attempts} attempt: {failure.kind}")
