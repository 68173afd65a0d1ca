"""What the parser of vLLM's daemon makes of command lines: JSON lists of words in, JSON out."""

from __future__ import annotations

import json
import sys
from typing import Any

from vllm.entrypoints.cli.preload import PreloadSubcommand  # type: ignore[import-not-found]
from vllm.entrypoints.cli.serve import ServeSubcommand  # type: ignore[import-not-found]
from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found]

_COMMANDS = {"preload": PreloadSubcommand, "serve": ServeSubcommand}
_READ = (
    "model", "tensor_parallel_size", "nnodes", "node_rank", "master_addr", "load_format", "dtype", "seed",
    "weight_cache_master_port", "weight_cache_health_port", "weight_cache_health_host",
)  # fmt: skip


def make_parser(name: str) -> tuple[Any, dict[str, bool]]:
    """The parser behind ``vllm``, and each option of this command with whether it takes a value."""
    parser = FlexibleArgumentParser()
    command = _COMMANDS[name]().subparser_init(parser.add_subparsers())
    options = {one: action.nargs != 0 for action in command._actions for one in action.option_strings}
    return parser, options


def main() -> None:
    parser, preload = make_parser("preload")
    parsed = [vars(parser.parse_args(words)) for words in json.load(sys.stdin)]
    _, serve = make_parser("serve")
    server = {name: takes for name, takes in serve.items() if name not in preload}
    json.dump([[{name: one[name] for name in _READ} for one in parsed], server], sys.stdout)


main()
