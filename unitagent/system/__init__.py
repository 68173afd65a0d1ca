"""The layer below every room: names, sockets, threads, text and limits of one process."""
