"""Changes: what a step returns to create, update and delete records. They are made all together, or not at all.

It prints:

    [Account(id='anna', balance=70), Account(id='ben', balance=80)]
    [Entry(id='b368f03a7ea1d302', text='anna paid 30 to ben')]
    pay failed: there is no Account with the id 'zoe' in what this node sees
    [Account(id='anna', balance=100), Account(id='ben', balance=50)]
    30 paid
"""

import cpgraph as cp


@cp.model
class Account:
    id: str
    balance: int = 0


@cp.model
class Entry:
    id: str = cp.auto_id()  # made when the record is committed, of what created it: the same each time
    text: str


def opening() -> list[object]:
    return [
        cp.create(Account(id="anna", balance=100)),
        cp.create(Account(id="ben", balance=50)),
        cp.create(Account(id="anna"), if_exists="keep"),  # is there already: left as it is; without if_exists=, an error
    ]


def pay(store: cp.Store, payee: str) -> object:
    anna = store.find(Account, "anna")
    paid = 30
    return cp.result(  # a value and changes; changes alone are returned as they are, one or a list
        f"{paid} paid",
        cp.create(Entry(text=f"anna paid {paid} to {payee}")),
        cp.update(anna, balance=anna.balance - paid),
        cp.update(Account, payee, balance=getattr(store.get(Account, payee), "balance", 0) + paid),
    )


graph = cp.Graph(cp.pipeline(opening, pay), models=[Account, Entry], params=["payee"])

if __name__ == "__main__":
    run = graph.run(dir=None, params={"payee": "ben"})
    print(run.store.all(Account))
    print(run.store.all(Entry))
    bad = graph.run(dir=None, params={"payee": "zoe"})
    print(f"{bad.failures[0].step} failed: {str(bad.failures[0].error).splitlines()[0]}")
    print(bad.store.all(Account))  # Anna has not paid
    print(run.value(pay))
