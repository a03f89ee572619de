# From here on POSIX sh, the same for every node.
# shellcheck disable=SC2154 # daemon_version, daemon_url and daemon_sha256 stand above, in the script as it is given.
set -eu

# Who sees the environment of a program that this one starts sees no token.
unset node_token
node_token=$HYDRA_NODE_TOKEN
unset HYDRA_NODE_TOKEN

main() {
    action=install
    dry_run=
    start=yes
    for option in "$@"; do
        case $option in
        --dry-run) dry_run=yes ;;
        --uninstall) action=uninstall ;;
        --no-start) start= ;;
        --help)
            usage
            exit 0
            ;;
        *) fail "$option is no option of this script: it knows --dry-run, --uninstall, --no-start and --help." ;;
        esac
    done
    set_paths
    need_root
    if [ "$action" = uninstall ]; then
        uninstall
        exit 0
    fi
    install_daemon
    # What follows main says that it is installed.
    [ -z "$dry_run" ] || exit 0
}

usage() {
    cat <<'END'
Options:
  --dry-run     Say what would be done, and do nothing.
  --uninstall   Remove the daemon, its settings and what it has not sent yet.
  --no-start    Install, and start nothing.
Variables:
  HYDRA_PYTHON        The Python to run the daemon with; else one of 3.9 or newer is looked for.
  HYDRA_ROOT          Install below this folder and run from there, as who runs this script.
  HYDRA_WAIT_SECONDS  How long the controller may take to answer (60).
END
}

install_daemon() {
    need_machine
    find_python
    say "Python is $python."
    if [ -z "$daemon_sha256" ]; then
        fail "This controller has no daemon to give: whoever runs it must install its wheel, or say \`make daemon\`. \
Then make a new token, and run the script that comes with it."
    fi
    make_user
    trap 'rm -rf "$opt/.new"' EXIT
    unpack
    configure
    if has_systemd; then
        write_unit
        start_unit
    else
        say "There is no systemd here. This runs the daemon: $(command_line)"
    fi
    remove_other_versions
}

# What this machine is.

