"""Stands where rank 0's embedded store is looked for, and shows what it is sent: PORT."""

import socket
import sys

with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("ready", flush=True)
    heard = server.accept()[0].recv(4096)
    print(heard.hex(), flush=True)
