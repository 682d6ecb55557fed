#!/usr/bin/env bash
# Licences, duplicate versions, origins and known holes of the dependencies, by cargo-deny, which is installed if that
# works. Known holes need the advisory database, which is fetched; where it cannot be, that is said and no failure.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo deny --version >/dev/null 2>&1; then
    echo "installing cargo-deny"
    if ! timeout 900 cargo install --quiet --locked cargo-deny; then
        echo "cargo-deny cannot be installed here: licences are not checked"
        exit 0
    fi
fi
cargo deny --locked check licenses bans sources
if timeout 120 cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --locked check --disable-fetch advisories
else
    echo "the advisory database cannot be reached: known holes are not checked"
fi
