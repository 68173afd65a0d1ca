"""What ``unitagent endpoints`` writes, for whom, and how: real files, real commands, a real HAProxy."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import pytest

from tests.entries import entry
from tests.operator.command import run
from tests.waiting import until
from unitagent.errors import ConfigurationError
from unitagent.operator.endpoints.formats import FORMATS, format_endpoints
from unitagent.operator.endpoints.watched_file import WatchedFile

TWO = (
    entry("chat-2", service="chat", ip="10.0.0.2", revision="7"),
    entry("chat-1", service="chat"),
    entry("code", ip="fd00::1", probe_port=0),
)


def test_json() -> None:
    first, second, third = json.loads(format_endpoints("json", TWO, None))
    assert first == {
        "service": "chat",
        "unit": "chat-1",
        "revision": "",
        "generation": 1,
        "address": "10.0.0.1",
        "port": 8000,
        "probe_port": 9470,
    }
    assert (second["unit"], second["revision"], third["address"]) == ("chat-2", "7", "fd00::1")
    assert json.loads(format_endpoints("json", (), "chat")) == []


def test_envoy() -> None:
    seen = json.loads(format_endpoints("envoy", TWO[:2], "chat"))
    (chat,) = seen["resources"]
    assert chat["@type"] == "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    assert chat["cluster_name"] == "chat"
    assert [one["endpoint"]["address"]["socket_address"] for one in chat["endpoints"][0]["lb_endpoints"]] == [
        {"address": "10.0.0.1", "port_value": 8000},
        {"address": "10.0.0.2", "port_value": 8000},
    ]
    empty = json.loads(format_endpoints("envoy", (), "chat"))
    assert [one["endpoints"] for one in empty["resources"]] == [[{"lb_endpoints": []}]]
    assert empty["version_info"] != seen["version_info"]


def test_prometheus() -> None:
    chat, _, code = json.loads(format_endpoints("prometheus", TWO, None))
    assert chat["targets"] == ["10.0.0.1:8000"]
    assert chat["labels"] == {
        "service": "chat",
        "unit": "chat-1",
        "revision": "",
        "__meta_unitagent_agent": "10.0.0.1:9470",
    }
    assert code["targets"] == ["[fd00::1]:8000"]
    assert "__meta_unitagent_agent" not in code["labels"]


DEFAULTS = """
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
    option httpchk GET /traffic
    default-server inter 500ms
frontend users
    bind 127.0.0.1:1
    default_backend unit-chat
"""


@pytest.mark.parametrize("entries", [TWO, ()], ids=["units", "none"])
def test_haproxy_takes_the_file(tmp_path: Path, entries: tuple[()]) -> None:
    (tmp_path / "1.cfg").write_text(DEFAULTS)
    (tmp_path / "2.cfg").write_text(format_endpoints("haproxy", entries, "chat"))
    argv = ["haproxy", "-c", "-f", str(tmp_path / "1.cfg"), "-f", str(tmp_path / "2.cfg")]
    said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 0, said.stderr


def test_haproxy_checks_at_the_agent() -> None:
    lines = format_endpoints("haproxy", TWO, None).splitlines()
    assert "    server chat-2 10.0.0.2:8000 check port 9470" in lines
    assert "    server code [fd00::1]:8000" in lines


@pytest.mark.parametrize("kind", FORMATS)
def test_the_order_of_units_does_not_change_the_text(kind: str) -> None:
    assert format_endpoints(kind, TWO, None) == format_endpoints(kind, TWO[::-1], None)


def test_a_file_is_moved_into_place_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    target = WatchedFile(path, None)
    assert target.write_if_changed("one")
    assert path.stat().st_mode & 0o777 == 0o644
    former = path.stat().st_ino
    assert not target.write_if_changed("one")
    assert path.stat().st_ino == former
    path.chmod(0o640)
    assert target.write_if_changed("two")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("two", 0o640)
    assert path.stat().st_ino != former
    assert list(tmp_path.iterdir()) == [path]
    assert not target.due


def test_a_file_that_says_so_already_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    target = WatchedFile(path, "true")
    assert not target.write_if_changed("one")
    assert not target.due


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--watch=.*: must be a file .*No such file or directory"):
        WatchedFile(tmp_path / "nowhere" / "file", None).write_if_changed("text")


def test_the_command_hears_of_a_change_until_it_takes_it(tmp_path: Path) -> None:
    path, told = tmp_path / "file", tmp_path / "told"
    target = WatchedFile(path, f"cat {path} >{told}; exit 3")
    target.write_if_changed("one")
    assert target.due
    assert "exit code 3; retrying" in target.run_command()
    assert told.read_text() == "one"
    assert not target.due  # but in a while


def test_a_change_while_the_command_runs_is_told_as_well(tmp_path: Path) -> None:
    told, go = tmp_path / "told", tmp_path / "go"
    target = WatchedFile(tmp_path / "file", f"touch {told}; until [ -e {go} ]; do sleep 0.01; done")
    target.write_if_changed("one")
    telling = threading.Thread(target=target.run_command)
    telling.start()
    until(told.exists, "the command runs")
    assert not target.due
    target.write_if_changed("two")
    go.touch()
    telling.join(60)
    assert target.due


def test_the_command_is_given_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNIT_REDIS_URL", "UNIT_SECRET"):
        monkeypatch.setenv(name, "s3cret")
    told = tmp_path / "told"
    target = WatchedFile(tmp_path / "file", f"env >{told}")
    target.write_if_changed("one")
    assert target.run_command() == ""
    assert "PATH=" in told.read_text()
    assert "s3cret" not in told.read_text()
    assert not target.due


def test_a_command_without_a_file_is_refused() -> None:
    done = run("endpoints", "--on-change", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert "requires --watch FILE" in done.stderr


def test_envoy_needs_a_service() -> None:
    done = run("endpoints", "--format", "envoy", environ={"UNIT_REDIS_URL": "redis://127.0.0.1:1"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "requires --service NAME" in done.stderr


def test_a_store_that_is_not_there_is_told() -> None:
    done = run("endpoints", environ={"UNIT_REDIS_URL": "redis://127.0.0.1:1"})
    assert (done.returncode, done.stdout) == (69, "")
    assert "cannot be reached" in done.stderr
