"""For what a pipeline is run: all records of a model, a selection of them, the items of a list or of a step's value.

It prints:

    checked: ['rome', 'athens']
    big ones: ['rome', 'athens', 'berlin']
    letters: {'rome': 4, 'athens': 6, 'berlin': 6}
    lines: [1, 2]
"""

from pathlib import Path

import cpgraph as cp


@cp.model
class City:
    id: str
    people: int
    south: bool = False


CITIES = [
    City(id="rome", people=2_800_000, south=True),
    City(id="athens", people=640_000, south=True),
    City(id="berlin", people=3_700_000),
    City(id="vaduz", people=6_000),
]


def check(record: City) -> str:
    return record.id


def drop(record: City) -> object:
    """Delete a record: later steps do not get it, and what joins goes on without it. That is how one filters."""
    return cp.delete(record)


def big(store: cp.Store) -> list[str]:
    return [city.id for city in store.all(City)]


def letters(name: str) -> int:
    return len(name)


def lines(text: cp.File) -> int:
    return len(Path(text).read_text(encoding="utf-8").splitlines())


def joined(lines: list[int]) -> list[int]:
    return lines


graph = cp.Graph(
    cp.pipeline(check, each=cp.where(City, south=True)),
    cp.pipeline(
        cp.pipeline(drop, each=cp.where(City, lambda city: city.people < 100_000)),
        big,
        cp.pipeline(letters, each={"name": big}),  # the items of a step's value
    ),
    cp.pipeline(
        cp.pipeline(lines, each={"text": cp.files("texts/*.txt")}),  # the files that match, looked up at each run
        joined,
    ),
    name="cities",
)

if __name__ == "__main__":
    Path("texts").mkdir(exist_ok=True)
    Path("texts/a.txt").write_text("one\n", encoding="utf-8")
    Path("texts/b.txt").write_text("one\ntwo\n", encoding="utf-8")
    run = graph.run(CITIES, dir=None)
    print(f"checked: {list(run.values(check).values())}")
    print(f"big ones: {run.value(big)}")
    print(f"letters: {run.values(letters)}")
    print(f"lines: {run.value(joined)}")
