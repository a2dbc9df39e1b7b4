# shellcheck shell=bash
# What install.sh and tests/run ask of a machine. Sourced, never run.

have() { command -v "$1" >/dev/null 2>&1; }

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi

say() { printf '%s\n' "${bold}==>${plain} $*"; }

die() { # die MESSAGE [WHAT TO TRY]
  printf 'ERROR: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  try: %s\n' "$2" >&2
  exit 1
}

# Sets PYTHON to one that is new enough and has the whole standard library (python3-minimal has not).
find_python() {
  local name path
  for name in "${TELEPORT_LITE_PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
    path=$(command -v "${name:-no-name}") || continue
    if "$path" -I -S -c 'import sys; assert sys.version_info >= (3, 11); import ctypes, sqlite3, ssl, zlib' 2>/dev/null; then
      export PYTHON=$path
      return
    fi
  done
  die 'no Python 3.11 or newer found' 'apt-get install python3 (Debian 12, Ubuntu 24.04 or newer), or set TELEPORT_LITE_PYTHON'
}

# need_commands COMMAND:PACKAGE ... : apt brings what is missing when we are root; else say what to install.
need_commands() {
  local pair missing=()
  for pair; do
    have "${pair%%:*}" || have "/usr/sbin/${pair%%:*}" || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! have apt-get; then
    die "not installed here: ${missing[*]}" "sudo apt-get install ${missing[*]}"
  fi
  say "installing with apt-get: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update || say 'apt-get update failed; going on with the lists that are here'
  apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends "${missing[@]}" >/dev/null </dev/null ||
    die "apt-get could not install ${missing[*]}" "apt-get install ${missing[*]}"
}
