"""The secret is changed while the Unit runs: nobody notices but whoever has the former one only."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.local import UNITAGENT, clean
from tests.security.changing import NEW, OLD, SIZE, Changing, Watched
from tests.security.victims import UNIT, server
from tests.servers import Server
from tests.waiting import until
from unitagent.store.codec import SignatureMatch, check_signature, name_record_place
from unitagent.system import procfs
from unitagent.system.keyring import Keyring, SealKind, derive_signing_key, derive_store_password

__all__ = ["server"]

LEASE = 3.0
Make = Callable[[str], Changing]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    units: list[Changing] = []

    def make(url: str) -> Changing:
        units.append(Changing(tmp_path, url))
        return units[-1]

    yield make
    for unit in units:
        unit.close()


@pytest.fixture(params=["embedded store", pytest.param("Redis", marks=pytest.mark.slow)])
def unit(request: pytest.FixtureRequest, make: Make) -> Changing:
    url = "" if request.param == "embedded store" else request.getfixturevalue("server").url
    return make(url)


class Inside:
    """Somebody who has logged in to the embedded store by a secret, and is connected."""

    def __init__(self, port: int, *user: str, secret: str) -> None:
        self._client = socket.create_connection(("127.0.0.1", port), 10)
        assert self._said(" ".join(("AUTH", *user, derive_store_password(secret)))) == b"+OK\r\n"

    def is_in(self) -> bool:
        return self._said("PING") == b"+PONG\r\n"

    def close(self) -> None:
        self._client.close()

    def _said(self, words: str) -> bytes:
        try:
            self._client.sendall(f"{words}\r\n".encode())
            return self._client.recv(100)
        except OSError:
            return b""


def logs_in(port: int, secret: str) -> bool:
    """Whether the embedded store takes the password that is made of a secret."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(f"AUTH {derive_store_password(secret)}\r\n".encode())
        answer = client.recv(100)
    assert answer.startswith((b"+OK", b"-WRONGPASS")), answer
    return answer.startswith(b"+OK")


def nothing_is_told(unit: Changing) -> bool:
    """No secret, and nothing made of one, is in any log or on any command line."""
    pids = {agent.popen.pid for agent in unit.agents.values()}
    table = procfs.read_process_table()
    pids |= {one.pid for pid in tuple(pids) for one in procfs.select_descendants(table, pid)}
    told = unit.story() + "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)
    made = [
        make(secret) for make in (str, derive_signing_key, derive_store_password) for secret in (OLD, NEW)
    ]
    return not any(secret in told for secret in made)


def test_the_secret_is_changed_rank_by_rank_and_nobody_notices(unit: Changing) -> None:
    unit.form(OLD)
    with Watched(unit) as watched:
        for accepted, secrets in ((2, (OLD, NEW)), (1, (NEW,))):
            unit.write(0, *secrets)
            unit.tells(0, f"UNIT_SECRET_FILE changed: {accepted} secret")
            watched.hold(LEASE + 1)  # while one is ahead of the others
            unit.write(1, *secrets)
            unit.write(2, *secrets)
            unit.agreed(accepted)
        watched.hold(LEASE + 1)
        assert min(watched.asked) > 50
    for agent in unit.agents.values():
        assert agent.output.count("UNIT_SECRET_FILE changed: 2 secrets are accepted, signing with each") == 1
        assert agent.output.count("UNIT_SECRET_FILE changed: 1 secret is accepted") == 1
        assert "all ranks of this Unit accept the same secrets now (1)" in agent.output
        assert "is not signed with this UNIT_SECRET" not in agent.output
    assert nothing_is_told(unit)
    the_old_one_is_worth_nothing(unit)


@pytest.mark.parametrize("user", [(), ("member",)], ids=["without a name", "as a member"])
def test_who_is_in_by_the_old_one_is_put_out_when_all_ranks_have_done_without_it(
    make: Make, user: tuple[str, ...]
) -> None:
    """Not before: it might be a rank."""
    unit = make("")
    unit.form(OLD)
    with contextlib.closing(Inside(unit.port, *user, secret=OLD)) as inside, Watched(unit) as watched:
        for rank in range(SIZE):
            unit.write(rank, OLD, NEW)
        unit.agreed(2)
        for rank in (0, 1):
            unit.write(rank, NEW)
            unit.tells(rank, "UNIT_SECRET_FILE changed: 1 secret")
        watched.hold(LEASE + 1)
        assert inside.is_in()
        unit.write(2, NEW)
        unit.agreed(1)
        until(lambda: not inside.is_in(), "it is put out")
        watched.hold(LEASE + 1)
        until(lambda: all(unit.status(rank)["store"]["connected"] for rank in range(SIZE)), "all are back")
    unit.tells(0, "disconnected clients of the embedded store that used a former secret")


