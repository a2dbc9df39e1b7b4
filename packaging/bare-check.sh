#!/usr/bin/env bash
# Both commands of the README on a Debian or Ubuntu that has only python3, as root, in a container.
#   bash packaging/bare-check.sh [bookworm|trixie|noble [MIRROR]]
# Needs root, debootstrap and systemd-nspawn. The bare system is kept in ~/.cache for the next time.
# How this machine reaches apt and package indexes (settings, extra CAs) is handed on to it.
{
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=packaging/needs.sh
. "$here/packaging/needs.sh"
suite=${1:-bookworm} mirror=${2:-}
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/teleport-lite-bare
base=$cache/$suite

# What this machine has to say about package indexes and CAs; values go in, never into the repo.
settings() {
  local name
  for name in $(compgen -e); do
    case $name in
      PIP_* | UV_* | *_proxy | *_PROXY | SSL_CERT_FILE | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE)
        printf '%s\n' "--setenv=$name=${!name}"
        ;;
    esac
  done
}

bootstrap() {
  local unready=$base.new script=''
  local -a special=()
  rm -rf "$unready"
  mkdir -p "$cache"
  case $suite in
    # Debian's debootstrap has neither Ubuntu's keyring nor its later names; all of Ubuntu is made
    # alike. Unchecked packages will do for a root that is thrown away after the check.
    noble)
      special=(--no-check-gpg '--components=main,universe')
      script=/usr/share/debootstrap/scripts/gutsy
      [ -n "$mirror" ] || die 'Ubuntu needs a mirror' "bash packaging/bare-check.sh $suite MIRROR"
      ;;
  esac
  debootstrap --variant=minbase --include=python3 "${special[@]}" "$suite" "$unready" ${mirror:+"$mirror"} ${script:+"$script"} >"$cache/$suite.log" ||
    die "debootstrap failed, see $cache/$suite.log"
  mv "$unready" "$base"
}

[ "$(id -u)" = 0 ] || die 'making a bare system needs root' 'sudo bash packaging/bare-check.sh'
need_commands debootstrap:debootstrap systemd-nspawn:systemd-container git:git
[ -d "$base" ] || { say "making a bare $suite in $base"; bootstrap; }

root=$(mktemp -d "${TMPDIR:-/tmp}/teleport-lite-bare.XXXXXXXX")
trap 'rm -rf "$root"' EXIT
say "a copy of it in $root"
cp -a "$base/." "$root/"
: >"$root/etc/machine-id" # or nspawn refuses
[ -s "$root/etc/hosts" ] || echo '127.0.0.1 localhost' >"$root/etc/hosts" # as every installed system has
mkdir -p "$root/usr/local/share/ca-certificates" "$root/etc/ssl/certs"
cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || true
cp /etc/pip.conf "$root/etc/" 2>/dev/null || true
apt-config dump | grep -E '^Acquire::(Check-|https?::(Proxy|CAInfo))' >"$root/etc/apt/apt.conf.d/90host" || true
git clone --quiet "$here" "$root/root/teleport-lite"

mapfile -t environment < <(settings)
for command in 'bash install.sh --demo' 'bash tests/run'; do
  say "$command"
  began=$SECONDS
  systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --resolv-conf=copy-host \
    --console=pipe --chdir=/root/teleport-lite --setenv=CI=true "${environment[@]}" \
    bash -c "$command" </dev/null
  say "$command: exit 0 after $((SECONDS - began)) s"
done
exit
}
