#!/usr/bin/env bash
# Checks the licences, duplicate versions, sources and security advisories of the dependencies with cargo-deny, which is
# installed if necessary. If it cannot be installed, nothing is checked; if the advisory database cannot be fetched,
# advisories are not. The script says so and succeeds.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo deny --version >/dev/null 2>&1; then
    echo "installing cargo-deny"
    if ! timeout 900 cargo install --quiet --locked cargo-deny; then
        echo "cargo-deny cannot be installed here: dependencies are not checked"
        exit 0
    fi
fi
cargo deny --locked check licenses bans sources
if timeout 120 cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --locked check --disable-fetch advisories
else
    echo "cannot fetch the advisory database: advisories are not checked"
fi
