# Sourced by scripts that run a command in a virtual machine. Sets `lab` to the command that boots
# one and runs its arguments in it (the path in LABVM, otherwise labvm from PATH), and `out` to a
# directory that is deleted on exit. Without such a command, the sourcing script prints that it is
# skipped and exits with 0. $1 names what the virtual machine must have.
lab=${LABVM:-$(command -v labvm || true)}
if [ ! -x "$lab" ]; then
    echo "skipped: no virtual machine with $1 (set LABVM to the command that boots one)"
    exit 0
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
