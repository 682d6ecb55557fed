#!/usr/bin/env bash
# Fuzzes all targets, or those named as arguments, for FUZZ_SECONDS each (default 300), and prints a table of results.
# Crashing inputs go to fuzz/artifacts; the corpora in fuzz/corpus are not changed.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-300}
work=${CARGO_TARGET_DIR:-$PWD/fuzz/target}/fuzzing
mkdir -p "$work"

run_seeded_rounds() {
    echo "cannot fuzz: $1; running the seeded rounds of the tests instead, ten times as many"
    UDPCHAT_ROUNDS=${UDPCHAT_ROUNDS:-200000} exec cargo test --locked --test it -- fuzzing::
}

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "installing cargo-fuzz"
    timeout 900 cargo install --quiet --locked cargo-fuzz || run_seeded_rounds "cargo-fuzz cannot be installed"
fi

# Sanitizers need a nightly compiler, or a stable one with RUSTC_BOOTSTRAP=1.
if cargo +nightly --version >/dev/null 2>&1; then
    fuzz=(cargo +nightly fuzz)
else
    export RUSTC_BOOTSTRAP=1
    fuzz=(cargo fuzz)
fi

# Instruments the C code of libjpeg-turbo, too, if clang and its runtime are installed.
flags="-fsanitize=address -fsanitize=fuzzer-no-link -g1"
if clang $flags -x c -o "$work/probe" - <<<'int main(void) { return 0; }' 2>/dev/null; then
    export CC=clang CFLAGS=$flags
    echo "C code is instrumented too; its assembly is not"
else
    echo "C code is not instrumented: that needs clang and its runtime (libclang-rt-dev)"
fi
"${fuzz[@]}" build || run_seeded_rounds "the fuzzers cannot be built"

targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <("${fuzz[@]}" list)
rows=() crashed=0
for target in "${targets[@]}"; do
    mkdir -p "$work/$target"
    log=$work/$target.log
    "${fuzz[@]}" run "$target" "$work/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 >"$log" 2>&1 &&
        crashes=0 || crashes=1
    crashed=$((crashed + crashes))
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(grep -oE 'cov: [0-9]+' "$log" | tail -1 | cut -d' ' -f2)
    rows+=("| $target | ${executions:-0} | ${edges:-0} | $seconds | $crashes |")
    echo "${rows[-1]}"
    [ "$crashes" = 0 ] || tail -40 "$log"
done
printf '\n| target | executions | edges covered | seconds | crashes |\n|---|---|---|---|---|\n'
printf '%s\n' "${rows[@]}"
[ "$crashed" = 0 ]
