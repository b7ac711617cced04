"""Records: what a model is, a pipeline for each record, and how to read what came of it.

It prints:

    Pixel: tall
    Rex: small
    ['Pixel', 'Rex', 'Bella']
    [Cat(id=3, name='Bella', height=22.0, size='small', indoors=False)]
    Rex is immutable: 'height'
    {'Cat': [{'id': 1, 'name': 'Pixel', 'height': 31.5, 'size': 'tall', 'indoors': True}]}
"""

import attrs

import cpgraph as cp


@cp.model
class Cat:
    id: int
    name: str
    height: float
    size: str | None = None
    indoors: bool = True  # a default; a False that is given wins over it

    @property
    def title(self) -> str:  # models may have methods and properties
        return f"{self.name}: {self.size}"


@cp.step(sets="size")  # writes its result to this field of the record
def size(height: float) -> str:  # gets this field of the record; to no other is it sensitive
    return "tall" if height > 30 else "small"


graph = cp.Graph(cp.pipeline(size, each=Cat, concurrency=2))  # at most two at once

CATS = [
    Cat(id=1, name="Pixel", height=31.5),
    Cat(id=2, name="Rex", height=28.0),
    Cat(id=3, name="Bella", height=22.0, indoors=False),
]

if __name__ == "__main__":
    run = graph.run(CATS, dir=None)
    print(run.store.find(Cat, 1).title)
    print(run.store.find(Cat, 2).title)
    print(run.store.values(Cat, "name"))
    print(run.store.where(Cat, lambda cat: cat.height < 25, indoors=False))
    rex = run.store.find(Cat, 2)
    try:
        rex.height = 99.0  # type: ignore[misc]  # that is the point
    except attrs.exceptions.FrozenInstanceError:
        print(f"{rex.name} is immutable: 'height'")
    print(graph.run(CATS[:1], dir=None).data)  # all of it as plain dicts
