"""A loop: records that a step creates go through the same pipeline, later in the same run.

It prints:

    /: /about, /news
    /about: /, /news
    /news: /news/1, /
    /news/1: /news
    found again in an unchanged site: 0 fetched
"""

import cpgraph as cp

SITE = {"/": ("/about", "/news"), "/about": ("/", "/news"), "/news": ("/news/1", "/"), "/news/1": ("/news",)}


@cp.model
class Page:
    id: str
    links: tuple[str, ...] = ()


def fetch(id: str) -> tuple[str, ...]:
    return SITE[id]


def follow(fetch: tuple[str, ...]) -> list[object]:
    """Note the links, and create the pages they lead to; a page is created once, however many lead to it."""
    return [cp.update(links=fetch), *(cp.create(Page(id=link), if_exists="keep") for link in fetch)]


graph = cp.Graph(cp.pipeline(fetch, follow, each=Page, concurrency=8))

if __name__ == "__main__":
    run = graph.run([Page(id="/")])
    for page in sorted(run.store.all(Page), key=lambda page: page.id):
        print(f"{page.id}: {', '.join(page.links)}")
    again = graph.run([Page(id="/")])
    print(f"found again in an unchanged site: {again.counts['fetch'].get('computed', 0)} fetched")
