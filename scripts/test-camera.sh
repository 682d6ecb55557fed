#!/usr/bin/env bash
# Streams from a simulated V4L2 camera, in a virtual machine (LABVM, see lab.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lab.sh "a camera"
cat >"$out/inside.sh" <<'EOS'
set -eu
export XDG_CONFIG_HOME=$2
cd "$1"
target/release/udpchat devices
target/release/udpchat recv --bind 127.0.0.1:7722 --show none --output "$2/camera.mjpeg" --overwrite --seconds 30 &
recv=$!
sleep 1
target/release/udpchat send -v --to 127.0.0.1 --source camera --seconds 15
wait "$recv"
EOS
"$lab" --cam uvc -e UVCSIM_OPTS=--strip-dht --share "$out" -- bash "$out/inside.sh" "$PWD" "$out"
python3 - "$out/camera.mjpeg" <<'PY'
import re, sys
marks = [int(m) for m in re.findall(rb"LABCAM seq=(\d+)", open(sys.argv[1], "rb").read())]
assert len(marks) > 60, f"{len(marks)} frames"
assert marks == sorted(set(marks)), "out of order or twice"
print(f"{len(marks)} of the camera's own JPEGs, in order, {marks[-1] - marks[0] + 1 - len(marks)} skipped")
PY