set_paths() {
    root=${HYDRA_ROOT:-}
    root=${root%/}
    case $root in
    *[!A-Za-z0-9_./-]*) fail "HYDRA_ROOT may have letters, digits and _ . / - in it: $root" ;;
    '' | /*) ;;
    *) fail "HYDRA_ROOT is $root: give it from / on." ;;
    esac
    opt=$root/opt/hydra-node
    etc=$root/etc/hydra-node
    state=$root/var/lib/hydra-node
    unit=$root/etc/systemd/system/hydra-node.service
    user=hydra-node
    [ -z "$root" ] || user=$(id -un)
}

need_root() {
    [ -n "$root" ] || [ -n "$dry_run" ] || [ "$(id -u)" -eq 0 ] ||
        fail "This needs root, for a system user and a service; nothing was changed. Save it as install.sh and run: \
sudo sh install.sh (sudo sh install.sh --dry-run shows what it would do)."
}

need_machine() {
    case $(uname -s)/$(uname -m) in
    Linux/x86_64 | Linux/aarch64) ;;
    *) fail "The daemon is made for Linux on x86_64 and aarch64; this is $(uname -s) on $(uname -m)." ;;
    esac
}

find_python() {
    if [ -n "${HYDRA_PYTHON:-}" ]; then
        python=$(command -v "$HYDRA_PYTHON") || python=$HYDRA_PYTHON
        case $python in
        *[!A-Za-z0-9_./+-]*) fail "HYDRA_PYTHON may have letters, digits and _ . / + - in it: $HYDRA_PYTHON" ;;
        esac
        can_run_daemon ||
            fail "HYDRA_PYTHON is $HYDRA_PYTHON, which is no Python 3.9 or newer with ssl, sqlite3 and ctypes."
        return 0
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
        # The system's own: what stands in somebody's home is not there for a service.
        python=$(PATH=/usr/bin:/bin:/usr/local/bin; command -v "$candidate") || continue
        ! can_run_daemon || return 0
    done
    fail "There is no Python 3.9 or newer (with ssl, sqlite3 and ctypes) on this machine. $(how_to_get_python) \
Then run this script again."
}

can_run_daemon() {
    "$python" -I -c 'import ctypes, sqlite3, ssl, sys, zipfile; sys.exit(sys.version_info < (3, 9))' 2>/dev/null
}

how_to_get_python() {
    ID='' VERSION_ID=''
    # shellcheck source=/dev/null
    [ ! -r /etc/os-release ] || . /etc/os-release
    case $ID:$VERSION_ID in
    ubuntu:20.04) say "Install it: apt-get install python3.9 (from universe)." ;;
    ubuntu:* | debian:*) say "Install it: apt-get install python3." ;;
    rhel:8* | rocky:8* | almalinux:8* | centos:8* | ol:8*) say "Install it: dnf install python3.11 (or python39)." ;;
    rhel:* | rocky:* | almalinux:* | centos:* | ol:*) say "Install it: dnf install python3." ;;
    *) say "Install it with this system's package manager." ;;
    esac
}

has_systemd() {
    [ -d "$root/run/systemd/system" ] && has systemctl
}

# The steps.

make_user() {
    ! id "$user" >/dev/null 2>&1 || return 0
    step "Make the system user $user" || return 0
    useradd --system --user-group --no-create-home --home-dir "$state" --shell /usr/sbin/nologin "$user"
}

unpack() {
    folder=$opt/$daemon_version
    if [ -r "$folder/sha256" ] && [ "$(cat "$folder/sha256")" = "$daemon_sha256" ]; then
        say "The daemon $daemon_version is in $folder already."
    elif step "Download $daemon_url"; then
        umask 022
        rm -rf "$opt/.new"
        mkdir -p "$opt/.new"
        download "$opt/.new/daemon.pyz" || fail "$daemon_url cannot be downloaded. Is that the controller's address \
as this machine sees it (its AIWM_PUBLIC_URL)? Was the controller upgraded? Then make a new token, and run the script \
that comes with it."
        [ "$(sha256_of "$opt/.new/daemon.pyz")" = "$daemon_sha256" ] ||
            fail "What $daemon_url gave is not what this script was made for (SHA-256 $daemon_sha256): \
the controller was changed meanwhile, or something between. Make a new token, and run the script that comes with it."
    fi
    if [ -e "$opt/.new/daemon.pyz" ] || [ -n "$dry_run" ]; then
        unpack_new
    fi
    step "Point $opt/current at it" || return 0
    ln -sfn "$daemon_version" "$opt/current"
}

unpack_new() {
    step "Unpack it to $folder" || return 0
    "$python" -I -m zipfile -e "$opt/.new/daemon.pyz" "$opt/.new/daemon"
    "$python" -I "$opt/.new/daemon" version >/dev/null ||
        fail "The daemon does not run on this machine with $python: it is made for Linux with glibc 2.17 or newer."
    rm -rf "$folder"
    mv "$opt/.new/daemon" "$folder"
    "$python" -I -m compileall -q "$folder"
    printf '%s\n' "$daemon_sha256" >"$folder/sha256"
    rm -rf "$opt/.new"
}

download() {
    if has curl; then
        curl --fail --silent --show-error --location --connect-timeout 20 --output "$1" "$daemon_url"
    elif has wget; then
        wget --quiet --timeout=60 --output-document="$1" "$daemon_url"
    else
        "$python" -I -c '
import shutil, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as answer, open(sys.argv[2], "wb") as file:
    shutil.copyfileobj(answer, file)' "$daemon_url" "$1"
    fi
}

sha256_of() {
    "$python" -I -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"
}

configure() {
    step "Write the token to $etc/token, for $user alone, and the controller's address to $etc/config.env" || return 0
    umask 022
    mkdir -p "$etc" "$state"
    chown "$user" "$state"
    chmod 700 "$state"
    # What somebody else has written there stays.
    {
        [ ! -e "$etc/config.env" ] || sed '/^HYDRA_CONTROLLER_ENDPOINT=/d; /^HYDRA_NODE_ID=/d; /^HYDRA_STATE_DIR=/d' \
            "$etc/config.env"
        printf 'HYDRA_CONTROLLER_ENDPOINT=%s\n' "$(quoted "$HYDRA_CONTROLLER_ENDPOINT")"
        printf 'HYDRA_NODE_ID=%s\n' "$(quoted "$HYDRA_NODE_ID")"
        printf 'HYDRA_STATE_DIR=%s\n' "$state"
    } >"$etc/config.env.new"
    mv -f "$etc/config.env.new" "$etc/config.env"
    rm -f "$etc/token.new"
    # printf is the shell's own: no other program gets to see the token.
    (umask 077 && printf '%s\n' "$node_token" >"$etc/token.new")
    chown "$user" "$etc/token.new"
    mv -f "$etc/token.new" "$etc/token"
}

write_unit() {
    step "Write the service to $unit" || return 0
    umask 022
    cat >"$unit" <<END
[Unit]
Description=Hydra node daemon: what this machine measures, for its controller
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=$python -I $opt/current run --config $etc
User=$user
UMask=0077
StateDirectory=hydra-node
StateDirectoryMode=0700
WatchdogSec=120
TimeoutStopSec=30
Restart=always
RestartSec=2
# Longer each time from systemd 254 on; an older one says that it does not know these two.
RestartSteps=6
RestartMaxDelaySec=60

NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
# NVML speaks with /dev/nvidia*, and a driver may be loaded later than this service: no list of devices, and no
# ProtectClock, which makes one. What the user $user may open there, the files' own permissions say.
PrivateDevices=no
DevicePolicy=auto

[Install]
WantedBy=multi-user.target
END
}

start_unit() {
    if [ -z "$start" ]; then
        say "Start it with: systemctl enable --now hydra-node"
        return 0
    fi
    step "Start the service hydra-node, now and with every boot" || return 0
    systemctl daemon-reload
    systemctl enable --quiet hydra-node.service
    systemctl restart hydra-node.service ||
        fail "The service hydra-node does not start. See why: journalctl -u hydra-node -e"
    wait_until_online
}

wait_until_online() {
    say "Wait until the controller has this node online."
    seconds=${HYDRA_WAIT_SECONDS:-60}
    while :; do
        status=$(systemctl show --property=StatusText hydra-node.service)
        status=${status#StatusText=}
        case $status in
        "Connected to "*)
            say "$status"
            return 0
            ;;
        esac
        [ "$seconds" -gt 0 ] || break
        seconds=$((seconds - 1))
        sleep 1
    done
    fail "The daemon is installed and runs, but the controller has not taken it yet. ${status:-It has said nothing so far.} \
It goes on trying; see how: journalctl -u hydra-node -e"
}

# As the unit does, without systemd.
command_line() {
    [ -n "$root" ] || printf 'setpriv --reuid=%s --regid=%s --init-groups ' "$user" "$user"
    printf '%s -I %s run --config %s' "$python" "$opt/current" "$etc"
}

run_without_systemd() {
    if has_systemd || [ -z "$start" ]; then
        return 0
    fi
    say "It runs here now, until Ctrl-C."
    trap - EXIT
    # Words without blanks: what HYDRA_ROOT and HYDRA_PYTHON may be was looked at.
    # shellcheck disable=SC2046
    exec $(command_line)
}

remove_other_versions() {
    for other in "$opt"/*; do
        case $other in
        "$opt/$daemon_version" | "$opt/current" | "$opt/*") ;;
        *) ! step "Remove $other" || rm -rf "$other" ;;
        esac
    done
}

uninstall() {
    say "No: this removes it, as --uninstall says."
    if [ -e "$unit" ] && step "Stop the service hydra-node and remove $unit"; then
        ! has_systemd || systemctl disable --quiet --now hydra-node.service
        rm -f "$unit"
        ! has_systemd || systemctl daemon-reload
    fi
    for folder in "$opt" "$etc" "$state"; do
        if [ -e "$folder" ] && step "Remove $folder"; then
            rm -rf "$folder"
        fi
    done
    if [ -z "$root" ] && id "$user" >/dev/null 2>&1 && step "Remove the system user $user"; then
        userdel "$user"
    fi
    say "Nothing of the daemon is left."
}

# What the steps need.

say() {
    printf '%s\n' "$*"
}

# Says what comes; whether it is to be done.
step() {
    say "${dry_run:+Would: }$1."
    [ -z "$dry_run" ]
}

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

quoted() {
    printf "'"
    printf '%s' "$1" | sed "s/'/'\\\\''/g"
    printf "'"
}

main "$@"
