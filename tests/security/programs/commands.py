"""Run many commands of the program, each in a child of its own of one process that has it loaded already:
``[[WORDS, ENVIRONMENT], …]`` on standard input, ``[[CODE, OUTPUT], …]`` on standard output.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence

from unitagent import cli, commands
from unitagent.agent import instance, startup
from unitagent.operator.doctor import doctor_cli

LOADED = (commands, startup, instance, doctor_cli)  # in each child it would be loaded once more


def child(words: Sequence[str], environ: Mapping[str, str], output: int) -> int:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["unitagent", *words]
    return cli.main()


def run(words: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str]:
    ours, theirs = os.pipe()
    if not (pid := os.fork()):
        code = 99
        try:
            code = child(words, environ, theirs)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(theirs)
    with os.fdopen(ours, errors="replace") as told:
        said = told.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


if __name__ == "__main__":
    print(json.dumps([run(*each) for each in json.load(sys.stdin)]))
