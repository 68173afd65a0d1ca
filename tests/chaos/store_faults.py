"""What can go wrong with the store. Nothing restarts because of it, and no answer changes."""

from __future__ import annotations

from collections.abc import Callable

import redis

from tests.chaos import limits
from tests.chaos.kinds import STORE, Act, Kind, nothing
from tests.chaos.limits import Limit
from tests.chaos.rebuilding import Platform


def _crash_in_the_dark(lab: Platform, rank: int) -> None:
    """A workload is killed when everybody knows that the store is gone."""
    lab.store.stop()
    lab.until(
        lambda: not any(agent.status().get("store", {}).get("connected") for agent in lab.agents.values()),
        "the outage is noticed",
    )
    lab.strike(rank)


def _store(act: Callable[[redis.Redis], object]) -> Act:
    return lambda lab, _rank: act(lab.store.client)


def _configure(name: str, value: int) -> Act:
    return lambda lab, _rank: lab.store.configure(name, value)


def _garbage(lab: Platform, _rank: int) -> None:
    client = lab.store.client
    for key in list(client.scan_iter("unitagent:*")):
        client.delete(key)
        client.set(key, "garbage")


def _of_store(
    strike: Act, mend: Act = nothing, *, outage: bool = False, look_on: Limit = limits.settled
) -> Kind:
    hold, cuts = (limits.outage, STORE) if outage else (limits.for_a_moment, frozenset[str]())
    return Kind(
        strike=strike,
        mend=mend,
        hold=hold,
        restarts=False,
        cuts=cuts,
        where="store",
        unseen=True,
        look_on=look_on,
    )


def _set_back(strike: Act, mend: Act = nothing, *, outage: bool = False) -> Kind:
    """Who is remembered is nobody: a lease and a takeover pass, and nothing happens."""
    return _of_store(strike, mend, outage=outage, look_on=limits.taken_over)


OF_STORE: dict[str, Kind] = {
    "store stopped": _of_store(
        lambda lab, _: lab.store.stop(), lambda lab, _: lab.store.start(), outage=True
    ),
    "store stopped, workload killed": Kind(
        strike=_crash_in_the_dark,
        mend=lambda lab, _: lab.store.start(),
        hold=limits.until_all_know,
        cuts=STORE,
        where="store",
    ),
    "store frozen": _of_store(
        lambda lab, _: lab.store.freeze(), lambda lab, _: lab.store.thaw(), outage=True
    ),
    "store out of memory": _of_store(_configure("maxmemory", 1), _configure("maxmemory", 0), outage=True),
    "store read-only": _of_store(
        _store(lambda client: client.replicaof("127.0.0.1", "1")),
        _store(lambda client: client.replicaof("NO", "ONE")),
        outage=True,
    ),
    "store full of clients": _of_store(
        lambda lab, _: lab.store.crowd(), lambda lab, _: lab.store.make_room(), outage=True
    ),
    "store killed, back empty": _of_store(lambda lab, _: lab.store.restart()),
    "store set back": _set_back(
        lambda lab, _: lab.store.stop(), lambda lab, _: lab.store.come_back(), outage=True
    ),
    "store fails over to an old copy": _set_back(lambda lab, _: lab.store.fail_over()),
    "store set back in place": _set_back(lambda lab, _: lab.store.set_back()),
    "store wiped": _of_store(_store(lambda client: client.flushall())),
    "store drops connections": _of_store(_store(lambda client: client.client_kill_filter(_type="normal"))),
    "store forgets scripts": _of_store(_store(lambda client: client.script_flush())),
    "store full of garbage": _of_store(_garbage),
    "store 100 ms away": _of_store(
        lambda lab, _: lab.net.impair(0.1, 0.0, ["front"]), lambda lab, _: lab.net.repair()
    ),
}
