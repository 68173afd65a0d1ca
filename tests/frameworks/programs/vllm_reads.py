"""What vLLM's parser makes of command lines: JSON lists of arguments in, JSON out; nothing is run."""

from __future__ import annotations

import json
import sys
from typing import Any

from vllm.entrypoints.cli.serve import ServeSubcommand  # type: ignore[import-not-found]
from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found]

_PARALLEL = (
    "data_parallel_size",
    "data_parallel_size_local",
    "data_parallel_start_rank",
    "data_parallel_rank",
)
_MEETING = ("master_addr", "master_port", "data_parallel_address", "data_parallel_rpc_port")
_ROLE = ("headless", "api_server_count", "shutdown_timeout")
_READ = ("model_tag", "port", "nnodes", "node_rank", *_ROLE, *_PARALLEL, *_MEETING)


def read(words: list[str]) -> dict[str, Any]:
    """Read what stands behind ``vllm``."""
    parser, command = FlexibleArgumentParser(), ServeSubcommand()
    command.subparser_init(parser.add_subparsers())
    parsed = parser.parse_args(words)
    command.validate(parsed)
    return {name: getattr(parsed, name) for name in _READ}


json.dump([read(words) for words in json.load(sys.stdin)], sys.stdout)
