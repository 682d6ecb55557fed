#!/usr/bin/env bash
# Runs the rows of "Loss" in docs/BENCHMARKS.md under the kernel's netem, in a virtual machine (LABVM, see lab.sh).
# ROW_SECONDS is the length of a row, ROW_FPS its frame rate, UDPCHAT the binary. Only rows whose names contain ROWS run.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lab.sh "netem"
cat >"$out/rows.py" <<'PY'
import json, os, signal, subprocess, sys, time

program, out, seconds, FPS, only = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
# About 92 datagrams of 1472 bytes per frame. Both sides share the one core of the virtual machine, where system calls are
# slow. On a slow machine that core may be the bottleneck; half the frame rate then says more about the network.
FIXED = ["--quality", "100", "--mtu", "1472"]
# netem loses a GSO batch as a whole, so each datagram is sent separately.
PATTERN = ["--source", "pattern", "--size", "1280x720", "--fps", str(FPS), "--offload", "batched"]
# Mbit/s of the narrow link: a third of the frame rate, 10 Mbit/s at 30 frames/s. Its queue holds 0.12 s of datagrams.
NARROW = FPS // 3
STEADY = 2
ROWS = [  # name, netem each way, options, shown at least, overhead at most
    ("no loss", "delay 1ms", [], 1, 0.04),
    ("0.1 %", "delay 1ms loss 0.1%", [], 0.9999, 0.06),
    ("1 %, RTT 2 ms", "delay 1ms loss 1%", [], 0.9995, 0.10),
    ("5 %, RTT 2 ms", "delay 1ms loss 5%", [], 0.999, 0.20),
    ("10 %, RTT 10 ms", "delay 5ms loss 10%", [], 0.99, 0.35),
    ("bursts of 20, 2 %, RTT 2 ms", "delay 1ms loss gemodel 0.102% 5% 100% 0%", [], 0.995, 0.25),
    ("5 %, parity alone, 25 %", "delay 1ms loss 5%", ["--no-control", "--fec", "25"], 0.995, 0.30),
    ("10 % reordered by up to 3 ms", "delay 3ms reorder 10%", [], 0.9999, 0.05),
    ("1 % twice, 0.1 % corrupted", "delay 1ms duplicate 1% corrupt 0.1%", [], 0.9995, 0.10),
    # With a rate, netem preserves the order.
    ("jitter of 0 to 20 ms", "delay 10ms 10ms rate 1000mbit", [], 0.999, 0.05),
]

def impair(netem):
    subprocess.run(["lab-net", *netem.split()], check=True)

def start(side, *args):
    return subprocess.Popen(["ip", "netns", "exec", side, program, *args], stdout=subprocess.PIPE, text=True)

def stream(options, seconds, port="7722", receiver=()):
    recv = start("b", "recv", "--bind", f"0.0.0.0:{port}", "--show", "none", "--stats-json", "-", *receiver)
    time.sleep(1)
    send = start("a", "send", "--to", f"10.77.0.2:{port}", "--seconds", str(seconds), "--stats-json", "-", *PATTERN, *options)
    return send, recv

def finish(pair):
    send, recv = pair
    sent = [json.loads(line) for line in send.communicate()[0].splitlines()]
    time.sleep(2.3)
    recv.send_signal(signal.SIGINT)
    return sent, [json.loads(line) for line in recv.communicate()[0].splitlines()]

