"""An engine as far as an agent sees one: health and metrics on port 8000, one request that runs for ever.

Its steps stand still while the file ``stalled`` is in the folder of the lab's events.
"""

from __future__ import annotations

import os
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer

STALLED = Path(os.environ["LAB_EVENTS"]) / "stalled"
FROZEN = 7


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        steps = FROZEN if STALLED.exists() else time.monotonic_ns()
        body = f"vllm:num_requests_running 1.0\nvllm:iteration_tokens_total_count {steps}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if "--headless" not in sys.argv:
    ThreadingTCPServer.allow_reuse_address = ThreadingTCPServer.daemon_threads = True
    ThreadingTCPServer(("", 8000), Answers).serve_forever()
while True:
    time.sleep(60)
