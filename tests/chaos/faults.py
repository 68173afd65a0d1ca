"""What can go wrong: each kind of fault can be struck, held for a while, and mended."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis

from tests.network.lab import Lab

Act = Callable[[Lab, int], object]


def _nothing(_lab: Lab, _rank: int) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of fault.

    Attributes:
        hold: bounds of the seconds between strike and mend.
        restarts: the Unit has to restart because of it; else it must not.
        cuts: what somebody cannot reach meanwhile, ``store`` or ``peers``; both together isolate.
        of_store: it happens to the store, not to a rank.
        silent: only the store shows it, so it may pass unnoticed while the store is away.

    """

    strike: Act
    mend: Act = _nothing
    hold: tuple[float, float] = (0.0, 0.0)
    restarts: bool = True
    cuts: frozenset[str] = frozenset()
    of_store: bool = False
    silent: bool = False


LONG, SHORT, OUTAGE = (8.0, 11.0), (1.0, 2.5), (2.0, 9.0)
STORE, PEERS = frozenset({"store"}), frozenset({"peers"})


def _signal_workload(number: int) -> Act:
    return lambda lab, rank: lab.strike(rank, number)


def _kill_all_workloads(lab: Lab, _rank: int) -> None:
    newest = max(life.generation for life in lab.watcher.lives())
    for pid in [life.pid for life in lab.watcher.alive() if life.main and life.generation == newest]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _signal_agent(number: int) -> Act:
    return lambda lab, rank: lab.agents[rank].signal(number)


def _kill(lab: Lab, rank: int) -> None:
    lab.agents[rank].kill()


def _rebuild(lab: Lab, rank: int) -> None:
    lab.agents[rank].code()
    lab.rebuild(rank)


def _go_dark(lab: Lab, rank: int) -> None:
    lab.net.cut(rank)
    lab.agents[rank].kill()


def _replace_machine(lab: Lab, rank: int) -> None:
    lab.net.heal(rank)
    _rebuild(lab, rank)


def _heal(lab: Lab, rank: int) -> None:
    lab.net.heal(rank)


def _store(act: Callable[[redis.Redis], object]) -> Act:
    return lambda lab, _rank: act(lab.store.client)


def _configure(name: str, value: int) -> Act:
    return lambda lab, _rank: lab.store.configure(name, value)


def _garbage(lab: Lab, _rank: int) -> None:
    client = lab.store.client
    for key in list(client.scan_iter("unitagent:*")):
        client.delete(key)
        client.set(key, "garbage")


def _of_store(strike: Act, mend: Act = _nothing, *, outage: bool = False) -> Kind:
    hold, cuts = (OUTAGE, STORE) if outage else (SHORT, frozenset[str]())
    return Kind(strike=strike, mend=mend, hold=hold, restarts=False, cuts=cuts, of_store=True)


KINDS: dict[str, Kind] = {
    "workload killed": Kind(strike=_signal_workload(signal.SIGKILL)),
    "workload exits 0": Kind(strike=_signal_workload(signal.SIGUSR1)),
    "all workloads killed": Kind(strike=_kill_all_workloads),
    "container killed": Kind(strike=_kill, mend=_rebuild, hold=(0.1, 1.5)),
    "asked to stop": Kind(strike=_signal_agent(signal.SIGTERM), mend=_rebuild),
    "machine gone": Kind(strike=_go_dark, mend=_replace_machine, hold=LONG, cuts=STORE | PEERS),
    "agent hangs": Kind(
        strike=_signal_agent(signal.SIGSTOP), mend=_signal_agent(signal.SIGCONT), hold=LONG, silent=True
    ),
    "cut off": Kind(strike=lambda lab, rank: lab.net.cut(rank), mend=_heal, hold=LONG, cuts=STORE | PEERS),
    "deaf": Kind(
        strike=lambda lab, rank: lab.net.cut(rank, directions=["in"]),
        mend=_heal,
        hold=LONG,
        cuts=STORE | PEERS,
    ),
    "mute": Kind(
        strike=lambda lab, rank: lab.net.cut(rank, directions=["out"]),
        mend=_heal,
        hold=LONG,
        cuts=STORE | PEERS,
    ),
    "agent pauses": Kind(
        strike=_signal_agent(signal.SIGSTOP), mend=_signal_agent(signal.SIGCONT), hold=SHORT, restarts=False
    ),
    "cut off from the store": Kind(
        strike=lambda lab, rank: lab.net.cut(rank, ["front"]),
        mend=_heal,
        hold=OUTAGE,
        restarts=False,
        cuts=STORE,
    ),
    "cut off from the peers": Kind(
        strike=lambda lab, rank: lab.net.cut(rank, ["comm"]),
        mend=_heal,
        hold=OUTAGE,
        restarts=False,
        cuts=PEERS,
    ),
    "store stopped": _of_store(
        lambda lab, _: lab.store.stop(), lambda lab, _: lab.store.start(), outage=True
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
    "store wiped": _of_store(_store(lambda client: client.flushall())),
    "store drops connections": _of_store(_store(lambda client: client.client_kill_filter(_type="normal"))),
    "store forgets scripts": _of_store(_store(lambda client: client.script_flush())),
    "store full of garbage": _of_store(_garbage),
    "store 100 ms away": _of_store(
        lambda lab, _: lab.net.impair(0.1, 0.0, ["front"]), lambda lab, _: lab.net.repair()
    ),
    "bad line": Kind(
        strike=lambda lab, _: lab.net.impair(0.2, 0.3),
        mend=lambda lab, _: lab.net.repair(),
        hold=LONG,
        restarts=False,
        cuts=STORE | PEERS,
        of_store=True,
    ),
}


def must_restart(kinds: Sequence[str]) -> bool:
    """Whether these faults together leave the Unit no choice."""
    away = any(KINDS[kind].of_store and KINDS[kind].cuts for kind in kinds)
    return any(KINDS[kind].restarts and not (KINDS[kind].silent and away) for kind in kinds)
