"""`python -m unitagent` is the command line."""

from __future__ import annotations

import sys

from unitagent.entry import main

sys.exit(main())
