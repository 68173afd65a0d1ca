"""An agent like any other, but for a file with its key for the embedded store: ``telling.py FILE WORD…``.

The key is in the memory of rank 0's agent and nowhere else; without it nobody can bring a script.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from unitagent.agent import store_setup
from unitagent.entry import main
from unitagent.store.embedded import EmbeddedServer

_FILE = Path(sys.argv.pop(1))


class Telling(EmbeddedServer):
    """The server, whose key is told."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        _FILE.write_text(self._key)


vars(store_setup)["EmbeddedServer"] = Telling
sys.exit(main())
