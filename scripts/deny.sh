#!/usr/bin/env bash
# Licences and duplicate versions of the dependencies, where cargo-deny is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --locked check licenses bans sources
else
    echo "cargo-deny is not installed, licences are not checked: cargo install --locked cargo-deny"
fi
