"""Stand in for an agent and for its store, and write down who connects to the store and what is said there:
``impostor.py ADDRESS PORT FILE agent|store``. With ``store`` nobody answers at the probe address, which is
PORT; the store is one above.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

ADDRESS, PORT, FILE, ROLE = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
INSTANCE = {"rank": 0, "incarnation": "evil", "ip": ADDRESS, "state": "healthy", "generation": 1}
STATUS = {
    "unit": "unit", "size": 1, "phase": "running", "generation": 1, "ready": True, "failure": None,
    "master_address": ADDRESS, "instances": [INSTANCE | {"hostname": "evil", "lease_seconds": 0.1}],
}  # fmt: skip


class Agent(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        FILE.open("a").write(f"{self.headers}\n")
        self.send_response(200)
        self.send_header("X-Unitagent-Rank", "0")
        self.send_header("X-Unitagent-Incarnation", "evil")
        self.send_header("X-Unitagent-Signature", "0" * 64)
        self.end_headers()
        self.wfile.write(json.dumps(STATUS).encode())

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


class Store(BaseRequestHandler):
    def handle(self) -> None:
        FILE.open("a").write("connected to the store\n")
        while said := self.request.recv(65536):
            FILE.open("a").write(said.decode(errors="replace"))
            self.request.sendall(b"+OK\r\n" * said.count(b"*"))


ThreadingTCPServer.allow_reuse_address = True
if ROLE == "agent":
    threading.Thread(target=ThreadingHTTPServer((ADDRESS, PORT), Agent).serve_forever, daemon=True).start()
with ThreadingTCPServer((ADDRESS, PORT + 1), Store) as store:
    print("ready", flush=True)
    store.serve_forever()
