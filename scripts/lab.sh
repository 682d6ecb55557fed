# Sourced by scripts that run a command in a virtual machine. Sets `lab` to the command that boots one and runs its arguments
# in it (LABVM is its path; otherwise labvm is looked up in PATH), and `out` to a directory that is deleted on exit. Without such a command the script
# prints that it is skipped and exits with 0; $1 names what the virtual machine is for.
lab=${LABVM:-$(command -v labvm || true)}
if [ ! -x "$lab" ]; then
    echo "skipped: no virtual machine with $1 (set LABVM to the command that boots one)"
    exit 0
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
