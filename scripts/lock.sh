#!/usr/bin/env bash
# Renew what the image and the bundle are made of: each package with its version and the hashes of its files.
#
#   scripts/lock.sh     # writes docker/lock.txt (the agent), lock-wheel.txt and lock-bundle.txt (what builds either)
#
# Run it with the oldest Python that is supported, 3.11.2 of Debian say (PYTHON=/usr/bin/python3): newer ones ask for
# less, and what is not locked is not installed. Look at the difference before it is committed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make_venv "$work/venv"
pip_install "$work/venv" lock pip-tools
lock() {
    local target=$1
    shift
    (cd "$ROOT" && CUSTOM_COMPILE_COMMAND=scripts/lock.sh "$work/venv/bin/pip-compile" --quiet --generate-hashes \
        --allow-unsafe --strip-extras --upgrade --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
        --no-header --no-annotate --output-file "$target" "$@") >&2
    say "$target"
}
echo 'setuptools>=77' >"$work/wheel.in"
printf 'setuptools>=77\npyinstaller\npatchelf\n' >"$work/bundle.in"
lock docker/lock.txt --extra embedded pyproject.toml
lock docker/lock-wheel.txt "$work/wheel.in"
lock docker/lock-bundle.txt "$work/bundle.in"
