#!/usr/bin/env bash
# Installs teleport-lite, upgrades and removes it; `--help` says how. For Linux, with bash and Python 3.11+.
# It finds a Python, downloads a release, checks its signature and digest, and has the checked file put
# everything in its place: by sudo, if who runs it may, or for that user alone. All in one file, however long:
# what is piped into a shell can source nothing.
[ -n "${BASH_VERSION-}" ] || { echo 'ERROR: this is for bash: pipe it to bash, or run: bash install.sh' >&2; exit 2; }
{ # read whole before it runs: of a download that was cut off nothing runs
set +o posix
set -euo pipefail
umask 022
for name in $(compgen -A function); do unset -f "$name"; done # whatever was exported to us
unset CDPATH GREP_OPTIONS
export LC_ALL=C # [a-z] are these 26

# --- filled in where this script is published (teleport_lite/release/script.py); empty in a checkout
base=''
keys=''
join_proxy=''
join_token=''
join_pins=''
join_labels=''
# ---
base=${TELEPORT_LITE_BASE:-$base}
source=${BASH_SOURCE[0]-} here='' # here: the checkout, if this is the file of one; piped there is no source
[ -z "$source" ] || [ -n "$base" ] || here=$(cd -- "$(dirname -- "$source")" && pwd -P)
[ -f "$here/packaging/build.py" ] || here=''
# shellcheck source=packaging/demo.sh
[ -z "$here" ] || . "$here/packaging/demo.sh" # build and demo, which only a checkout can
# What comes from elsewhere has to match one of these as a whole.
version_form='^[0-9]{1,5}\.[0-9]{1,5}\.[0-9]{1,5}(-[0-9A-Za-z.]{1,32})?$'
base_form='^(https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])|http://(127\.0\.0\.1|localhost|\[::1\]))'
base_form+='(:[0-9]{1,5})?(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$'

usage() {
  cat <<'HELP'
usage: curl -fsSL https://HOST/install.sh | bash -s -- [VERSION [EDITION]] [OPTION...]
       bash install.sh [OPTION...]   in a checkout: builds and installs that

  VERSION           like 1.2.3 or v1.2.3, or latest (if there is none)
  EDITION           oss, enterprise or cloud: there is only one, and it has everything
  --upgrade         to the newest version, but only where teleport-lite is installed
  --uninstall       remove it; settings and data stay, unless --purge is given too
  --dry-run         download and check, say what would be done, change nothing
  --user            for you alone, in ~/.local; without it for everybody, by sudo if you may use it
  --prefix DIR      another place than /usr/local or ~/.local
  --python PATH     the Python to use
  --no-systemd      leave systemd alone; --no-restart: leave running services as they are
  --demo [--keep]   in a checkout: a cluster on loopback, a node that joins it, and SSH sessions,
                    all gone afterwards (--keep: not gone)
With a script that joins a cluster: --labels K=V,... (more labels), --nodename NAME, --no-start.

To install what is there already changes nothing. No question is asked, but by sudo.
Environment: TELEPORT_LITE_SHA256 (digest the file must have), TELEPORT_LITE_BASE (https address of the
releases), TELEPORT_LITE_PYTHON, TMPDIR, NO_COLOR, and what curl knows (https_proxy, no_proxy...).
HELP
}

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
# What we say may hold text from elsewhere, and no control character of it reaches the terminal.
printable() { local text=${1:0:1000}; printf '%s' "${text//[^[:print:]]/?}"; }
say() { printf '%s\n' "${bold}==>${plain} $(printable "$*")"; }
die() { # die MESSAGE [WHAT TO TRY]
  printf 'ERROR: %s\n' "$(printable "$1")" >&2
  [ $# -lt 2 ] || printf '  try: %s\n' "$(printable "$2")" >&2
  exit 1
}
wrong() { (die "$1") || usage >&2; exit 2; }
given() { case $flags in *" $1 "*) ;; *) return 1 ;; esac; } # given OPTION
have() { command -v "$1" >/dev/null 2>&1; }

# --- the machine

