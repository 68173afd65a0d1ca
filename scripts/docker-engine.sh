#!/usr/bin/env bash
# Run a command with a Docker engine at hand: the one that runs, or one of its own for as long as it takes.
#
#   scripts/docker-engine.sh COMMAND [ARG...]
#
# An engine of its own (Debian's docker.io; root) lives in namespaces of its own: it leaves no network, no
# firewall rule, no mount and no process behind, and its containers end with it. They reach no other network.
# Images are kept from run to run in UNITAGENT_DOCKER (by default /var/lib/unitagent-docker).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

[ $# -gt 0 ] || fail "no COMMAND given"
docker info >/dev/null 2>&1 && exec "$@"
is_root || fail "no Docker engine answers, and only root can start one"
setup_tools dockerd:docker.io iptables:iptables unshare:util-linux
command -v dockerd >/dev/null || fail "no Docker engine answers, and none could be installed"

folder=${UNITAGENT_DOCKER:-/var/lib/unitagent-docker}
mkdir -p "$folder"
exec 9>"$folder/lock"
flock -n 9 || say "waiting for another run that uses $folder"
flock 9
run=$(mktemp -d)
export DOCKER_HOST=unix://$run/docker.sock

# Everything that the engine starts is in its PID namespace, which ends with the first process in it.
unshare --net --mount --pid --fork --kill-child --mount-proc sh -c '
    ip link set lo up
    exec dockerd --host "$DOCKER_HOST" --data-root "$1/data" --exec-root "$2/exec" --pidfile "$2/pid" \
        --cgroup-parent unitagent-docker
' sh "$folder" "$run" >"$run/log" 2>&1 9>&- &
engine=$!

stop() {
    # unshare itself takes no signal for another: its child is the engine.
    pkill -TERM -P $engine || true
    wait $engine || true
    rm -rf "$run"
    # The containers' control groups are empty now, but stay.
    find /sys/fs/cgroup -depth -type d -path '*/unitagent-docker*' -exec rmdir {} \; 2>/dev/null || true
}
trap stop EXIT

for _ in $(seq 300); do
    docker info >/dev/null 2>&1 && break
    kill -0 $engine 2>/dev/null || { tail -n 15 "$run/log" >&2; fail "the engine ended (its log stands above)"; }
    sleep 0.2
done
docker info >/dev/null 2>&1 || { tail -n 15 "$run/log" >&2; fail "the engine did not start within a minute"; }
"$@" 9>&-
