"""Listens on the port in its first word and opens the file in its second (``-`` for none), then waits."""

import os
import signal
import socket
import sys

port, path = sys.argv[1:]
held = [socket.create_server(("127.0.0.1", int(port))) if port != "-" else None]
handle = os.open(path, os.O_RDONLY) if path != "-" else None
os.write(1, b"ready\n")
signal.pause()
