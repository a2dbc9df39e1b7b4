#!/usr/bin/env bash
# The tests on whole machines, with a real systemd, of the distributions we say we run on.
#   sudo bash packaging/machines.sh [bookworm|noble|trixie|all] [pytest arguments]
# Needs root, debootstrap and systemd-nspawn; makes each machine once and keeps it in
# ~/.cache/teleport-lite-machines. Mirrors: TELEPORT_LITE_DEBIAN_MIRROR, TELEPORT_LITE_UBUNTU_MIRROR.
{ # read whole before it runs, so that an edit meanwhile changes nothing
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/needs.sh
. packaging/needs.sh
which=all
case ${1:-} in
  bookworm | noble | trixie | all) which=$1; shift ;;
  '' | -*) ;;
  *) die "there is no machine named $1" 'bash packaging/machines.sh bookworm (or noble, trixie, all)' ;;
esac
[ "$(id -u)" = 0 ] || die 'machines need root' 'sudo bash packaging/machines.sh'
need_commands debootstrap:debootstrap systemd-nspawn:systemd-container ip:iproute2 \
  ssh-keygen:openssh-client openssl:openssl curl:curl
find_python
[ -x .venv/bin/python ] || "$PYTHON" packaging/devenv.py
for one in ${which/all/bookworm noble trixie}; do
  say "$one"
  TELEPORT_LITE_MACHINES=$one .venv/bin/python -m pytest tests/machines --durations=15 "$@"
done
exit
}
