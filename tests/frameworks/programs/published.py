"""What the parsers that frameworks publish make of command lines: JSON lists of words in, JSON out.

    published.py sglang|lmdeploy|accelerate|deepspeed [options]

With ``options``: each option of the parser, with whether it takes a value. The engines are installed without
their gigabytes of dependencies, so of each package only the modules that make its parser are real; the rest
is hollow, as nothing of it is called.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock


class Hollow(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports everything of a package hollow but ``real`` modules and what is in them."""

    def __init__(self, package: str, *real: str) -> None:
        self.package = package
        self.real = tuple(f"{package}.{name}" for name in real)
        found = importlib.util.find_spec(package)
        self.folders = list((found and found.submodule_search_locations) or [])
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, _path: object, _target: object = None) -> ModuleSpec | None:
        if name.split(".", maxsplit=1)[0] != self.package or name.startswith(self.real):
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        below = spec.name.split(".")[1:]
        module: Any = MagicMock()
        module.__path__ = ["/".join([folder, *below]) for folder in self.folders]
        return module  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it is hollow."""


def sglang() -> argparse.ArgumentParser:
    Hollow("sglang", "srt.arg_groups", "srt.utils.server_args_config_parser", "srt.weight_cache.daemon")
    arguments = importlib.import_module("sglang.srt.arg_groups.arg_utils")
    parser = argparse.ArgumentParser()
    for name in ("Model", "Parallel", "Serving", "Observability"):
        fields = importlib.import_module(f"sglang.srt.arg_groups.fields.{name.lower()}")
        arguments.add_cli_args_from_dataclass(parser, getattr(fields, name))
    return parser


class DaemonParser(argparse.ArgumentParser):
    """Reads as the ``main`` of SGLang's weight cache daemon does: its own flags first, and then the rest."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        daemon = importlib.import_module("sglang.srt.weight_cache.daemon")
        own = argparse.ArgumentParser(add_help=False)
        daemon.WeightCacheDaemonArgs.add_cli_args(own)
        found, rest = own.parse_known_args(args)
        return argparse.Namespace(**vars(super().parse_args(rest, namespace)), **vars(found))


def sglang_daemon() -> argparse.ArgumentParser:
    return DaemonParser(parents=[sglang()], add_help=False)


def lmdeploy() -> argparse.ArgumentParser:
    Hollow("lmdeploy", "cli.cli", "cli.serve", "cli.utils", "version")
    commands = importlib.import_module("lmdeploy.cli.serve").SubCliServe
    commands.add_parser_api_server()
    parser: argparse.ArgumentParser = commands.subparsers.choices["api_server"]
    return parser


def accelerate() -> argparse.ArgumentParser:
    Hollow("accelerate", "commands.launch", "commands.utils")
    Hollow("rich")
    launch = importlib.import_module("accelerate.commands.launch")
    parser: argparse.ArgumentParser = launch.launch_command_parser()
    return parser


def deepspeed() -> argparse.ArgumentParser:
    """Its parser is made in the function that parses, so it is caught there."""
    runner = importlib.import_module("deepspeed.launcher.runner")
    caught: list[argparse.ArgumentParser] = []
    real = argparse.ArgumentParser.parse_args

    def catch(self: argparse.ArgumentParser, args: Sequence[str] | None = None) -> Any:
        caught.append(self)
        return real(self, args)

    argparse.ArgumentParser.parse_args = catch  # type: ignore[method-assign,assignment]
    runner.parse_args(["a.py"])
    argparse.ArgumentParser.parse_args = real  # type: ignore[method-assign]
    return caught[0]


PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "sglang": sglang,
    "sglang-daemon": sglang_daemon,
    "lmdeploy": lmdeploy,
    "accelerate": accelerate,
    "deepspeed": deepspeed,
}


def plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)


def merged(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """What is parsed where a file is named; SGLang merges its flags first (``prepare_server_args``)."""
    if "--config" not in words:
        return words
    module = importlib.import_module("sglang.srt.utils.server_args_config_parser")
    found: list[str] = module.ConfigArgumentMerger(parser).merge_config_with_args(words)
    return found


def main() -> None:
    parser = PARSERS[sys.argv[1]]()
    if sys.argv[2:] == ["options"]:
        shown = [action for action in parser._actions if action.option_strings]
        told: object = {name: action.nargs != 0 for action in shown for name in action.option_strings}
    else:
        parsed = [vars(parser.parse_args(merged(parser, words))) for words in json.load(sys.stdin)]
        told = [{name: plain(value) for name, value in each.items()} for each in parsed]
    sys.stdout.write(f"\n{json.dumps(told)}\n")  # the answer is the last line: frameworks talk when imported


main()
