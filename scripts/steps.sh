# What the scripts share; sourced, not run: where we are, how steps are announced, how packages are installed.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Since when; a script that calls another hands it on.
export STARTED="${STARTED:-$(date +%s)}"

# Cargo tells a person at a terminal what it builds, and a log only what is wrong.
QUIET=()
[ -t 2 ] || QUIET=(--quiet)

step() {
    local elapsed=$(($(date +%s) - STARTED))
    printf '\n==> [%02d:%02d] %s\n' $((elapsed / 60)) $((elapsed % 60)) "$*"
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# install_packages PACKAGE...: with apt. Services that come with packages are not started: the tests start their own.
# In a shell of its own, whose traps end with it.
install_packages() (
    command -v apt-get >/dev/null || fail "this needs $*, and there is no apt-get here to install them with; install them and try again"
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || fail "this needs $*; install them as root: apt-get install $*"
    step "installing with apt: $*"
    # Debian asks this file whether a package may start its daemons. It goes again however this ends.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'as_root rm -f "$policy"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
    fi
    { as_root apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null; } ||
        fail "apt could not install $*"
)

require_rust() {
    # A toolchain of its own, if rustup has just been installed and the shell does not know yet.
    PATH="$PATH:$HOME/.cargo/bin"
    command -v cargo >/dev/null || fail "there is no cargo; install Rust from https://rustup.rs"
    command -v cc >/dev/null || install_packages build-essential
}
