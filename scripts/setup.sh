#!/usr/bin/env bash
# Installs the packages for building (setup.sh build), testing (setup.sh test) or fuzzing (setup.sh fuzz) with apt.
# Without apt it names missing tools; the README lists the packages of other systems.
set -euo pipefail

build=(build-essential pkg-config cmake nasm clang libclang-dev libopencv-dev)
test=("${build[@]}" ffmpeg opencv-doc xvfb xdotool imagemagick x11-utils iproute2 nftables)
fuzz=("${build[@]}" libclang-rt-dev)

case "${1:-build}" in
    build) wanted=("${build[@]}") ;;
    test) wanted=("${test[@]}") ;;
    fuzz) wanted=("${fuzz[@]}") ;;
    *) echo "usage: setup.sh build|test|fuzz" >&2; exit 2 ;;
esac

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust from https://rustup.rs" >&2
    exit 1
fi
if ! command -v dpkg-query >/dev/null; then
    for tool in cmake nasm clang pkg-config; do
        command -v "$tool" >/dev/null || echo "$tool is missing: see 'Other systems' in README.md" >&2
    done
    exit 0
fi

missing=()
for package in "${wanted[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
echo "installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