check_machine() {
  [ "$(uname -s)" = Linux ] || die "this is $(uname -s), and teleport-lite runs on Linux alone"
  case $(uname -m) in x86_64 | aarch64) ;; *) die "this is $(uname -m); teleport-lite is for x86_64 and aarch64" ;; esac
  local key value
  while IFS='=' read -r key value || [ -n "$key" ]; do # data of the system: it is read, not run
    value=${value#[\"\']} value=${value%[\"\']}
    case $key in ID) os=$value- ;; VERSION_ID) release=$value ;; esac
  done 2>/dev/null </etc/os-release || true
  case $os in alpine- | postmarketos-) die 'this system has musl, and teleport-lite needs glibc' 'Debian, in a container' ;; esac
}

python_advice() {
  case $os$release in
    debian-[1-9] | debian-1[01] | ubuntu-1?.* | ubuntu-2[01].*) echo 'a newer release: Debian 12 and Ubuntu 24.04 have it' ;;
    ubuntu-22.*) echo 'apt-get install python3.11' ;;
    debian-* | ubuntu-*) echo 'apt-get install python3' ;;
    rhel-[89]* | centos-[89]* | almalinux-[89]* | rocky-[89]* | ol-[89]*) echo 'dnf install python3.12' ;;
    amzn-2) echo 'Amazon Linux 2023: the C library of this one is too old' ;;
    amzn-*) echo 'dnf install python3.11' ;;
    fedora-* | rhel-* | centos-* | almalinux-* | rocky-* | ol-*) echo 'dnf install python3' ;;
    opensuse-leap-* | sles-*) echo 'zypper install python311' ;;
    opensuse-*) echo 'zypper install python3' ;;
    arch-* | manjaro-*) echo 'pacman -S python' ;;
    *) echo 'the packages of your system' ;;
  esac
}

# For any Python 3: exit code 1 and the reason if it can not run teleport-lite.
probe='
import os, sys
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    sys.exit("it is %d.%d" % sys.version_info[:2])
try:
    import ctypes, sqlite3, ssl, zlib  # what small packages of Python, and those built by hand, lack
except ImportError as why:
    sys.exit("its standard library is not whole: %s" % why)
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION").split()[1]
except (ValueError, OSError, AttributeError):
    sys.exit("its C library is not glibc: musl and others are not supported")
if tuple(map(int, libc.split(".")[:2])) < (2, 28) or sys.maxsize < 2**32:
    sys.exit("it has glibc %s, or 32 bits: 2.28 and 64 bits are needed" % libc)
'

# Sets python. For everybody the system's own comes first: one in a home would be closed to all others.
find_python() {
  local path why seen=''
  if [ -n "$python" ]; then
    why=$("$python" -I -S -c "$probe" 2>&1) || die "$python can not be used: ${why##*$'\n'}"
    return
  fi
  [ "$prefix" != /usr/local ] || set -- /usr/bin/python3
  for name in "$@" python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
    path=$(command -v "$name") || continue
    if why=$("$path" -I -S -c "$probe" 2>&1); then python=$path && return; fi
    case $seen in *" $path: "*) ;; *) seen+=" $path: ${why##*$'\n'}." ;; esac
  done
  die "no Python from 3.11 to 3.14 with its whole standard library was found.$seen" "$(python_advice), or --python PATH"
}

# --- the download

# The last resort of fetch: URL, file. Python from 3.10 on takes no TLS below 1.2.
downloader='
import shutil, signal, sys, urllib.request
class Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, answer, code, message, headers, url):
        if not url.startswith("https://"):
            raise OSError("it leads on to an address that is not https")
        return super().redirect_request(request, answer, code, message, headers, url)
sys.tracebacklimit = 0
signal.alarm(900)
with urllib.request.build_opener(Redirects).open(sys.argv[1], timeout=30) as answer, open(sys.argv[2], "wb") as file:
    shutil.copyfileobj(answer, file)
'

