# Shared by the scripts of this folder, to be sourced: a Python environment and the system's tools, made when
# they are missing and left alone when they are there.
#
# The invariant: a set-up that was interrupted is completed by the next one; nothing is ever half there.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
fail() { say "$*"; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

# Print the first Python that is new enough; a name on PATH may be a stub that does not run.
find_python() {
    local name
    for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    fail "needs Python 3.11 or newer: install one, or name it as PYTHON=/path/to/python3"
}

# Make a virtual environment at $1, unless a working one stands there.
make_venv() {
    "$1/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
    local python
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        apt_install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv" ||
            fail "$python cannot make virtual environments: install its venv package (Debian: python3-venv)"
    fi
    say "making $1 with $python"
    "$python" -m venv --clear "$1"
}

# Install pip arguments ${@:3} into the environment $1, unless the stamp $2 says that this was done already.
pip_install() {
    local venv=$1 stamp=$1/$2.stamp
    shift 2
    local now
    now="$ROOT $* $("$venv/bin/python" -V) $(cksum <"$ROOT/pyproject.toml")"
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ] && return
    say "installing $*"
    local log
    log=$(mktemp)
    if ! (cd "$ROOT" && "$venv/bin/python" -m pip install --disable-pip-version-check "$@") >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        fail "pip could not install $* (its reason stands above)"
    fi
    rm -f "$log"
    printf '%s\n' "$now" >"$stamp"
}

# Make .venv with this project, its extras $1 (as in "embedded,other") and the dependency groups ${@:2}.
setup_venv() {
    local name=$* extras=$1 group groups=()
    shift
    make_venv "$VENV"
    for group in "$@"; do
        groups+=(--group "$group")
    done
    [ $# = 0 ] || pip_install "$VENV" pip 'pip>=25.1' # the first that knows dependency groups
    pip_install "$VENV" "unitagent-${name//[, ]/-}" -e ".[$extras]" ${groups[@]+"${groups[@]}"}
}

# Install Debian packages; false without root or without apt. No service is started by it: a policy that
# forbids that stands for as long as apt runs, unless the machine has one of its own.
apt_install() {
    is_root && command -v apt-get >/dev/null || return
    local policy=/usr/sbin/policy-rc.d log ours='' status=0
    log=$(mktemp)
    if [ ! -e $policy ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    fi
    say "installing from apt: $*"
    apt_quietly update >"$log" 2>&1 &&
        apt_quietly install -y --no-install-recommends "$@" >>"$log" 2>&1 || status=$?
    [ -z "$ours" ] || rm -f $policy
    [ $status = 0 ] || tail -n 5 "$log" >&2
    rm -f "$log"
    return $status
}

apt_quietly() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" </dev/null; }

# Make sure of system tools, given as command:package; what is missing and cannot be had is said, not fatal.
setup_tools() {
    local pair packages='' missing=''
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null && continue
        packages="$packages ${pair#*:}"
    done
    [ -z "$packages" ] && return
    # shellcheck disable=SC2086  # several packages
    apt_install $packages && return
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair%%:*} (package ${pair#*:})"
    done
    say "not here, and only root on a Debian-like system gets it by itself:$missing"
    say "tests that need it will be skipped or fail, and say so"
}
