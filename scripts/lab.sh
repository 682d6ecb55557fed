# Sourced by what runs in a virtual machine: `lab` is the command that boots one and runs what follows in it (LABVM says which),
# `out` a folder that is gone at the end. Where there is no such command, that is all that is said; $1 is what it would be for.
lab=${LABVM:-../shared/lab/labvm}
if [ ! -x "$lab" ]; then
    echo "skipped: no virtual machine with $1 (set LABVM to the command that boots one)"
    exit 0
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
