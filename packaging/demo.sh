# shellcheck shell=bash
# The demo of install.sh: an auth service and a node as two processes on loopback, joined by a token
# and a CA pin, and a session of the system's ssh between them. Sourced by install.sh, never run.
# shellcheck disable=SC2154 # file, bold and plain come from there and from needs.sh

PATIENCE=60 # seconds for a thing to happen that takes about one

demo() {
  need_commands ssh:openssh-client
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
  printf '\n'
  say 'that was a real ssh session, with certificates on both sides and nothing trusted on first use'
  [ -z "${keep:-}" ] || demo_kept
}

# Everything lies in one directory, the unpacked program too, so that it can go in one stroke.
demo_files() {
  local name
  export TELEPORT_LITE_ROOT=$dir/program PATH=$dir/bin:$PATH
  mkdir "$dir/bin"
  cp "$file" "$dir/bin/teleport-lite"
  for name in tctl tsh tbot; do ln -s teleport-lite "$dir/bin/$name"; done
  read -r auth_port node_port < <("$PYTHON" -c '
import socket
probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(probe.getsockname()[1] for probe in probes))')
  cat >"$dir/auth.yaml" <<YAML
version: v3
teleport:
  nodename: auth-1
  data_dir: $dir/auth
  storage: {type: sqlite, path: $dir/auth/backend, keyring: $dir/keyring}
auth_service: {enabled: yes, cluster_name: $cluster, listen_addr: "127.0.0.1:$auth_port"}
proxy_service: {enabled: no}
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
  echo "    cd $dir; export TELEPORT_LITE_ROOT=$dir/program PATH=$dir/bin:\$PATH"
  cd "$dir" || exit
}

demo_cluster() {
  local pin
  tell 'the auth service of a new cluster'
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
    sleep 0.1
  done
}

# Ends what was started, by the numbers that were noted, and whatever of it is left by our mark.
demo_stop() {
  local name pid
  for name in node auth; do
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
  echo "    cd $dir; export TELEPORT_LITE_ROOT=$dir/program PATH=$dir/bin:\$PATH"
  echo "    $(quoted "${ssh_words[@]}")"
  echo '    tctl -c auth.yaml --help'
  say "to end it and remove $dir:"
  echo "    bash $dir/stop"
}
