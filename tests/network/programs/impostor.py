"""Answer in the name of an agent: ``impostor.py IP PORT RANK INCARNATION BODY``, whose body is that file."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer

IP, PORT, RANK, INCARNATION, BODY = sys.argv[1:]


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = Path(BODY).read_bytes()
        self.send_response(200)
        self.send_header("X-Unitagent-Unit", json.loads(body)["unit"])
        self.send_header("X-Unitagent-Rank", RANK)
        self.send_header("X-Unitagent-Incarnation", INCARNATION)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingTCPServer.allow_reuse_address = ThreadingTCPServer.daemon_threads = True
with ThreadingTCPServer((IP, int(PORT)), Answers) as server:
    print("ready", flush=True)  # noqa: T201 - the test waits for it
    server.serve_forever()
