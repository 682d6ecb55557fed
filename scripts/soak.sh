#!/usr/bin/env bash
# Streams for 10 minutes (or SECONDS_TO_RUN) at 30 frames/s over loopback. Fails if resident memory of either side
# grows by 2 % after the first minute, or if latency p95 grows by 10 % from the second minute to the last.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${SECONDS_TO_RUN:-600}
bin=target/release/udpchat
dir=$(mktemp -d)
export XDG_CONFIG_HOME=$dir
recv= send=
trap 'kill $recv $send 2>/dev/null || true; rm -rf "$dir"' EXIT

"$bin" recv --bind 127.0.0.1:0 --show none --stats-json "$dir/stats" 2>"$dir/recv.log" &
recv=$!
for _ in $(seq 50); do grep -q "on port" "$dir/recv.log" && break; sleep 0.1; done
port=$(sed -n 's/.* on port \([0-9]*\);.*/\1/p' "$dir/recv.log")
"$bin" send --to "127.0.0.1:$port" --source pattern 2>"$dir/send.log" &
send=$!

rss() { awk '/VmRSS/ {print $2}' "/proc/$1/status"; }
for second in $(seq "$seconds"); do
    sleep 1
    echo "$second $(rss $recv) $(rss $send)" >>"$dir/rss"
done
kill -TERM "$send" && wait "$send"
kill -TERM "$recv" && wait "$recv"

python3 - "$dir" <<'PY'
import json, sys
rows = [tuple(map(int, l.split())) for l in open(sys.argv[1] + "/rss")]
stats = [json.loads(l)["receiver"] for l in open(sys.argv[1] + "/stats")]
p95 = lambda part: sorted(s["latency_ms"]["end_to_end"]["p95"] for s in part if s["latency_ms"]["end_to_end"])
minute = 60 if len(rows) >= 180 else len(rows) // 5
for side, column in (("receiver", 1), ("sender", 2)):
    kb = [r[column] for r in rows]
    print(f"{side}: {kb[minute]} KB after the first minute, {max(kb[minute:])} KB at most, {kb[-1]} KB at the end")
second, last = p95(stats[minute:2 * minute]), p95(stats[-minute:])
median = lambda xs: xs[len(xs) // 2]
print(f"latency p95, median of the seconds: {median(second):.2f} ms in the second minute, {median(last):.2f} ms in the last")
grown = [max(r[c] for r in rows[minute:]) / rows[minute][c] for c in (1, 2)]
print(f"frames: completed {stats[-1]['completed']}, incomplete {stats[-1]['incomplete']}, superseded {stats[-1]['superseded']}")
sys.exit(0 if max(grown) < 1.02 and median(last) < 1.1 * median(second) else "memory or latency has grown")
PY
