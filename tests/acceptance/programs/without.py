"""Be the agent in a Python that was built without a function: ``without.py MODULE.NAME… -- … run WORDS``."""

import importlib
import sys

missing = sys.argv[1 : sys.argv.index("--")]
for module, name in (word.split(".") for word in missing):
    if hasattr(importlib.import_module(module), name):
        delattr(importlib.import_module(module), name)
sys.argv = ["unitagent", *sys.argv[sys.argv.index("run") :]]

from unitagent.cli import main  # noqa: E402 - only now

sys.exit(main())
