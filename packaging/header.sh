#!/bin/sh
# teleport-lite @VERSION@ (build @BUILD@): a Python program behind this shell header; the zip archive starts below it.
# Digest of the whole file while these are 64 zeros: @DIGEST@
py='' main='' lib=/usr/local/lib/teleport-lite
if [ "${1-}" != self ] && [ -z "${TELEPORT_LITE_ROOT-}${TELEPORT_LITE_PYTHON-}" ]; then
  # Who is not root (/ is not theirs) may have installed us: $0 is PREFIX/bin/NAME. Both the directory and
  # what is read from it must be theirs then. HOME is not asked: it can be anybody's, after su and sudo.
  if ! [ -r $lib/launch-@BUILD@ ] && ! [ -O / ]; then
    case $0 in
      /*/bin/*) lib=${0%/bin/*}/lib/teleport-lite && [ -O "$lib" ] && [ -O "$lib/launch-@BUILD@" ] || lib='' ;;
      *) lib='' ;;
    esac
  fi
  if [ -n "$lib" ] && [ -r "$lib/launch-@BUILD@" ]; then
    . "$lib/launch-@BUILD@"
    [ -x "$py" ] && [ -r "$main" ] && exec "$py" -I -S "$main" "$0" "$@"
  fi
fi
if [ "$(wc -c <"$0")" -ne @SIZE@ ]; then
  echo "ERROR: $0 is damaged: its size is not @SIZE@ bytes" >&2
  echo "  try: copy or build the file again" >&2
  exit 1
fi
for py in "${TELEPORT_LITE_PYTHON-}" python3 python3.14 python3.13 python3.12 python3.11; do
  [ -n "$py" ] && command -v "$py" >/dev/null 2>&1 && exec "$py" -I -S "$0" "$@"
done
echo "ERROR: teleport-lite needs python3 (3.11 or newer), and PATH has none" >&2
echo "  try: apt-get install python3" >&2
exit 127
