#!/usr/bin/env bash
# A virtual environment of its own for real frameworks, .venv-frameworks: PyTorch and NumPy, for the tests with
# the marker frameworks and for the benchmarks. With --ray another one beside it, .venv-ray.
#
#   scripts/frameworks-venv.sh [--ray]
#
# The version of PyTorch is pinned: figures are compared between runs, and its builds differ by gigabytes. Where
# pip would take a CUDA build, point it at the CPU builds:
#   PIP_INDEX_URL=https://download.pytorch.org/whl/cpu scripts/frameworks-venv.sh
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

FRAMEWORKS=$ROOT/.venv-frameworks
make_venv "$FRAMEWORKS"
pip_install "$FRAMEWORKS" torch torch==2.13.0 numpy
if [ "${1:-}" = --ray ]; then
    make_venv "$ROOT/.venv-ray"
    pip_install "$ROOT/.venv-ray" ray 'ray[default]==2.60.0'
fi