def the_old_one_is_worth_nothing(unit: Changing) -> None:
    refused = unit.command("status", "--json", secret=OLD)
    assert json.loads(unit.command("status", "--json", secret=NEW).stdout)["ready"]
    if unit.url:
        assert refused.returncode != 0
        assert "all ranks in the store use another UNIT_SECRET" in refused.stderr
        assert refused.stderr.count("is not signed with this UNIT_SECRET; ignored it") == SIZE
        assert json.loads(unit.command("endpoints", secret=NEW).stdout)
        assert json.loads(unit.command("endpoints", secret=OLD).stdout) == []
        order = unit.command("restart", secret=OLD)
        assert order.returncode != 0
        assert "all ranks in the store use another UNIT_SECRET" in order.stderr
    else:
        assert refused.returncode != 0
        assert "carries no proof of UNIT_SECRET" in refused.stderr
        assert logs_in(unit.port, NEW)
        assert not logs_in(unit.port, OLD)
    unit.write(2, OLD)
    unit.agents[2].close()
    stranger = unit.start(2)
    why = "UNIT_SECRET"
    until(lambda: why in stranger.output, "whoever has the old one only is refused")
    until(lambda: unit.get(0, "/readyz")[0] == 503, "it is not taken for rank 2")
    assert not stranger.met


def test_a_step_that_was_taken_too_early_is_told(make: Make) -> None:
    """Rank 2 does without the former secret before the others know the new one."""
    unit = make("")
    unit.form(OLD)
    unit.write(2, OLD, NEW)
    unit.tells(2, "UNIT_SECRET_FILE changed: 2 secrets are accepted")
    unit.write(2, NEW)
    unit.tells(0, "rank 2 has no secret in common with rank 0: the running workload continues")
    unit.tells(2, "ranks 0, 1 have no secret in common with rank 2: the running workload continues")
    assert unit.status(0)["secrets"] == {"accepted": 1, "differing": [2], "strangers": [2]}
    shown = unit.command("status", secret=OLD, rank=0).stdout
    assert "rank 2 has another UNIT_SECRET and cannot join the next barrier" in shown
    unit.write(2, OLD, NEW)  # one is accepted already, so it may come back
    for rank in (0, 1):
        unit.write(rank, OLD, NEW)
    unit.agreed(2)


def test_the_order_of_the_steps_among_ranks_and_lines_does_not_matter(unit: Changing) -> None:
    """One rank has not begun yet when others have: what they say is signed with what it knows."""
    unit.form(OLD)
    with Watched(unit) as watched:
        unit.write(0, NEW, OLD)
        unit.write(1, OLD, NEW)
        for rank in (0, 1):
            unit.tells(rank, "UNIT_SECRET_FILE changed: 2 secrets are accepted")
        watched.hold(LEASE + 1)
        until(lambda: unit.status(0)["secrets"]["differing"] == [2], "rank 0 knows who lacks it")
        known = {"accepted": 1, "differing": [0, 1], "strangers": []}
        until(lambda: unit.status(2)["secrets"] == known, "rank 2 as well")
        shown = unit.command("status", secret=f"{OLD}\n{NEW}", rank=0).stdout
        assert re.search(r"secrets accepted: 2; rank 2 has different secrets", shown)
        assert json.loads(unit.command("status", "--json", secret=OLD, rank=0).stdout)["ready"]
        told = json.loads(unit.command("status", "--json", secret=NEW, rank=0).stdout)
        assert told["ready"] is (not unit.url)  # the store has nothing of rank 2 for it, its agent has
        unit.write(2, OLD, NEW)
        unit.agreed(2)
        for secret in (OLD, NEW):
            told = json.loads(unit.command("status", "--json", secret=secret, rank=2).stdout)
            assert [one["state"] for one in told["instances"]] == ["healthy", "running", "running"]
            assert json.loads(unit.command("endpoints", secret=secret, rank=1).stdout)
        watched.undisturbed()


@pytest.mark.slow
def test_a_step_that_is_taken_too_early_ends_nothing_that_runs(unit: Changing) -> None:
    unit.form(OLD)
    with Watched(unit) as watched:
        for secrets in ((OLD, NEW), (NEW,)):
            unit.write(0, *secrets)
            unit.write(1, *secrets)
            number = len(secrets)
            for rank in (0, 1):
                unit.tells(rank, f"UNIT_SECRET_FILE changed: {number} secret")
        unit.tells(2, "the record of rank 0 in the store is not signed with this UNIT_SECRET; ignored it")
        watched.hold(2 * LEASE)
        for secrets in ((OLD, NEW), (NEW,)):
            unit.write(2, *secrets)
            unit.tells(2, f"UNIT_SECRET_FILE changed: {len(secrets)} secret")
        unit.agreed(1)
        watched.undisturbed()


@pytest.mark.parametrize("secrets", [(OLD,), (OLD, NEW), (NEW,)])
def test_a_rank_that_is_rebuilt_in_the_midst_of_it_joins(unit: Changing, secrets: tuple[str, ...]) -> None:
    unit.form(OLD, NEW)
    unit.agents[2].close()
    unit.write(2, *secrets)
    unit.start(2)
    unit.ready(above=1)


def test_rank_0_rebuilt_in_the_midst_of_it_lets_everybody_in(make: Make) -> None:
    unit = make("")
    unit.form(OLD, NEW)
    unit.write(1, NEW)
    unit.write(2, NEW)
    unit.agents[0].close()
    unit.start(0)
    unit.ready(above=1)


