"""How well agents keep in touch with the store over a line that loses and delays what their hosts send.

Two hosts in network namespaces, with as many agents' stores each as asked for, exchange over the same line:
one as agents do, the other without a second try of what was lost. What counts is how often somebody is out of
touch for a lease: it would have to stop its workload then, unless rank 0 answers it. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import figures  # noqa: E402

from tests.network.cabling import STORE_IP, Cabling  # noqa: E402
from tests.network.redis_server import PORT, RedisServer  # noqa: E402

IN_TOUCH = ROOT / "tests" / "network" / "programs" / "in_touch.py"
KINDS: dict[str, tuple[int, ...]] = {
    "as agents do": (),
    "without a second try": (1,),
}  # tries, if not its own
LEASE = 5.0  # seconds


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--agents", type=int, default=40, help="on each host (default 40)")
    options.add_argument("--seconds", type=float, default=120.0, help="of bad line (default 120)")
    options.add_argument("--loss", type=float, default=0.3, help="share that is lost (default 0.3)")
    options.add_argument("--delay", type=float, default=0.2, help="seconds (default 0.2)")
    chosen = options.parse_args()
    if os.geteuid() != 0:
        print("network namespaces need root", file=sys.stderr)
        return 2
    found = _measure(chosen)
    figures.publish(chosen, {"bad line": found}, lambda: _table(found))
    return 0


def _measure(chosen: argparse.Namespace) -> dict[str, Any]:
    net = Cabling(len(KINDS))
    with tempfile.TemporaryDirectory() as folder:
        store = RedisServer(net.store, Path(folder))
        store.start()
        try:
            net.impair(chosen.delay, chosen.loss)
            running = {kind: _begin(net, host, kind, chosen) for host, kind in enumerate(KINDS)}
            return {kind: json.loads(process.communicate()[0]) for kind, process in running.items()}
        finally:
            store.stop()
            net.close()


def _begin(net: Cabling, host: int, kind: str, chosen: argparse.Namespace) -> subprocess.Popen[str]:
    words = (f"redis://{STORE_IP}:{PORT}/0", chosen.agents, chosen.seconds, *KINDS[kind])
    argv = [*net.hosts[host].enter(), sys.executable, str(IN_TOUCH), *map(str, words)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)


def _table(found: Mapping[str, Any]) -> str:
    header = ("", "exchanges answered", "failed", "out of touch > 3 s", f"> {LEASE:g} s", "longest, s")
    return figures.table(header, [_row(kind, **told) for kind, told in found.items()])


def _row(kind: str, gaps: list[float], failed: int) -> tuple[str, ...]:
    long = [sum(gap > limit for gap in gaps) for limit in (3.0, LEASE)]
    return (kind, str(len(gaps)), str(failed), *map(str, long), f"{max(gaps):.1f}")


if __name__ == "__main__":
    sys.exit(main())
