"""`open=`: a condition asks about the record, a guard looks at the store as it is at this moment.

The first pipeline goes on until three samples are valid: what has started then ends, and no more is started. The second begins
then, the third never.

It prints:

    valid: 3 of 20
    counted: 3
    never: closed
    True
"""

import cpgraph as cp


@cp.model
class Sample:
    id: int
    dry: bool = True
    valid: bool = False


@cp.step(sets="valid")
def check(id: int) -> bool:
    return True


def count(store: cp.Store) -> int:
    return store.count(Sample, valid=True)


def never() -> str:
    return "this is not reached"


def too_few(store: cp.Store) -> bool:
    return store.count(Sample, valid=True) < 3


graph = cp.Graph(
    cp.pipeline(
        cp.pipeline(check, open=lambda dry: dry),  # a condition: asked once per record
        each=Sample,
        open=too_few,  # a guard: asked again whenever the samples have changed
        concurrency=1,
    ),
    cp.pipeline(count, open=lambda store: store.count(Sample, valid=True) >= 3),
    cp.pipeline(never, open=lambda store: store.count(Sample) == 0),
)

if __name__ == "__main__":
    run = graph.run([Sample(id=n, dry=n != 2) for n in range(20)], dir=None)
    print(f"valid: {run.store.count(Sample, valid=True)} of {run.store.count(Sample)}")
    print(f"counted: {run.value(count)}")
    print(f"never: {run.nodes[-1].ended}")
    print(run.ok)  # closed is not failed
