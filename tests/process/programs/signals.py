# ruff: noqa: T201 - stdout is how it says that it is ready
"""Print the number of each signal that arrives; end by SIGTERM."""

import signal

awaited = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
print("ready", flush=True)
while True:
    print(int(signal.sigwait(awaited)), flush=True)
