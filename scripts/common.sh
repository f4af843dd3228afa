# shellcheck shell=bash
# What the scripts share: to say what is done, to stop, to install. Sourced, not run.

announce() {
    echo "Installing: $*" >&2
}

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null
}

as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo here. Run as root: $*"
    fi
}

# Services of what is installed are not started.
apt_install() {
    # shellcheck disable=SC2016
    as_root sh -c '
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap "rm -f $policy" EXIT
            trap "exit 1" HUP INT TERM
            printf "#!/bin/sh\nexit 101\n" >"$policy"
            chmod 755 "$policy"
        fi
        export DEBIAN_FRONTEND=noninteractive
        apt-get update || echo "apt-get update failed; going on with the lists that are there"
        apt-get install -y --no-install-recommends "$@"
    ' sh "$@" >&2
}
