"""Stands in for ``vllm serve``, which wants a GPU for Ray: joins the cluster as vLLM does, tells what it
finds there and what it was started with, and serves ``/health``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import ray  # type: ignore[import-not-found]  # it lives in an environment of its own


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()


def note() -> None:
    line = {
        "event": "serve",
        "at": time.monotonic(),
        "rank": int(os.environ["RANK_ID"]),
        "generation": int(os.environ["UNIT_GENERATION"]),
        "alive": sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]),
        "words": sys.argv[1:],
        "own_ip": os.environ["VLLM_HOST_IP"],
    }
    with (Path(os.environ["LAB_EVENTS"]) / f"{os.environ['LAB_HOST']}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


ray.init(logging_level="error")
note()
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Health).serve_forever()
