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
NEARLY, LONG = "out of touch > 3 s", f"out of touch > {LEASE:g} s"


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--agents", type=int, default=40, help="on each host (default 40)")
    options.add_argument("--seconds", type=float, help="of bad line (default 120; --quick: 20)")
    options.add_argument("--loss", type=float, default=0.3, help="share that is lost (default 0.3)")
    options.add_argument("--delay", type=float, default=0.2, help="seconds (default 0.2)")
    chosen = options.parse_args()
    if os.geteuid() != 0:
        print("network namespaces need root", file=sys.stderr)
        return 2
    chosen.seconds = chosen.seconds or (20.0 if chosen.quick else 120.0)
    found = _measure(chosen)
    figures.publish(chosen, bad_line=_table(found))
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


def _table(found: Mapping[str, Any]) -> figures.Table:
    columns = {"exchanges answered": "", "failed": "", NEARLY: "", LONG: "", "longest gap": "s"}
    table = figures.Table("Keeping in touch over a bad line", "store", columns)
    for kind, told in found.items():
        gaps = told["gaps"]
        table.add(kind, "exchanges answered", len(gaps))
        table.add(kind, "failed", told["failed"])
        table.add(kind, NEARLY, sum(gap > 3.0 for gap in gaps))
        table.add(kind, LONG, sum(gap > LEASE for gap in gaps))
        table.add(kind, "longest gap", max(gaps))
    return table


if __name__ == "__main__":
    sys.exit(main())
