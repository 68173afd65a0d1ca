#!/usr/bin/env bash
# A Unit of three instances on this machine, from a bare clone with Python 3.11 or newer: it forms, one workload
# is killed, all restart together, everything stops. Exit 0 only if all of that was observed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup_venv embedded
exec "$VENV/bin/python" "$ROOT/scripts/demo.py" "$@"
