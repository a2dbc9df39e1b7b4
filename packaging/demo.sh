# shellcheck shell=bash
# What install.sh does in a checkout only. Sourced by it, never run.
# shellcheck disable=SC2034,SC2154 # version is for there; here, python, bold and plain are from there

# shellcheck source=packaging/needs.sh
. "$here/packaging/needs.sh"

PATIENCE=60 # seconds for a thing to happen that takes about one

# Sets file and version.
build() {
  say "building the single file with $("$python" --version)"
  "$python" "$here/packaging/build.py"
  file=$here/dist/teleport-lite.pyz
  { read -r _ && read -r _ _ version _; } <"$file" # its second line: "# teleport-lite 1.2.3 (build ..."
}

# The demo: auth and proxy, a node that listens and one that only dials out, as three processes on
# loopback; and sessions of the system's ssh to both.
demo() {
  need_commands ssh:openssh-client curl:curl
  build
  cluster=demo.example node=node-1 login=$(id -un)
  dir=$(mktemp -d "${TMPDIR:-/tmp}/teleport-lite-demo.XXXXXXXX")
  trap demo_over EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  demo_files
  demo_cluster
  demo_session
  demo_tunnel
  demo_login
  printf '\n'
  say 'those were real ssh sessions, with certificates on both sides and nothing trusted on first use'
  if given --keep; then demo_kept; fi
}

# Everything lies in one directory, the unpacked program too, so that it can go in one stroke.
demo_files() {
  local name
  export TELEPORT_LITE_ROOT=$dir/program PATH=$dir/bin:$PATH
  mkdir "$dir/bin"
  cp "$file" "$dir/bin/teleport-lite"
  for name in tctl tsh tbot; do ln -s teleport-lite "$dir/bin/$name"; done
  export TELEPORT_HOME=$dir/tsh
  read -r auth_port node_port web_port < <("$python" -c '
import socket
probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(probe.getsockname()[1] for probe in probes))')
  cat >"$dir/auth.yaml" <<YAML
version: v3
teleport:
  nodename: auth-1
  data_dir: $dir/auth
  storage: {type: sqlite, path: $dir/auth/backend, keyring: $dir/keyring}
auth_service: {enabled: yes, cluster_name: $cluster, listen_addr: "127.0.0.1:$auth_port"}
proxy_service: {web_listen_addr: "127.0.0.1:$web_port", public_addr: "127.0.0.1:$web_port"}
ssh_service: {enabled: no}
YAML
  cat >"$dir/node.yaml" <<YAML
version: v3
teleport:
  nodename: $node
  data_dir: $dir/node
auth_service: {enabled: no}
proxy_service: {enabled: no}
ssh_service: {enabled: yes, listen_addr: "127.0.0.1:$node_port", labels: {env: demo}}
YAML
  say "a throw-away cluster in $dir; to repeat what follows in another terminal (with --keep), first:"
  echo "    cd $dir; export TELEPORT_LITE_ROOT=$dir/program TELEPORT_HOME=$dir/tsh PATH=$dir/bin:\$PATH"
  cd "$dir" || exit
}

demo_cluster() {
  tell 'auth and proxy of a new cluster'
  start auth teleport-lite start -c auth.yaml
  until_true 'the auth service answers' auth tctl -c auth.yaml status
  run tctl -c auth.yaml status

  tell 'a token for a node, kept in a file so that no list of processes shows it'
  show "tctl -c auth.yaml tokens add --type=node --ttl=5m | grep -oP '(?<=token:\s).*' > token.file"
  (umask 077 && tctl -c auth.yaml tokens add --type=node --ttl=5m | grep -oP '(?<=token:\s).*' >token.file)
  [ -s token.file ] || die 'tctl tokens add printed no token'

  tell 'a second process joins with it, and with the CA pin, by which it knows the right auth service'
  pin=$(tctl -c auth.yaml status | grep -oE 'sha256:[0-9a-f]{64}')
  start node teleport-lite start -c node.yaml --roles=node "--token=$dir/token.file" \
    "--ca-pin=$pin" "--auth-server=127.0.0.1:$auth_port"
  until_true 'the node is in the cluster' node listed
  run tctl -c auth.yaml nodes ls
}

listed() { tctl -c auth.yaml nodes ls | grep "^$node "; }

demo_session() {
  tell "a user who may log in as $login, and a certificate that says so for an hour"
  run tctl -c auth.yaml users add alice --roles=access "--logins=$login"
  run tctl -c auth.yaml auth sign --user=alice --format=openssh --out=alice --ttl=1h

  tell 'the host CA: the one line that makes ssh trust every host of the cluster, and no other'
  show 'tctl -c auth.yaml auth export --type=host > known_hosts'
  tctl -c auth.yaml auth export --type=host >known_hosts
  cat known_hosts

  tell 'a session on a terminal, by the ssh of this system'
  ssh_words=(ssh -F none -i alice -o IdentitiesOnly=yes -o UserKnownHostsFile=known_hosts \
    -o GlobalKnownHostsFile=none -o StrictHostKeyChecking=yes -o "HostKeyAlias=$node.$cluster" \
    -p "$node_port" "$login@127.0.0.1")
  # shellcheck disable=SC2016 # the far end is to expand these
  run "${ssh_words[@]}" -tt 'echo "hello from $(tty), as $(id -un), shell $SHELL"' | tee session.out || true
  if ! grep -q "hello from /dev/pts/.*, as $login," session.out; then
    tail -n 30 auth.log node.log >&2
    die 'ssh got no session'
  fi
}

demo_tunnel() {
  tell 'a third process joins through the proxy, as from behind a NAT: it listens nowhere'
  start far teleport-lite start --roles=node --nodename=far --data-dir=far \
    "--token=$dir/token.file" "--ca-pin=$pin" "--proxy=127.0.0.1:$web_port"
  until_true 'the far node has a tunnel' far tunnelled
  run tctl -c auth.yaml nodes ls
}

