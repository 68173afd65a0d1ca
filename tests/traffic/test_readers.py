"""The files of ``unitagent endpoints``, read by those they are for: a real Envoy, a real Prometheus."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.servers import envoy_binary, prometheus_binary, running
from tests.traffic.units import Unit
from tests.waiting import until

pytestmark = pytest.mark.slow

Start = Callable[[list[str]], None]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs that end with the test."""
    with ExitStack() as ends:

        def begin(argv: list[str]) -> None:
            log = ends.enter_context((tmp_path / f"{Path(argv[0]).name}.log").open("wb"))
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=tmp_path)
            ends.callback(process.wait)
            ends.callback(process.kill)

        yield begin


@contextmanager
def told(folder: Path, form: str) -> Iterator[tuple[Unit, Path]]:
    """A Unit that takes traffic, and the file that is kept about it."""
    with running(folder) as redis:
        unit, file = Unit(1, folder, redis.url, free_port(), free_port()), folder / "units.json"
        words = ["endpoints", "--service", "chat", "--format", form, "--watch", str(file)]
        unit.start()
        watching = subprocess.Popen([sys.executable, "-m", "unitagent", *words], env=unit.environ({}))
        try:
            unit.ready()
            until(file.exists, "the file is written")
            yield unit, file
        finally:
            watching.kill()
            watching.wait()
            unit.stop()


def code(port: int) -> int:
    """The code of an answer; 0 for none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_envoy(tmp_path: Path, start: Start) -> None:
    binary, port = envoy_binary(), free_port()
    if binary is None:
        pytest.skip("needs Envoy: scripts/test.sh brings it")
    with told(tmp_path, "envoy") as (unit, file):
        config = tmp_path / "envoy.json"
        config.write_text(json.dumps(_envoy(file, port)))
        start([binary, "-c", str(config), "--concurrency", "1", "--disable-hot-restart"])
        until(lambda: code(port) == 200, "Envoy sends requests to rank 0")
        unit.drain()
        until(lambda: code(port) == 503, "Envoy knows no Unit any more")


def _envoy(file: Path, port: int) -> dict[str, Any]:
    """A static configuration but for the endpoints of its one cluster."""
    extensions = "type.googleapis.com/envoy.extensions.filters"
    routed = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{extensions}.http.router.v3.Router"}}
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "chat"}}],
                }
            ]
        },
    }
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": routed}]}],
    }
    source = {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}
    cluster = {"name": "chat", "type": "EDS", "eds_cluster_config": {"eds_config": source}}
    node = {"id": "balancer", "cluster": "balancers"}
    return {"node": node, "static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _by_file(file: Path, start: Start) -> dict[str, Any]:
    return {"file_sd_configs": [{"files": [str(file)]}]}


def _by_http(file: Path, start: Start) -> dict[str, Any]:
    """Any web server that tells the type of its files by their names."""
    port = free_port()
    folder = ["--bind", "127.0.0.1", "--directory", str(file.parent)]
    start([sys.executable, "-m", "http.server", *folder, str(port)])
    return {"http_sd_configs": [{"url": f"http://127.0.0.1:{port}/{file.name}", "refresh_interval": "1s"}]}


@pytest.mark.parametrize("discovery", [_by_file, _by_http], ids=["file_sd", "http_sd"])
def test_prometheus(tmp_path: Path, start: Start, discovery: Callable[[Path, Start], dict[str, Any]]) -> None:
    binary, port = prometheus_binary(), free_port()
    if binary is None:
        pytest.skip("needs Prometheus: scripts/test.sh brings it")
    with told(tmp_path, "prometheus") as (unit, file):
        config = tmp_path / "prometheus.yaml"
        config.write_text(json.dumps(_prometheus(discovery(file, start))))
        data = f"--storage.tsdb.path={tmp_path / 'data'}"
        start([binary, f"--config.file={config}", data, f"--web.listen-address=127.0.0.1:{port}"])
        until(lambda: _scraped(port) == [("up", "chat", "chat-1")], "Prometheus scrapes rank 0's agent")
        unit.drain()
        until(lambda: _scraped(port) == [], "Prometheus knows no Unit any more")


def _prometheus(discovery: dict[str, Any]) -> dict[str, Any]:
    """Scrapes the agents of rank 0, by one relabelling."""
    agents = {"source_labels": ["__meta_unitagent_agent"], "target_label": "__address__"}
    job = {"job_name": "units", "relabel_configs": [agents], **discovery}
    return {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}


def _scraped(port: int) -> list[tuple[str, str, str]] | None:
    """Health, service and Unit of each target; None while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/targets", timeout=5) as answer:
            targets = json.load(answer)["data"]["activeTargets"]
    except OSError:
        return None
    return [(one["health"], one["labels"]["service"], one["labels"]["unit"]) for one in targets]