# fetch NAME KIB: from the releases into $work, under the last part of its name, at most so much of it.
fetch() {
  local url=$base/$1 to=$work/${1##*/} start='' protocol="=https" redirects=5
  [[ $base =~ $base_form ]] ||
    die 'this install.sh does not know where releases are' 'https://PROXY/scripts/install.sh, or set TELEPORT_LITE_BASE'
  case $base in http:*) protocol="=http" redirects=0 ;; esac # on loopback; base_form lets nothing else through
  ( # who writes a larger file is ended
    ulimit -c 0 -f "$2"
    if have curl; then
      curl -fsSL --globoff --no-insecure --proto "$protocol" --proto-redir "$protocol" --tlsv1.2 --retry 3 \
        --max-redirs "$redirects" --max-filesize "$(($2 * 1024))" --connect-timeout 20 --max-time 900 \
        --speed-limit 500 --speed-time 60 -o "$to" -- "$url" || exit
    elif ! have wget || ! wget -q --max-redirect=0 --secure-protocol=TLSv1_2 --tries=3 --timeout=30 -O "$to" -- "$url"; then
      # (wget could not be kept from following a redirect out of https, so it follows none)
      "$python" -I -S -c "$downloader" "$url" "$to" || exit
    fi
  ) >"$work/log" 2>&1 || die "can not download $url: $(sed '/[^ ]/!d' "$work/log" | tail -n 1)" "curl -fsSL $url | head -c 300 (CURL_CA_BUNDLE=FILE names a CA of your own)"
  IFS= read -r -d '' -n 100 start <"$to" || true
  case $start in *'<'*) die "$url is a web page, not the file: is a proxy or a captive portal in between?" "curl -fsSL $url" ;; esac
}

# Exit code 0 if one of the keys signed the file. Arguments: file, signature, keys.
# Ed25519 after RFC 8032 §5.1, in as few lines as can be: this has no secrets and may take its time.
# The form of the signature is that of OpenSSH's PROTOCOL.sshsig.
verifier='
import base64, hashlib, pathlib, sys
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P

