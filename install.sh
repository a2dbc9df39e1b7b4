#!/usr/bin/env bash
# Builds teleport-lite from this checkout and installs it, or shows it at work. `--help` says more.
{ # read whole before it runs: an edit or a cut-off copy must not run half of it
set -euo pipefail
umask 022
# --- filled in where this script is published (teleport_lite/release/script.py); empty in a checkout
base=''
keys=''
join_proxy=''
join_token=''
join_pins=''
join_labels=''
# ---
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=packaging/needs.sh
. "$here/packaging/needs.sh"
# shellcheck source=packaging/demo.sh
. "$here/packaging/demo.sh"

file=$here/dist/teleport-lite.pyz
names='teleport-lite tctl tsh tbot'
unit=/etc/systemd/system/teleport-lite.service

usage() {
  cat <<'HELP'
usage: bash install.sh [--prefix DIR]              build and install (DIR: /usr/local, which needs root)
       bash install.sh --uninstall [--prefix DIR]  remove it; settings and data stay
       bash install.sh --demo [--keep]             a cluster on loopback, a node that joins it, and an
                                                   SSH session, all gone afterwards (--keep: not gone)

Works from a checkout; it does not download releases. NO_COLOR is respected.
HELP
}

build() {
  find_python
  say "building the single file with $("$PYTHON" --version)"
  "$PYTHON" "$here/packaging/build.py"
}

# Whether PATH is a link of ours: into our directory under this prefix, be it there or not.
is_ours() { [ -L "$1" ] && [ "$(readlink "$1")" = ../lib/teleport-lite/teleport-lite.pyz ]; }

install_all() {
  local lib=$prefix/lib/teleport-lite name
  may_write "$prefix"
  # The system's Python first: a root's own, in a home, is closed to everybody else.
  [ "$(id -u)" != 0 ] || : "${TELEPORT_LITE_PYTHON:=/usr/bin/python3}"
  build
  mkdir -p "$lib" "$prefix/bin"
  if cmp -s "$file" "$lib/teleport-lite.pyz"; then
    say "$lib/teleport-lite.pyz is this build already"
  else
    cp "$file" "$lib/.new" && chmod 755 "$lib/.new" && mv "$lib/.new" "$lib/teleport-lite.pyz"
    say "installed $lib/teleport-lite.pyz"
  fi
  say "unpacked to $("$PYTHON" -I -S "$lib/teleport-lite.pyz" self unpack "$lib")"
  for name in $names; do
    if [ -e "$prefix/bin/$name" ] || [ -L "$prefix/bin/$name" ]; then
      is_ours "$prefix/bin/$name" ||
        say "left $prefix/bin/$name alone: it is not ours (use: $lib/teleport-lite.pyz${name#teleport-lite})"
    else
      ln -s ../lib/teleport-lite/teleport-lite.pyz "$prefix/bin/$name"
      say "linked $prefix/bin/$name"
    fi
  done
  install_unit
  say "done: $("$lib/teleport-lite.pyz" --version)"
}

may_write() {
  [ -d "$1" ] || mkdir -p "$1" 2>/dev/null || true
  [ -w "$1" ] || die "can not write to $1" "sudo bash install.sh, or bash install.sh --prefix ~/.local"
}

# systemd gets a unit that is neither enabled nor started: the configuration comes first.
install_unit() {
  [ "$prefix" = /usr/local ] && [ -d "${unit%/*}" ] || return 0
  if ! cmp -s "$here/systemd/teleport-lite.service" "$unit"; then
    [ ! -e "$unit" ] || unit_is_ours || { say "left $unit alone: it is not ours"; return 0; }
    install -m 644 "$here/systemd/teleport-lite.service" "$unit"
    say "installed $unit"
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
  fi
  say 'next: teleport-lite configure -o file && systemctl enable --now teleport-lite'
}

unit_is_ours() { grep -qx '# teleport-lite: installed by install.sh' "$unit"; }

uninstall_all() {
  local lib=$prefix/lib/teleport-lite name
  may_write "$prefix"
  for name in $names; do
    is_ours "$prefix/bin/$name" || continue
    rm "$prefix/bin/$name"
    say "removed $prefix/bin/$name"
  done
  if [ "$prefix" = /usr/local ] && [ -e "$unit" ] && unit_is_ours; then
    [ ! -d /run/systemd/system ] || systemctl disable --now teleport-lite
    rm "$unit"
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
    say "removed $unit"
  fi
  if [ -e "$lib/teleport-lite.pyz" ]; then
    find "$lib" -mindepth 1 -maxdepth 1 ! -name plugins -exec rm -r {} +
    if rmdir "$lib" 2>/dev/null; then
      say "removed $lib"
    else
      say "removed $lib, but for the plugins in it"
    fi
  fi
  say 'done; /etc/teleport-lite* and /var/lib/teleport-lite stay, where they exist'
}

main() {
  local what=install keep='' prefix=/usr/local
  while [ $# -gt 0 ]; do
    case $1 in
      --demo) what=demo ;;
      --keep) keep=yes ;;
      --uninstall) what=uninstall ;;
      --prefix) [ $# -gt 1 ] || wrong '--prefix needs a directory'; prefix=$2; shift ;;
      --prefix=*) prefix=${1#--prefix=} ;;
      -h | --help) usage; return ;;
      *) wrong "unknown option: $1" ;;
    esac
    shift
  done
  case $prefix in /*) ;; *) wrong "--prefix: $prefix is not an absolute path" ;; esac
  [ -z "$keep" ] || [ "$what" = demo ] || wrong '--keep goes with --demo'
  [ -f "$here/packaging/build.py" ] || die 'this script works from a checkout only'
  case $what in
    demo) demo ;;
    install) install_all ;;
    uninstall) uninstall_all ;;
  esac
}

wrong() {
  printf 'ERROR: %s\n' "$1" >&2
  usage >&2
  exit 2
}

main "$@" </dev/null
exit
}
