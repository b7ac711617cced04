"""Records that refer to others: a pipeline in a pipeline, for each order and for each of its lines.

It prints:

    {1: 7.0, 2: 4.0}
    {(1, 'a'): 5.0, (1, 'b'): 2.0, (2, 'c'): 4.0}
    {'invoice-1': 'invoice-1 to Anna', 'invoice-2': 'invoice-2 to Ben'}
"""

import cpgraph as cp


@cp.model
class Order:
    id: int
    customer: str


@cp.model
class Line:
    id: str
    order_id: int
    price: float


@cp.model
class Invoice:
    id: str
    order_id: int
    total: float


def net(price: float) -> float:  # of the innermost record that has such a field
    return price


def total(net: list[float]) -> float:  # of all lines of this order
    return sum(net)


def invoice(order: Order, total: float) -> object:
    """Create a record that refers to another; its id is made of what it is about."""
    return cp.create(Invoice(id=f"invoice-{order.id}", order_id=order.id, total=total))


def address(record: Invoice, store: cp.Store) -> str:
    """Follow the reference, in the store as this step sees it."""
    return f"{record.id} to {store.find(Order, record.order_id).customer}"


graph = cp.Graph(
    cp.pipeline(
        cp.pipeline(
            cp.pipeline(net, each=cp.where(Line, lambda line, record: line.order_id == record.id)),  # its own, not all lines
            total,
            invoice,
            each=Order,
        ),
        cp.pipeline(address, each=Invoice),
    )
)

DATA = [
    Order(id=1, customer="Anna"),
    Order(id=2, customer="Ben"),
    Line(id="a", order_id=1, price=5.0),
    Line(id="b", order_id=1, price=2.0),
    Line(id="c", order_id=2, price=4.0),
]

if __name__ == "__main__":
    run = graph.run(DATA, dir=None)
    print(run.values(total))
    print(run.values(net))
    print(run.values(address))
