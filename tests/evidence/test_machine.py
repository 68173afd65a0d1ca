"""What NCCL is asked: its flight recorder through pipes and files, and its RAS through a port."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

from unitagent.evidence import machine


def recorder(folder: Path, rank: int) -> dict[str, str]:
    """A process with a flight recorder, that writes its dump when it finds a byte in its pipe."""
    pipe = folder / f"ask{rank}.pipe"
    os.mkfifo(pipe)
    ear = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    def answer() -> None:
        os.set_blocking(ear, True)
        while not os.read(ear, 1):
            pass
        (folder / f"dump_{rank}").write_bytes(b"pickle of rank %d" % rank)
        os.close(ear)

    threading.Thread(target=answer, daemon=True).start()
    return {
        "TORCH_NCCL_TRACE_BUFFER_SIZE": "2000",
        "TORCH_NCCL_DEBUG_INFO_PIPE_FILE": str(folder / "ask"),
        "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": str(folder / "dump_"),
    }


def test_dumps_are_asked_for_and_kept(tmp_path: Path) -> None:
    environs = [recorder(tmp_path, 0), {"PATH": "/bin"}]
    found = dict(machine.collect_dumps(environs, 30))
    assert found == {"nccl.dump_0": b"pickle of rank 0"}


def test_dumps_of_a_timeout_are_kept_without_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "dump_3").write_bytes(b"x")
    environ = {"TORCH_FR_BUFFER_SIZE": "1", "TORCH_FR_DUMP_TEMP_FILE": str(tmp_path / "dump_")}
    assert dict(machine.collect_dumps([environ], 30)) == {"nccl.dump_3": b"x"}


def test_nothing_is_asked_where_the_user_has_set_nothing(tmp_path: Path) -> None:
    (tmp_path / "dump_3").write_bytes(b"x")
    for size in ({}, {"TORCH_NCCL_TRACE_BUFFER_SIZE": "0"}):
        environ = {**size, "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": str(tmp_path / "dump_")}
        assert not list(machine.collect_dumps([environ], 30))


def test_a_recorder_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ask0.pipe")
    ear = os.open(tmp_path / "ask0.pipe", os.O_RDONLY | os.O_NONBLOCK)
    environ = {
        "TORCH_NCCL_TRACE_BUFFER_SIZE": "1",
        "TORCH_NCCL_DEBUG_INFO_PIPE_FILE": str(tmp_path / "ask"),
        "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": str(tmp_path / "dump_"),
    }
    try:
        assert not list(machine.collect_dumps([environ], 0.2))
    finally:
        os.close(ear)


def test_ras_is_asked_where_it_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                asked = connection.recv(100)
                connection.sendall(b"asked: " + asked + b"Job summary\n")

        threading.Thread(target=answer, daemon=True).start()
        environ = {"NCCL_RAS_ADDR": f"127.0.0.1:{server.getsockname()[1]}"}
        assert machine.ask_ras([{}, environ], 30) == "asked: verbose status\nJob summary\n"
    assert machine.ask_ras([environ], 0.5) == ""
    assert machine.ask_ras([{"NCCL_RAS_ADDR": "nonsense"}], 0.5) == ""
