"""What torchrun makes of command lines: JSON pairs of arguments and variables in, JSON out; nothing is run.

With the argument ``options``: each option of the parser, with whether it takes a value.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from torch.distributed import run  # type: ignore[import-not-found]
from torch.distributed.elastic.rendezvous.utils import (  # type: ignore[import-not-found]
    parse_rendezvous_endpoint,
)


def read(words: list[str], env: dict[str, str]) -> dict[str, Any]:
    os.environ.update(env)
    try:
        parsed = run.get_args_parser().parse_args(words)
    finally:
        for name in env:
            del os.environ[name]
    config, _, _ = run.config_from_args(parsed)
    host, port = parse_rendezvous_endpoint(config.rdzv_endpoint, -1)
    return {
        "nodes": [config.min_nodes, config.max_nodes],
        "processes": config.nproc_per_node,
        "backend": config.rdzv_backend,
        "endpoint": [host, port],
        "node": config.rdzv_configs.get("rank"),
        "is_host": config.rdzv_configs.get("is_host"),
        "run": config.run_id,
        "local": config.local_addr,
        "program": [parsed.training_script, *parsed.training_script_args],
    }


def options() -> dict[str, bool]:
    shown = [action for action in run.get_args_parser()._actions if action.option_strings]
    return {name: action.nargs != 0 for action in shown for name in action.option_strings}


if sys.argv[1:] == ["options"]:
    json.dump(options(), sys.stdout)
else:
    json.dump([read(words, env) for words, env in json.load(sys.stdin)], sys.stdout)
