"""One rank that waits for the others in a collective, or does what its arguments say instead.

Usage: gang.py ODD HOW PATH: rank ODD opens PATH, spins, or stops itself; the others wait.
"""

import os
import signal
import socket
import sys


def all_reduce() -> None:
    mine, _other = socket.socketpair()
    mine.recv(1)


def open_model(path: str) -> None:
    with open(path, "rb") as model:  # noqa: PTH123 (one frame, and no more)
        model.read()


def spin() -> None:
    while True:
        pass


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def train(odd: int, how: str, path: str) -> None:
    if int(os.environ["RANK_ID"]) != odd:
        all_reduce()
    elif how == "open":
        open_model(path)
    else:
        {"spin": spin, "stop": stop, "wait": all_reduce}[how]()


sys.stderr.write(f"loading with {os.environ.get('A_TOKEN')}\n")
train(int(sys.argv[1]), sys.argv[2], sys.argv[3])
