#!/usr/bin/env bash
# Make the image $1 (by default unitagent-base) from Debian's packages alone, with Python and without a
# registry; nothing is done when it is there.
#
#   scripts/docker-engine.sh scripts/docker-base.sh [IMAGE]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

image=${1:-unitagent-base}
docker image inspect "$image" >/dev/null 2>&1 && exit
is_root || fail "only root can make a base image"
setup_tools debootstrap:debootstrap
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
say "making $image"
# The mirror that this machine's own apt uses.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | head -n 1)
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$folder" \
    "${DEBIAN_MIRROR:-$mirror}" >"$folder.log" 2>&1 ||
    { tail -n 15 "$folder.log" >&2; fail "debootstrap failed (its log stands above)"; }
rm -f "$folder.log"
# The packages themselves and their lists are not needed any more.
rm -rf "$folder"/var/cache/apt/archives/*.deb "$folder"/var/lib/apt/lists/*
tar -C "$folder" -c . | docker import - "$image" >/dev/null