def store_of(unit: Changing) -> int:
    found = procfs.select_descendants(procfs.read_process_table(), unit.agents[0].popen.pid)
    return next((one.pid for one in found if "server" in one.name), 0)


def test_an_embedded_store_that_dies_in_the_midst_of_it_comes_back_with_all_of_them(make: Make) -> None:
    unit = make("")
    unit.form(OLD)
    with Watched(unit) as watched:
        unit.write(0, OLD, NEW)
        until(lambda: unit.status(0)["secrets"]["accepted"] == 2, "rank 0 has both")
        dead = store_of(unit)
        os.kill(dead, signal.SIGKILL)
        until(lambda: store_of(unit) not in {0, dead}, "another server runs")
        until(
            lambda: all(unit.status(rank)["store"]["connected"] for rank in range(SIZE)), "all are in touch"
        )
        assert logs_in(unit.port, OLD)
        assert logs_in(unit.port, NEW)
        unit.write(0, OLD)
        until(lambda: unit.status(0)["secrets"]["accepted"] == 1, "rank 0 has taken it back")
        until(lambda: not logs_in(unit.port, NEW), "so has the store")
        watched.hold(LEASE + 1)


def test_a_file_that_cannot_be_taken_changes_nothing_and_is_told_once(unit: Changing) -> None:
    """Every kind of it is in ``test_secret_file.py``."""
    unit.form(OLD)
    victim = unit.agents[1]
    with Watched(unit) as watched:
        unit.write(1, NEW)
        unit.tells(1, f"UNIT_SECRET_FILE='{unit.file(1)}' has none of the secrets accepted now")
        unit.file(1).unlink()
        unit.tells(1, f"UNIT_SECRET_FILE='{unit.file(1)}' cannot be read (No such file or directory)")
        watched.hold(LEASE + 1)
        unit.write(1, OLD)
        unit.tells(1, "UNIT_SECRET_FILE is valid again")
        watched.undisturbed()
    assert victim.output.count("UNIT_SECRET_FILE=") == 2
    assert "UNIT_SECRET_FILE changed" not in victim.output
    assert nothing_is_told(unit)


def test_a_file_that_is_bad_at_the_start_is_refused_by_its_line(unit: Changing) -> None:
    unit.write(0, OLD, NEW[:15])
    agent = unit.start(0)
    assert agent.popen.wait(60) == 2
    assert f"UNIT_SECRET='***' (file {unit.file(0)}): must be " in agent.output
    assert "(line 2 has 15 bytes, needs 16)" in agent.output
    assert NEW[:15] not in agent.output


def test_what_a_rank_signs_counts_for_each_of_its_secrets(server: Server, make: Make) -> None:
    unit = make(server.url)
    unit.form(OLD, NEW)
    raw = server.command("HGET", f"unitagent:{{{UNIT}}}:board", "r1").split(b"\r\n")[1]
    for keys, proven in (
        (Keyring(OLD, NEW), SignatureMatch.ALIKE),
        (Keyring(NEW, OLD), SignatureMatch.ALIKE),
        (Keyring(OLD), SignatureMatch.PARTLY),
        (Keyring(NEW), SignatureMatch.PARTLY),
        (Keyring(OLD[::-1]), SignatureMatch.NOT_MINE),
    ):
        assert check_signature(keys, SealKind.RECORD, name_record_place(UNIT, 1), raw) is proven
        assert (
            check_signature(keys, SealKind.RECORD, name_record_place(UNIT, 2), raw) is SignatureMatch.NOT_MINE
        )


def test_who_keeps_a_balancer_s_file_follows_a_change(server: Server, make: Make, tmp_path: Path) -> None:
    """``endpoints --watch`` runs for months beside a balancer, and has the file, too."""
    unit = make(server.url)
    unit.form(OLD)
    unit.write(SIZE, OLD)
    listed, said = tmp_path / "listed", tmp_path / "said"
    words = [
        "endpoints",
        "--watch",
        str(listed),
        "--lease-seconds",
        "2",
        "--heartbeat-seconds",
        "0.4",
        "--redis-url",
        server.url,
    ]
    environ = clean(UNIT_SECRET_FILE=str(unit.file(SIZE)))

    def told(text: str) -> None:
        until(lambda: text in said.read_text(), f"it says: {text}")

    with (
        said.open("w") as output,
        subprocess.Popen([*UNITAGENT, *words], env=environ, stderr=output) as watch,
    ):
        try:
            until(lambda: listed.exists() and UNIT in listed.read_text(), "the Unit is listed")
            for number, secrets in ((2, (OLD, NEW)), (1, (NEW,))):
                for who in range(SIZE + 1):
                    unit.write(who, *secrets)
                unit.agreed(number)
                told(f"{number} secret")
            unit.agents[0].popen.kill()
            until(lambda: UNIT not in listed.read_text(), "it reads on, and sees the end of it")
        finally:
            watch.kill()
    assert "not signed" not in said.read_text()
    assert said.read_text().count(f"{listed}: Units that take traffic: {UNIT}") == 1
