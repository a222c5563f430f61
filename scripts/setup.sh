#!/usr/bin/env bash
# Sees to what the rest needs, and does nothing where it is there:
# setup.sh [rust] [python] [jupyter] [mininet] [fuzz] [torture] [valgrind] [rocksdb] [etcd] [redis] [zookeeper]
#
#   rust     a compiler that is new enough, and a linker
#   python   .venv with python/requirements.txt
#   jupyter  JupyterLab in that .venv, to open the notebooks with
#   mininet  Mininet and the tools of the network laboratory
#   fuzz     a C++ compiler, for the fuzzer's engine
#   torture  strace, which makes disks fail, and tools for small file systems
#   rocksdb  RocksDB as Debian has it, and what makes bindings of its header
#   etcd, redis, zookeeper
#            the systems that Loggos is measured against, as Debian has them; their services stay off
#   valgrind what counts instructions
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root_dir"

setup_rust() {
    command -v cc >/dev/null || apt_install gcc libc6-dev
    local needed found
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(as_builder cargo --version 2>/dev/null | cut -d' ' -f2) || found=
    if [ -n "$found" ] && [ "$(printf '%s\n' "$needed" "$found" | sort -V | head -n 1)" = "$needed" ]; then
        return
    fi
    local is="no cargo was found for user $builder"
    [ -z "$found" ] || is="cargo $found was found"
    if as_builder rustup --version >/dev/null 2>&1; then
        note "Rust $needed or newer is needed, $is: asking rustup for the stable toolchain"
        as_builder rustup toolchain install stable --component rustfmt --component clippy
        as_builder rustup default stable
        return
    fi
    fail "Rust $needed or newer is needed, and $is. To get it:
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
}

setup_python() {
    local python=/usr/bin/python3 want
    [ -x "$python" ] || apt_install python3
    # The pinned versions need it.
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "the analysis needs Python 3.11 or newer, $python is $("$python" --version)"
    want="$("$python" --version) $(sha256sum python/requirements.txt)"
    if [ "$(cat .venv/made-of 2>/dev/null)" = "$want" ] && .venv/bin/python -c '' 2>/dev/null; then
        return
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    note "making .venv for the analysis (once, about a minute)"
    as_builder "$python" -m venv --clear .venv
    as_builder .venv/bin/pip install --quiet --disable-pip-version-check -r python/requirements.txt </dev/null
    # Last, so that an installation that broke off is taken up again.
    echo "$want" | as_builder tee .venv/made-of >/dev/null
}

setup_jupyter() {
    setup_python
    .venv/bin/python -c 'import jupyterlab' 2>/dev/null && return
    note "installing JupyterLab into .venv (once, about a minute)"
    as_builder .venv/bin/pip install --quiet --disable-pip-version-check -r python/requirements-jupyter.txt </dev/null
}

setup_mininet() {
    local packages=()
    needs() { command -v "$1" >/dev/null || packages+=("$2"); }
    # Some of these live where only root's PATH leads.
    PATH=$PATH:/usr/sbin:/sbin
    needs mnexec mininet
    needs brctl bridge-utils
    needs ifconfig net-tools
    needs nft nftables
    needs iptables iptables
    needs nsenter util-linux
    needs ip iproute2
    needs ping iputils-ping
    needs sysctl procps
    needs ethtool ethtool
    needs strace strace
    /usr/bin/python3 -c 'import mininet.net' 2>/dev/null || packages+=(mininet)
    [ "${#packages[@]}" -eq 0 ] || apt_install "${packages[@]}"
}

setup_fuzz() {
    command -v c++ >/dev/null || apt_install g++
}

setup_torture() {
    local packages=()
    needs() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || packages+=("$2"); }
    [ -x /usr/bin/python3 ] || packages+=(python3)
    needs strace strace
    needs unshare util-linux
    needs mount mount
    needs mkfs.ext4 e2fsprogs
    [ "${#packages[@]}" -eq 0 ] || apt_install "${packages[@]}"
}

# Installs a server for our own use. Debian starts it as a service at once, which would be in the way of what
# is measured; one that was there before is somebody else's, and stays as it is.
install_server() {
    local unit=$1
    shift
    apt_install "$@"
    if [ -d /run/systemd/system ]; then
        ! systemctl cat "$unit" >/dev/null 2>&1 || systemctl disable --quiet --now "$unit"
    elif [ -x "/etc/init.d/$unit" ]; then
        # It may have been kept from starting already.
        invoke-rc.d "$unit" stop >/dev/null || true
        update-rc.d "$unit" disable
    fi
}

setup_etcd() { command -v etcd >/dev/null || install_server etcd etcd-server; }

setup_redis() { command -v redis-server >/dev/null || install_server redis-server redis-server; }

setup_zookeeper() {
    local packages=()
    [ -e /usr/share/java/zookeeper.jar ] || packages+=(zookeeper)
    command -v java >/dev/null || packages+=(default-jre-headless)
    [ "${#packages[@]}" -eq 0 ] || install_server zookeeper "${packages[@]}"
}

setup_valgrind() {
    command -v valgrind >/dev/null || apt_install valgrind
}

# The newest library of clang here: its name tells its version, and every release of Debian has others.
newest_libclang() {
    apt-cache search --names-only '^libclang1-[0-9]+$' | cut -d' ' -f1 | sort -V | tail -n 1
}

setup_rocksdb() {
    local packages=() clang=
    [ -e /usr/include/rocksdb/c.h ] || packages+=(librocksdb-dev)
    if ! PATH=$PATH:/usr/sbin:/sbin ldconfig -p | grep -q 'libclang[-.]'; then
        clang=$(newest_libclang)
        # A machine that is new has no list of what there is.
        if [ -z "$clang" ] && is_root; then
            apt-get update -qq </dev/null || true
            clang=$(newest_libclang)
        fi
        packages+=("${clang:-libclang-dev}")
    fi
    [ "${#packages[@]}" -eq 0 ] || apt_install "${packages[@]}"
}

for part in "$@"; do
    case $part in
        rust | python | jupyter | mininet | fuzz | torture | valgrind | rocksdb | etcd | redis | zookeeper) "setup_$part" ;;
        *) fail "unknown part $part; see the top of scripts/setup.sh" ;;
    esac
done
