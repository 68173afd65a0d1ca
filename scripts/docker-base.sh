#!/usr/bin/env bash
# Make the images that the tests build on, from Debian's packages alone and without a registry: unitagent-base, with
# Python, and unitagent-bare, without, but with what stands around a Unit. What is there already, of the same packages, stays.
#
#   scripts/docker-engine.sh scripts/docker-base.sh
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# Make the image $1 with the packages ${@:2} besides Debian's smallest set.
make_image() {
    local image=$1 packages folder
    shift
    packages=$(IFS=,; echo "$*")
    folder=$work/$image
    [ "$(docker image inspect --format '{{.Config.Labels.packages}}' "$image" 2>/dev/null)" = "$packages" ] && return
    is_root || fail "only root can make a base image"
    say "making $image"
    debootstrap --variant=minbase --include="$packages" bookworm "$folder" ${mirror:+"$mirror"} >"$folder.log" 2>&1 ||
        { tail -n 15 "$folder.log" >&2; fail "debootstrap failed (its log stands above)"; }
    # The packages themselves and their lists are not needed any more.
    rm -rf "$folder"/var/cache/apt/archives/*.deb "$folder"/var/lib/apt/lists/*
    tar -C "$folder" -c . | docker import --change "LABEL packages=$packages" - "$image" >/dev/null
    rm -rf "$folder"
}

setup_tools debootstrap:debootstrap
# Compose is part of Docker by now; Debian has it as a program of its own.
docker compose version >/dev/null 2>&1 || setup_tools docker-compose:docker-compose
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The mirror that this machine's own apt uses, when it has Debian's packages; else the one that debootstrap knows.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | head -n 1)
mirror=${DEBIAN_MIRROR:-$mirror}
# The bundle is packed with Python's shared library, by binutils.
make_image unitagent-base python3 python3-venv libpython3.11 binutils ca-certificates iproute2
make_image unitagent-bare redis-server haproxy
