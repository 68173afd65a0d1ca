#!/usr/bin/env bash
# Replace a Unit that is a Compose project by a new one, without a dropped request; or keep the old one.
#
#   scripts/rollout.sh [OPTION...] NEW
#
#   -f FILE            Compose file of the new Unit; may be given again
#   --from OLD         project of the Unit that is replaced; without it the new one is only added
#   --timeout SECONDS  for all new instances to be ready (default 600)
#   --settle SECONDS   between that and the drain of the old Unit: longer than the balancer needs to notice
#                      (default 5)
#   --divert COMMAND   run when the new Unit is ready, with OLD and NEW in its environment, where traffic does
#                      not follow /traffic or `unitagent endpoints` by itself; run again with the two swapped
#                      when NEW fails after that. When it fails itself, traffic has to be where it was
#
# The instances of NEW are created in parallel; when all are ready traffic is diverted, OLD is drained, and its
# containers are deleted together, with the networks and volumes of its project. When NEW does not become ready,
# NEW is deleted, OLD stays as it was, and the exit code is 1.
#
# Every container of NEW is an instance, but those that have ended with 0: what carries the agent into a volume.
# UNITAGENT says where an instance has its agent (default unitagent; /opt/unitagent/unitagent for the bundle).
# COMPOSE_PROJECT_NAME and UNIT_REVISION are set to NEW for the file, unless the latter is set.
set -euo pipefail

# A terminal that is gone keeps nothing from being taken back.
say() { printf 'rollout: %s\n' "$*" >&2 || true; }
fail() { say "$*"; exit "${code:-1}"; }
usage() { code=2 fail "$* (see scripts/rollout.sh --help)"; }

files=() old='' diverted='' timeout=600 settle=5 divert=''
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -f | --from | --timeout | --settle | --divert)
            [ $# -gt 1 ] || usage "$1 needs a value"
            case $1 in
                -f) files+=(-f "$2") ;;
                --from) old=$2 ;;
                --timeout) timeout=$2 ;;
                --settle) settle=$2 ;;
                --divert) divert=$2 ;;
            esac
            shift 2
            ;;
        -*) usage "unknown option $1" ;;
        *) break ;;
    esac
done
[ $# = 1 ] || usage "one project NEW is expected, not $#"
for number in "$timeout" "$settle"; do
    [[ $number =~ ^[0-9]+$ ]] || usage "'$number' is not a whole number of seconds"
done
# Without the base, 08 would be an octal number, and none.
timeout=$((10#$timeout)) settle=$((10#$settle))
new=$1
[ "$new" != "$old" ] || usage "NEW and OLD are both $new: a new Unit is a new project"

compose() {
    if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}
of() { docker "$1" ls -q --filter "label=com.docker.compose.project=$2" "${@:3}"; }

# End all containers of a project at once, each within its own grace, and delete them together. The project's name
# does not come again, so what only it could use goes too.
delete() {
    local containers networks volumes
    mapfile -t containers < <(of container "$1" -a)
    mapfile -t networks < <(of network "$1")
    mapfile -t volumes < <(of volume "$1")
    [ ${#containers[@]} = 0 ] || docker stop "${containers[@]}" >/dev/null
    [ ${#containers[@]} = 0 ] || docker rm --force --volumes "${containers[@]}" >/dev/null
    [ ${#networks[@]} = 0 ] || docker network rm "${networks[@]}" >/dev/null
    [ ${#volumes[@]} = 0 ] || docker volume rm "${volumes[@]}" >/dev/null
}

# Move traffic from $1 to $2.
move() { OLD=$1 NEW=$2 sh -c "$divert"; }

abort() {
    trap - INT TERM HUP
    if [ -n "$diverted" ] && [ -n "$old" ]; then
        say "$*; diverting back to $old"
        move "$new" "$old" || fail "--divert failed on the way back: $old and $new both stay, look where traffic goes"
        sleep "$settle"
    fi
    say "$*; $new is deleted${old:+, $old stays}"
    local container
    for container in $(of container "$new" -a); do
        say "last lines of $(docker inspect --format '{{.Name}}' "$container"):"
        docker logs --tail 5 "$container" 2>&1 | sed 's/^/    /' >&2 || true
    done
    delete "$new"
    exit 1
}

# True when every instance, and there are some, says that the whole Unit serves.
ready() {
    local container instances=0
    for container in $(of container "$new" -a); do
        [ "$(docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$container")" = "exited 0" ] && continue
        docker exec "$container" "${UNITAGENT:-unitagent}" probe ready >/dev/null 2>&1 || return
        instances=$((instances + 1))
    done
    [ $instances -gt 0 ]
}

[ -z "$(of container "$new" -a)$(of volume "$new")" ] ||
    fail "$new has containers or volumes already: give the new Unit a new name"
[ -z "$old" ] || [ -n "$(of container "$old")" ] || fail "$old has no running containers: leave --from out"
export COMPOSE_PROJECT_NAME=$new UNIT_REVISION=${UNIT_REVISION:-$new}

trap 'abort "interrupted"' INT TERM HUP
say "creating $new"
compose -p "$new" "${files[@]}" up -d >&2 || abort "it cannot be created"
deadline=$((SECONDS + timeout))
until ready; do
    [ $SECONDS -lt $deadline ] || abort "it is not ready after $timeout s"
    sleep 1
done
say "$new is ready"
if [ -n "$divert" ]; then
    # Said before it is so: what is interrupted halfway is taken back as well.
    diverted=yes
    move "$old" "$new" || { diverted=''; abort "--divert failed"; }
fi
[ -n "$old" ] || exit 0
sleep "$settle"
ready || abort "it is not ready any more"

# From here on there is no way back: the old Unit turns traffic away.
trap '' INT TERM HUP
say "draining $old"
delete "$old"
say "$old is replaced by $new"
