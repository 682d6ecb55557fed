#!/usr/bin/env bash
# Licences and duplicate versions of the dependencies, by cargo-deny, which is installed if that works.
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
