"""The scripts of ``unitagent completion``, asked by the shells themselves."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.operator.command import run
from unitagent.settings.variables import VARIABLES

_DEADLINE = 60


def bash(script: Path, line: str) -> set[str]:
    """Offer what bash would at the end of a line, whose words it splits at ``=`` too."""
    words = line.replace("=", " = ").split() + ([""] if line[-1] in " =" else [])
    said = subprocess.run(
        ["bash", "--norc", "-c", f"""
        source {script}
        COMP_WORDS=({shlex.join(words)})
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _unitagent
        printf '%s\\n' "${{COMPREPLY[@]}}"
        """],
        capture_output=True, text=True, check=True, timeout=_DEADLINE,
    )  # fmt: skip
    assert said.stderr == ""
    return set(said.stdout.split())


def fish(script: Path, line: str) -> set[str]:
    """Offer what fish would; it tells the meaning after a tab."""
    said = subprocess.run(
        ["fish", "--no-config", "-c", f"source {script}; complete -C {shlex.quote(line)}"],
        capture_output=True, text=True, check=True, timeout=_DEADLINE,
        env={**os.environ, "HOME": str(script.parent)},
    )  # fmt: skip
    return {offered.partition("\t")[0].rpartition("=")[2] for offered in said.stdout.splitlines()}


def zsh(script: Path, line: str) -> set[str]:
    """Offer what zsh would: it completes on a terminal only, so a key there prints what Tab would list."""
    told = script.with_name("told")
    told.write_text("")
    program = script.with_name("ask")
    program.write_text(f"""
        autoload -Uz compinit && compinit -u -d {script.with_name("dump")}
        source {script}
        compadd() {{ # the words are what is left of compadd's arguments; -O and -A ask for an array instead
            if [[ ${{@[1,(i)(-|--)]}} == *-[OAD]\\ * ]]; then builtin compadd "$@"; return; fi
            local -a kept; builtin compadd -O kept "$@"; print -l -- $kept >>{told}
            builtin compadd "$@"
        }}
        finish() {{ zle expand-or-complete; print done >>{told}; exit }}
        zle -N finish && bindkey '^X' finish
        print -n READY
    """)
    process, terminal = pty.fork()
    if process == 0:
        environ = {**os.environ, "TERM": "dumb", "HOME": str(script.parent)}
        os.execvpe("zsh", ["zsh", "-f", "-i"], environ)  # noqa: S606
    try:
        os.write(terminal, f" source {program}\n".encode())
        _read_until(terminal, b"READY")
        os.write(terminal, line.encode() + b"\x18")
        _read_until(terminal, b"")
    finally:
        os.close(terminal)
        os.waitpid(process, 0)
    return set(told.read_text().split()) - {"done"}


def _read_until(terminal: int, wanted: bytes) -> None:
    seen = b""
    while not wanted or seen.count(wanted) < 1:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # it has ended
            return
        if not more:
            return
        seen += more


SHELLS: dict[str, Callable[[Path, str], set[str]]] = {"bash": bash, "zsh": zsh, "fish": fish}


@pytest.fixture(scope="module", params=[shell for shell in SHELLS if shutil.which(shell)])
def offered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], set[str]]:
    """Ask each shell that this machine has."""
    done = run("completion", request.param)
    assert (done.returncode, done.stderr) == (0, "")
    script = tmp_path_factory.mktemp(request.param) / "script"
    script.write_text(done.stdout)
    return lambda line: SHELLS[request.param](script, line)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("unitagent do", {"doctor"}),
        ("unitagent completion ", {"bash", "zsh", "fish"}),
        ("unitagent probe re", {"ready"}),
        ("unitagent env --format ", {"shell", "json"}),
        ("unitagent env --format=j", {"json"}),
        ("unitagent doctor --pe", {"--peer"}),
        ("unitagent time", {"timeline"}),
        ("unitagent events --fo", {"--follow"}),
        ("unitagent run --store-t", {"--store-timeout-seconds"}),
        ("unitagent run --size 2 --stri", {"--strict"}),
        ("unitagent run --framework to", {"torchrun"}),
        ("unitagent local --mode=j", {"job"}),
        ("unitagent endpoints --format ", {"json", "haproxy", "envoy", "prometheus"}),
        ("unitagent env --size 3 --rank ", {"auto", "0", "1", "2"}),
        ("unitagent env --size=2 --rank=", {"auto", "0", "1"}),
        ("unitagent run --rank 7", {"7"}),
        ("unitagent logs --size=2 --rank ", {"0", "1"}),
        ("unitagent run --comm-ifname l", {"lo"}),
    ],
)
def test_words_are_offered(offered: Callable[[str], set[str]], line: str, words: set[str]) -> None:
    seen = {word.rstrip("=") for word in offered(line)}
    assert seen == words


@pytest.mark.parametrize("line", ["unitagent run -- dirnam", "unitagent run --size 2 -- basenam"])
def test_the_workload_is_a_command_of_its_own(offered: Callable[[str], set[str]], line: str) -> None:
    assert any(word.startswith(line.rpartition(" ")[2]) for word in offered(line))


def test_options_of_the_workload_are_not_ours(offered: Callable[[str], set[str]]) -> None:
    assert "--size" not in {word.rstrip("=") for word in offered("unitagent run -- nosuchprogram --si")}


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_every_option_is_in_every_script(shell: str) -> None:
    script = run("completion", shell).stdout
    options = [row.flag.removeprefix("--") for row in VARIABLES.values() if row.flag]
    assert [option for option in options if option not in script] == []


def test_a_shell_that_is_not_known() -> None:
    done = run("completion", "tcsh")
    assert (done.returncode, done.stdout) == (2, "")
    assert "tcsh" in done.stderr
