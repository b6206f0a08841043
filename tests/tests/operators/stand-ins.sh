#!/usr/bin/env bash
# Base images under the names that deploy/ uses, made of this machine's Debian packages, for where no registry can be
# reached: stand-ins.sh TIDINGS-BINARY. DOCKER_HOST says which daemon gets them.
#
# The one of Rust has a cargo that hands out the binary that the tests have built of the same sources: building it once
# more, with optimisation and from an empty cache, would take longer than all tests.
set -euo pipefail
binary="$1"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# root NAME PROGRAM...: a directory with these programs, the libraries that they need, and users.
root() {
    local root="$work/$1"
    shift
    mkdir -p "$root"/{etc,tmp,usr,var/lib,var/run}
    for dir in bin sbin lib lib64; do
        mkdir -p "$root/usr/$dir"
        ln -s "usr/$dir" "$root/$dir"
    done
    chmod 1777 "$root/tmp"
    printf 'root:x:0:0:root:/:/bin/sh\nnonroot:x:65532:65532:nonroot:/:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
    for program in "$@"; do
        path="$(type -P "$program" || printf '%s' "$program")"
        cp -L --parents "$path" "$root"
        { ldd "$path" 2>/dev/null || true; } | grep -o '/[^ ]*' | sort -u | while read -r library; do
            cp -L --parents "$library" "$root"
        done
    done
    cp -L --parents /lib/x86_64-linux-gnu/libnss_{dns,files}.so.2 "$root" 2>/dev/null || true
    printf '%s' "$root"
}

# import ROOT NAME [CHANGE...]
import() {
    local from="$1" name="$2"
    shift 2
    local changes=()
    for change in "$@"; do changes+=(--change "$change"); done
    tar -C "$from" -c . | docker import "${changes[@]}" - "$name" >/dev/null
}

shell=(sh env cat cp find touch mkdir rm sleep true)

rust="$(root rust "${shell[@]}")"
cp "$binary" "$rust/usr/bin/tidings-as-built"
cat >"$rust/usr/bin/cargo" <<'CARGO'
#!/bin/sh
set -e
mkdir -p target/release
cp /usr/bin/tidings-as-built target/release/tidings
CARGO
printf '#!/bin/sh\n' >"$rust/usr/bin/apt-get"
chmod +x "$rust/usr/bin/cargo" "$rust/usr/bin/apt-get"
mkdir -p "$rust/usr/local/bin"
import "$rust" rust:1.95-slim-bookworm 'ENV PATH=/usr/local/bin:/usr/bin:/bin'

# What the binary needs of a system; not the binary itself.
cc="$(root cc "$binary")"
rm "$cc/$binary"
import "$cc" gcr.io/distroless/cc-debian12:nonroot 'USER 65532'
debian="$(root debian "${shell[@]}" "$binary")"
rm "$debian/$binary"
import "$debian" debian:bookworm-slim
import "$(root redis "${shell[@]}" redis-server redis-cli)" redis:7-bookworm 'WORKDIR /data'
import "$(root haproxy "${shell[@]}" haproxy)" haproxy:3.2 \
    'ENTRYPOINT ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]' 'ENV PATH=/usr/sbin:/usr/bin'