def median(values):
    values = sorted(v for v in values if v is not None)
    return values[len(values) // 2] if values else float("nan")

def p95(lines):
    return median(l["receiver"]["latency_ms"]["end_to_end"]["p95"] if l["receiver"]["latency_ms"]["end_to_end"] else None for l in lines)

def figures(sent, received):
    last = received[-1]["receiver"]
    known = last["completed"] + last["incomplete"] + last["late"]
    since = lambda name: sent[-1]["bytes"][name] - sent[STEADY]["bytes"][name]
    overhead = since("sent") / since("pictures_sent") - 1
    return last, known, overhead

wrong = []
print("| path | shown | overhead | p95 end to end, ms | added by repair, p95, ms | by parity | requests | answered | lost |", flush=True)
print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
for name, netem, options, least, most in ROWS:
    if only not in name:
        continue
    impair(netem)
    sent, received = finish(stream(FIXED + options, seconds))
    last, known, overhead = figures(sent, received)
    lost = received[-1]["datagrams"]["lost"]
    added = (last["repair_ms"] or {"p95": 0})["p95"]
    print(f"| {name} | {last['completed']} of {known} | {overhead:.1%} | {p95(received[STEADY:]):.1f} | {added:.1f} | {last['repaired_by_parity']} "
          f"| {last['requests']} | {sent[-1]['sender']['answered']} | {lost / (lost + received[-1]['datagrams']['received']):.2%} |", flush=True)
    missed = known - last["completed"]
    # Rounded up: in a short row, one frame may be missing.
    if missed > -(-(1 - least) * known // 1) or overhead > most or last["damaged"] or known < 0.8 * FPS * seconds:
        wrong.append(name)

if only in "a blackout":
    impair("delay 1ms")
    pair = stream(FIXED, 18, receiver=["--output", f"{out}/all.mjpeg", "--overwrite"])
    size = lambda: os.path.exists(f"{out}/all.mjpeg") and os.stat(f"{out}/all.mjpeg").st_size
    time.sleep(4)
    impair("loss 100%")
    time.sleep(10)
    before = size()
    back = time.monotonic()
    impair("delay 1ms")
    while size() == before and time.monotonic() < back + 5:
        time.sleep(0.002)
    after = time.monotonic() - back
    last, known, _ = figures(*finish(pair))
    print(f"10 s blackout: picture back after {after * 1e3:.0f} ms; {last['completed']} frames complete in the other 8 s", flush=True)
    if after > 0.3:
        wrong.append("a blackout")

if only in "a narrow link":
    impair("delay 1ms rate 100mbit limit 400")
    pair = stream(["--quality", "auto"], 50)
    time.sleep(10)
    impair(f"delay 1ms rate {NARROW}mbit limit {NARROW * 10}")
    narrowed = time.time()
    time.sleep(20)
    impair("delay 1ms rate 100mbit limit 400")
    widened = time.time()
    sent, received = finish(pair)
    narrow = [l["receiver"] for l in received if narrowed + 3 < l["time"] < widened]
    since = lambda name: narrow[-1][name] - narrow[0][name]
    share = since("completed") / (since("completed") + since("incomplete") + since("late"))
    qualities = [(l["time"], l["sender"]["quality"]) for l in sent]
    former = [q for t, q in qualities if t < narrowed][-1]
    back = next((t - widened for t, q in qualities if t > widened and q >= 0.8 * former), 99)
    late = median(l["latency_ms"]["end_to_end"]["p95"] for l in narrow)
    steady = [q for t, q in qualities if narrowed + 11 < t < widened]
    print(f"100, {NARROW}, 100 Mbit/s: p95 {late:.0f} ms, {share:.1%} shown, quality {former}, then {steady}, "
          f"80 % back after {back:.1f} s", flush=True)
    mean = sum(steady) / len(steady)
    if share < 0.95 or back > 15 or late > 80 or any(not 0.9 <= q / mean <= 1.1 for q in steady):
        wrong.append("a narrow link")

if only in "two streams":
    impair(f"delay 1ms rate {2 * NARROW}mbit limit {17 * NARROW}")
    pairs = [stream(["--quality", "auto"], 45, port) for port in ("7722", "7732")]
    goodputs = [median(l["receiver"]["goodput_mbit_s"] for l in finish(pair)[1][18:42]) for pair in pairs]
    share = goodputs[0] / sum(goodputs)
    print(f"two on {2 * NARROW} Mbit/s: {goodputs[0]:.1f} and {goodputs[1]:.1f} Mbit/s of pictures, the first has {share:.0%}", flush=True)
    if not 0.35 <= share <= 0.65:
        wrong.append("two streams")

if wrong:
    sys.exit("missed: " + ", ".join(wrong))
PY
cp "${UDPCHAT:-target/release/udpchat}" "$out/udpchat"
"$lab" --accel uml --cam none --timeout 3600 --share "$out" -e XDG_CONFIG_HOME="$out/config" -- \
    python3 "$out/rows.py" "$out/udpchat" "$out" "${ROW_SECONDS:-60}" "${ROW_FPS:-30}" "${ROWS:-}"
