"""The controlling terminal: lent to the workload's group while it runs (``docker run -it``), then taken back.

Only ours to lend when stdin is a terminal and our own group is in its foreground.
"""

from __future__ import annotations

import contextlib
import os
import signal


class Terminal:
    """The terminal on ``fd``, if that is one.

    Attributes:
        lent: the workload has it, so that Ctrl-C reaches the workload and not us.

    """

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self.is_lent = False

    def lend_to(self, group: int) -> None:
        """Put ``group`` in the foreground, and wake it if it was stopped for touching it too early."""
        if not self.is_ours:
            return
        self.is_lent = self._set_foreground(group)
        if self.is_lent:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGCONT)

    def take_back(self) -> None:
        """Put our own group in the foreground again."""
        if self.is_lent:
            self._set_foreground(os.getpgrp())
            self.is_lent = False

    @property
    def is_ours(self) -> bool:
        """Whether our own group is in the foreground of a terminal."""
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # ENOTTY, EBADF, ENXIO: no terminal, or not that of our session
            return False

    def _set_foreground(self, group: int) -> bool:
        # A background process that does this is stopped by SIGTTOU, unless it ignores it.
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            os.tcsetpgrp(self._fd, group)
        except OSError:  # the above, or EPERM: the group is gone already
            return False
        finally:
            signal.signal(signal.SIGTTOU, before)
        return True