tunnelled() { grep -q 'reached through' far.log; }

demo_login() {
  local page password
  tell 'bob gets a link and sets his password on the page behind it (here by curl)'
  run tctl -c auth.yaml users add bob --roles=access "--logins=$login" | tee invite.out
  page=$(grep -oE 'https://[^ ]+/web/invite/[0-9a-f]+' invite.out)
  password=$("$python" -c 'import secrets; print(secrets.token_urlsafe(12))')
  (umask 077 && printf '%s\n' "$password" >password.file)
  show "curl -k --data-urlencode password@password.file ... $page"
  # One line, as a page would send it; the file keeps it out of the list of processes.
  printf '%s' "$password" | curl -fsSk -o page.html --data-urlencode password@- --data-urlencode \
    "again@"<(printf '%s' "$password") "$page" || die 'the page took no password'

  tell 'he logs in; the password stays in his terminal, the proxy and the wire never see it'
  show "tsh login --proxy=127.0.0.1:$web_port --user=bob --ca-pin=$pin < password.file"
  tsh login "--proxy=127.0.0.1:$web_port" --user=bob "--ca-pin=$pin" <password.file
  run tsh ls

  tell 'a session down the tunnel, and one by plain ssh with what tsh config prints'
  # shellcheck disable=SC2016 # the far end is to expand these
  run tsh ssh "$login@far" 'echo "far says hello to $SSH_TELEPORT_USER"' | tee far.out || true
  show 'tsh config > ssh_config'
  tsh config >ssh_config
  # shellcheck disable=SC2016
  run ssh -F ssh_config "$login@far.$cluster" 'echo "and once more to $SSH_TELEPORT_USER"' | tee -a far.out || true
  if [ "$(grep -c 'to bob' far.out)" != 2 ]; then
    tail -n 30 auth.log far.log >&2
    die 'no session through the proxy'
  fi
}

# Words that a person reads, and commands as one types them.
tell() { printf '\n%s# %s%s\n' "$bold" "$1" "$plain"; }
show() { printf '$ %s\n' "$1"; }

quoted() {
  local word line=''
  for word; do
    case $word in
      *[!A-Za-z0-9_./:=,@%+-]*) line+=" '$word'" ;;
      *) line+=" $word" ;;
    esac
  done
  printf '%s' "${line# }"
}

run() {
  show "$(quoted "$@")"
  "$@"
}

# start NAME COMMAND...: in the background, in a process group of its own, with a log.
start() {
  local name=$1
  shift
  show "$(quoted "$@") &"
  set -m
  "$@" >"$name.log" 2>&1 </dev/null &
  set +m
  echo $! >"$name.pid"
}

# until_true WHAT NAME COMMAND...: until the command succeeds; fails when NAME has ended or time is up.
until_true() {
  local what=$1 name=$2 deadline=$((SECONDS + PATIENCE))
  shift 2
  until "$@" >/dev/null 2>last.err; do
    if ! alive "$(cat "$name.pid")"; then
      tail -n 30 "$name.log" >&2
      die "$name has ended before this was so: $what"
    elif [ $SECONDS -ge $deadline ]; then
      tail -n 30 "$name.log" last.err >&2
      die "not so after $PATIENCE s: $what"
    fi
    sleep 0.3
  done
}

# Ends what was started, by the numbers that were noted, and whatever of it is left by our mark.
demo_stop() {
  local name pid
  for name in far node auth; do
    [ ! -s "$dir/$name.pid" ] || end "$(cat "$dir/$name.pid")"
  done
  for pid in $(marked); do end "$pid"; done
}

end() {
  local tries=0
  kill -TERM "$1" 2>/dev/null || return 0
  while alive "$1" && [ $tries -lt 200 ]; do
    tries=$((tries + 1))
    [ $tries -ne 100 ] || kill -KILL "$1" 2>/dev/null || true
    sleep 0.05
  done
}

# A zombie has ended, even if nobody has asked for its exit code (as in a container without an init).
alive() { [ -e "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

# Numbers of processes that run the program of this demo, whose directory no other process names.
marked() {
  local environ pid
  for environ in /proc/[0-9]*/environ; do
    pid=${environ#/proc/} pid=${pid%/environ}
    if grep -qzxF "TELEPORT_LITE_ROOT=$dir/program" "$environ" 2>/dev/null &&
      grep -qzF "$dir/bin/" "/proc/$pid/cmdline" 2>/dev/null; then
      echo "$pid"
    fi
  done
}

demo_over() {
  local code=$?
  trap - EXIT HUP INT TERM
  [ ! -e "$dir/keep" ] || return
  demo_stop
  cd /
  rm -rf "$dir"
  say "the cluster is stopped and $dir is gone"
  exit "$code"
}

demo_kept() {
  touch "$dir/keep"
  {
    echo '#!/usr/bin/env bash'
    echo '# Ends the demo and removes its directory, this file with it.'
    printf 'dir=%q\n' "$dir"
    declare -f demo_stop end alive marked
    # shellcheck disable=SC2016 # it is expanded there
    echo 'demo_stop; cd /; rm -rf "$dir"'
  } >"$dir/stop"
  say 'it goes on running. To use it:'
  echo "    cd $dir; export TELEPORT_LITE_ROOT=$dir/program TELEPORT_HOME=$dir/tsh PATH=$dir/bin:\$PATH"
  echo "    tsh ssh $login@far"
  echo "    $(quoted "${ssh_words[@]}")"
  echo '    tctl -c auth.yaml --help'
  say "to end it and remove $dir:"
  echo "    bash $dir/stop"
}