def point(raw):  # §5.1.3
    sign, y = divmod(int.from_bytes(raw, "little"), 2**255)
    xx = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(xx, (P + 3) // 8, P)
    x = x if x * x % P == xx else x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != xx or x < sign:
        sys.exit("it is no point of the curve")
    return x if x % 2 == sign else P - x, y

def add(p, q):
    t = D * p[0] * q[0] * p[1] * q[1]
    x, y = p[0] * q[1] + p[1] * q[0], p[1] * q[1] + p[0] * q[0]
    return x * pow(1 + t, -1, P) % P, y * pow(1 - t, -1, P) % P

def times(n, p):
    return add(times(n // 2, add(p, p)), p if n % 2 else (0, 1)) if n else (0, 1)

def signed(key, signature, message):  # §5.1.7
    order = 2**252 + 27742317777372353535851937790883648493
    base = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    s = int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little")
    return s < order and times(s, base) == add(point(signature[:32]), times(k % order, point(key)))

def strings(*parts):  # RFC 4251 §5
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

message, armour = (pathlib.Path(name).read_bytes() for name in sys.argv[1:3])
begin, *middle, end, last = armour.split(b"\n")
blob = base64.b64decode(b"".join(middle), validate=True)
if (begin, end, last) != (b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----", b"") or (
    base64.b64encode(blob) != b"".join(middle)
):
    sys.exit("it is not an SSH signature")
for key in (base64.b64decode(line.split()[1]) for line in sys.argv[3].splitlines()):
    for name in (b"sha512", b"sha256"):  # all but the last 64 bytes is known beforehand
        purpose = strings(b"teleport-lite-release", b"", name)
        head = b"SSHSIG\0\0\0\1" + strings(key) + purpose + strings(strings(b"ssh-ed25519", bytes(64)))[:-64]
        whole = b"SSHSIG" + purpose + strings(hashlib.new(name.decode(), message).digest())
        if blob[:-64] == head and signed(key[-32:], blob[-64:], whole):
            sys.exit(0)
sys.exit("it is not by a release key, or SHA256SUMS is not what was signed")
'

# Where there is OpenSSH 8.1 or newer it has to agree.
check_signature() {
  local sums=$work/SHA256SUMS why
  why=$("$python" -I -S -c "$verifier" "$sums" "$sums.sig" "$keys" 2>&1) ||
    die "$base/$version/SHA256SUMS has no right signature: ${why##*$'\n'}. Nothing was installed"
  case $(ssh-keygen -Y verify 2>&1) in
    *'missing namespace'*)
      printf '%s\n' "$keys" | sed 's/^/release /' >"$work/signers"
      ssh-keygen -Y verify -f "$work/signers" -I release -n teleport-lite-release -s "$sums.sig" <"$sums" >"$work/log" 2>&1 ||
        die "$base/$version/SHA256SUMS has no right signature, says ssh-keygen. Nothing was installed"
      ;;
  esac
}

digest_of() { [ ! -f "$1" ] || sha256sum <"$1" | cut -c 1-64; }

# If the newest version is wanted, sets version to it, and newer to what is installed if that is newer still.
ask_latest() {
  local there newest
  [ -z "$here" ] && [ "$version" = latest ] || return 0
  fetch latest 1
  version=$(tr '\0' '?' <"$work/latest") version=${version#v}
  [[ $version =~ $version_form ]] || die "$base/latest should name a version, and says: $version"
  [ -f "$lib/current/teleport-lite.pyz" ] && there=$(readlink "$lib/current") || return 0
  newest=$(printf '%s\n' "$version" "$there" | tr - '~' | sort -V | tail -n 1 | tr '~' -) # 1.2.3-rc.1 is before 1.2.3
  [ "$newest" = "$version" ] || newer=$there
}

# The file of a release, downloaded and checked.
download() {
  local name=teleport-lite-$version.pyz expected='' line
  fetch "$version/SHA256SUMS" 64
  if [ -n "$keys" ]; then
    fetch "$version/SHA256SUMS.sig" 16
    check_signature
  else
    say 'WARNING: this install.sh knows no release key. It checks that the download is whole, not who made it'
  fi
  while IFS= read -r line; do
    case $line in *"  $name") expected+=${line%"  $name"} ;; esac
  done <"$work/SHA256SUMS"
  [[ $expected =~ ^[0-9a-f]{64}$ ]] || die "$base/$version/SHA256SUMS does not list $name. Nothing was installed"
  if [ "$(digest_of "$lib/$version/teleport-lite.pyz")" = "$expected" ]; then
    cp "$lib/$version/teleport-lite.pyz" "$work/$name" # it is here already
  else
    say "downloading $base/$version/$name"
    fetch "$version/$name" 262144
  fi
  digest=$(digest_of "$work/$name")
  [ "$digest" = "$expected" ] || die "$name is damaged: its SHA-256 is $digest, not $expected. Nothing was installed"
}

# --- what is done with it

# The file to install, in $work and under the name a release gives it.
obtain() {
  if [ -n "$here" ]; then
    build # sets file and version
    cp "$file" "$work/teleport-lite-$version.pyz"
  else
    download
  fi
  file=$work/teleport-lite-$version.pyz
  digest=$(digest_of "$file")
  [ "${TELEPORT_LITE_SHA256:-$digest}" = "$digest" ] ||
    die "the SHA-256 of the file is $digest, not what TELEPORT_LITE_SHA256 says. Nothing was installed"
}

as_owner() { if [ -n "$become" ]; then sudo "$@"; else "$@"; fi; } # of the prefix

# program ROOT WORD...: runs the file, unpacked in that directory.
program() {
  if [ -n "$become" ] && ! given --dry-run; then
    sudo env TELEPORT_LITE_ROOT="$1" "$python" -I -S "$file" "${@:2}"
  else
    TELEPORT_LITE_ROOT=$1 "$python" -I -S "$file" "${@:2}"
  fi
}

# hand_on OPTION...: sets options to the prefix and those of these that were given.
hand_on() {
  options=("--prefix=$prefix")
  for option; do
    if given "$option"; then options+=("$option"); fi
  done
}

install_all() {
  local everybody="curl -fsSL $base/install.sh | sudo bash" near=$lib
  [ -z "$here" ] || everybody='sudo bash install.sh'
  if given --upgrade && [ ! -e "$lib/current" ]; then die "there is nothing to upgrade in $prefix" 'the same without --upgrade'; fi
  until [ -e "$near" ]; do near=${near%/*} near=${near:-/}; done
  [ -d "$near" ] && [ -w "$near" ] || given --dry-run || [ -n "$become" ] || {
    if [ "$(id -u)" = 0 ]; then everybody='findmnt -T '$near; fi # it is read-only
    die "can not write to $near" "$everybody, or --prefix DIR"
  }
  ask_latest
  if [ -n "$newer" ]; then
    say "nothing changed: $newer is installed, and the newest release is $version (bash -s $version goes back)"
  else
    obtain
    hand_on --no-restart --no-systemd --dry-run
    if given --dry-run; then
      say "would install teleport-lite $version in $prefix (SHA-256 $digest)${join_token:+, and join $join_proxy}"
      program "$work/trees" install self "${options[@]}" "--from=$work"
      return
    fi
    as_owner mkdir -p "$lib"
    program "$lib" self unpack "$lib" >"$work/log"
    program "$lib" install self "${options[@]}" "--from=$work"
    if [ "$lib/current/teleport-lite.pyz" -ef "$prefix/bin/teleport-lite" ]; then
      say "teleport-lite $version is $prefix/bin/teleport-lite"
    else # units and habits name that one
      say "WARNING: $prefix/bin/teleport-lite is another program; teleport-lite $version is $lib/current/teleport-lite.pyz"
    fi
  fi
  case :$PATH: in *":$prefix/bin:"*) ;; *) say "PATH lacks $prefix/bin" ;; esac
  [ "$prefix" != "${HOME:-}/.local" ] || say "that is for $(id -un) alone; for everybody: $everybody"
  if [ -n "$join_token" ] && ! given --dry-run; then join; fi
}

# Makes the machine a node. The token goes into a file: everybody can list the arguments of processes.
join() {
  local secrets=${config%/*}/teleport-lite pin unready
  local token=$secrets/token
  [ "$lib/current/teleport-lite.pyz" -ef "$prefix/bin/teleport-lite" ] ||
    die "$prefix/bin/teleport-lite is another program, and the service would start that" "mv $prefix/bin/teleport-lite{,.old}, then this again"
  if [ ! -e "$config" ] || grep -qF -- "$token" "$config"; then
    [ -d "$secrets" ] || mkdir -m 700 "$secrets"
    unready=$(mktemp "$secrets/.token.XXXXXXXX") # 0600
    printf '%s\n' "$join_token" >"$unready"
    mv -f -- "$unready" "$token"
  fi
  if [ -e "$config" ]; then
    say "kept $config, which says what cluster to join"
  else
    options=("--token=$token" "--proxy=$join_proxy" ${nodename:+"--node-name=$nodename"} ${join_labels:+"--labels=$join_labels"})
    for pin in $join_pins; do options+=("--ca-pin=$pin"); done
    file=$lib/current/teleport-lite.pyz
    program "$lib" node configure "${options[@]}" --silent -o "file://$config"
    say "wrote $config"
  fi
  if [ "$prefix" != /usr/local ] || [ ! -d /run/systemd/system ] || given --no-systemd; then
    say "to start it: $prefix/bin/teleport-lite start --config=$config"
  elif given --no-start; then
    say 'to start it: systemctl enable --now teleport-lite'
  else
    # (`enable --now` of systemd 255 says that all is well when the start fails)
    { systemctl enable teleport-lite && systemctl start teleport-lite; } ||
      die 'the service did not start' 'journalctl -eu teleport-lite'
    say 'teleport-lite runs, and will after every boot'
  fi
  say 'who administers the cluster sees it then: tctl nodes ls'
}

uninstall_all() {
  local path trees=$lib
  for path in "$lib/current/teleport-lite.pyz" "$lib"/[0-9]*/teleport-lite.pyz; do
    [ -n "$file" ] || [ ! -f "$path" ] || file=$path
  done
  if [ -z "$file" ]; then
    if ! given --purge; then say "nothing changed: there is no teleport-lite in $prefix"; return; fi
    trees=$work/trees # settings and data may be there without it
    ask_latest
    obtain
  fi
  hand_on --purge --dry-run
  program "$trees" uninstall "${options[@]}"
}

# --- the command line

# Sets prefix if none was given, and become. As guides expect it, an administrator installs for everybody.
choose_prefix() {
  if [ -n "$prefix" ]; then return; fi
  prefix=${HOME:-}/.local
  if given --user || { [ "$(id -u)" != 0 ] && { given --demo || [ -L "$prefix/lib/teleport-lite/current" ] || ! may_sudo; }; }; then
    [ -n "${HOME:-}" ] || die 'HOME is not set' '--prefix DIR'
    return
  fi
  prefix=/usr/local
  if [ "$(id -u)" != 0 ]; then
    become=sudo
    say 'for everybody, by sudo (for you alone: --user)'
  fi
}

may_sudo() {
  have sudo || return
  if sudo -n true 2>/dev/null; then return; fi
  case " $(id -nG) " in *' sudo '* | *' wheel '* | *' admin '*) ;; *) return 1 ;; esac
  { : </dev/tty; } 2>/dev/null || return # nobody could type a password
  given --dry-run || sudo -v
}

check_words() {
  case $version in
    '' | null | edition | oss | enterprise | cloud)
      die "'$version' was given for a version: what should have asked the cluster for it has failed" 'bash -s latest' ;;
    latest) ;;
    *)
      version=${version#v}
      [[ $version =~ $version_form ]] || wrong "$version is no version like 1.2.3"
      ;;
  esac
  case $edition in # "edition" is what guides write for the word to fill in
    '') ;;
    oss | enterprise | cloud | edition) say "oss, enterprise and cloud are the same here" ;;
    *) wrong "$edition is not oss, enterprise or cloud" ;;
  esac
  if [ $words != 0 ] && given --upgrade; then wrong '--upgrade goes to the newest version, and takes none'; fi
  if [ $words != 0 ] && [ -n "$here" ]; then wrong 'a checkout installs what it is, and takes no version'; fi
  if given --purge && ! given --uninstall; then wrong '--purge goes with --uninstall'; fi
  if given --keep && ! given --demo; then wrong '--keep goes with --demo'; fi
  if given --demo && [ -z "$here" ]; then wrong '--demo works in a checkout only'; fi
  if [ -z "$join_token" ] && { [ -n "$nodename$join_labels" ] || given --no-start; }; then
    wrong 'this script joins no cluster, and --labels, --nodename and --no-start are for that'
  fi
  if [ -n "$join_token" ] && [ "$(id -u)" != 0 ] && [ -z "${TELEPORT_LITE_CONFIG:-}" ]; then
    die 'only root makes a machine a node' 'the same with: | sudo bash'
  fi
  if given --user && [ -n "$prefix" ]; then wrong '--user and --prefix name two places'; fi
  choose_prefix
  case $prefix in *[![:print:]]* | [!/]* | *//* | */) wrong "--prefix: $prefix is not a plain absolute path" ;; esac
  case $config in /*) ;; *) wrong "TELEPORT_LITE_CONFIG: $config is not an absolute path" ;; esac
  lib=$prefix/lib/teleport-lite
}

main() {
  words=0 version=latest edition='' prefix='' python=${TELEPORT_LITE_PYTHON:-} nodename='' become='' flags='' file='' newer='' os='' release=''
  config=${TELEPORT_LITE_CONFIG:-/etc/teleport-lite.yaml}
  while [ $# -gt 0 ]; do
    case $1 in
      --prefix | --python | --version | --labels | --nodename)
        [ $# -gt 1 ] || wrong "$1 needs a value"
        set -- "$1=$2" "${@:3}"
        ;;
    esac
    case $1 in
      --prefix=*) prefix=${1#*=} ;;
      --python=*) python=${1#*=} ;;
      --labels=*) join_labels+=${join_labels:+,}${1#*=} ;;
      --nodename=*) nodename=${1#*=} ;;
      --user | --upgrade | --uninstall | --purge | --dry-run | --no-systemd | --no-restart | --no-start | --demo | --keep) flags+=" $1 " ;;
      -h | --help) usage; return ;;
      --version=* | [!-]* | '')
        words=$((words + 1))
        case $words in 1) version=${1#--version=} ;; 2) edition=$1 ;; *) wrong "one word too many: $1" ;; esac
        ;;
      *) wrong "unknown option: $1" ;;
    esac
    shift
  done
  check_words
  check_machine
  find_python
  if given --demo; then demo; exit; fi
  case ${TMPDIR:-} in /*) ;; *) TMPDIR=/tmp ;; esac
  # After `su` it may be another's, who could put something else in the place of what was checked.
  [ -O "$TMPDIR" ] || [ -k "$TMPDIR" ] || TMPDIR=/tmp
  trap 'rm -rf -- "$work" 2>/dev/null || as_owner rm -rf -- "$work"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  work=$(mktemp -d "$TMPDIR/teleport-lite.XXXXXXXX")
  if given --uninstall; then uninstall_all; else install_all; fi
}

work=''
main "$@" </dev/null
exit
}
