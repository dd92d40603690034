#!/bin/sh
# Usage: check_toolchain.sh PYTHON
# Says everything that is missing to build Artesian, and how to get it.
set -u
python=$1
missing=0

need() { # what, hint
    missing=1
    printf 'missing: %s\n         %s\n' "$1" "$2" >&2
}

if ! command -v "$python" >/dev/null 2>&1; then
    need "$python (3.11 or newer)" \
        "Debian, Ubuntu: apt install python3 python3-venv; Fedora: dnf install python3"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    need "Python 3.11 or newer; $python is $("$python" --version 2>&1)" \
        "if you have a newer one: make PYTHON=python3.12"
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    need "Python's venv module" "Debian, Ubuntu: apt install python3-venv"
fi

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
get_rust="see rust-lang.org/tools/install; where rustup is installed: rustup update stable"
if ! command -v cargo >/dev/null 2>&1; then
    need "a Rust toolchain (cargo $wanted or newer)" "$get_rust"
else
    found=$(cargo --version | cut -d ' ' -f 2)
    oldest=$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)
    if [ "$oldest" != "$wanted" ]; then
        need "Rust $wanted or newer; cargo is $found" "$get_rust"
    fi
fi

if ! command -v cc >/dev/null 2>&1; then
    need "a C compiler (cc), which Rust links with" \
        "Debian, Ubuntu: apt install build-essential; Fedora: dnf install gcc"
fi

exit $missing
