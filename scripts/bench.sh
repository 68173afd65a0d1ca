#!/usr/bin/env bash
# All figures of this project, from a bare clone with Python 3.11 or newer and nothing else.
#
#   scripts/bench.sh [--quick] [--only NAME...] [--out FOLDER] [--commit]
#
# It sets up what is missing: this project in .venv; torchrun and, where pip offers it, ft_launcher in
# .venv-frameworks; matplotlib in .venv-bench. Without one of the last two there are fewer columns, or no pictures. Then it
# runs the benchmarks of scripts/bench/ one after the other (--help names them), writes Markdown, JSON and
# pictures to build/bench, and prints all figures with their ratios to the committed ones. Let the machine do nothing
# else meanwhile. --commit takes the figures over to scripts/bench/figures.json and FIGURES.md.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"

setup_venv embedded test
case " $* " in
*' --help '* | *' -h '* | *' --page '*) ;;
*)
    setup_tools redis-server:redis-server
    (scripts/frameworks-venv.sh --ft) || say 'without torchrun'
    (make_venv "$ROOT/.venv-bench" && pip_install "$ROOT/.venv-bench" matplotlib matplotlib) || say 'without pictures'
    ulimit -Sn "$(ulimit -Hn)"
    ;;
esac
exec "$VENV/bin/python" scripts/bench/main.py "$@"
