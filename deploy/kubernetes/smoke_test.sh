#!/usr/bin/env bash
# Checks nodes in a cluster from outside: that their probes answer, that they have metrics, and that they store a value.
#
#   deploy/kubernetes/smoke_test.sh [-n NAMESPACE] [-l SELECTOR] [-w WORKLOAD] [--restart]
#
# With --restart, which is for nodes with a journal, it also deletes a pod and reads a value back that was stored before.
# It needs kubectl and curl, and the rights to forward ports, to exec and to delete pods. Nodes that ask for a login or for
# TLS are beyond it.
set -euo pipefail

namespace=default
selector=app.kubernetes.io/name=memcache-kv
workload=statefulset/memcache-kv
restart=
while [ $# -gt 0 ]; do
  case $1 in
    -n) namespace=$2; shift ;;
    -l) selector=$2; shift ;;
    -w) workload=$2; shift ;;
    --restart) restart=yes ;;
    *) echo "smoke_test.sh: unknown argument $1" >&2; exit 2 ;;
  esac
  shift
done

folder=$(mktemp -d)
forwarding=
stop_forwarding() {
  if [ -n "$forwarding" ]; then
    kill "$forwarding" 2> /dev/null || true
    wait "$forwarding" 2> /dev/null || true
    forwarding=
  fi
}
trap 'stop_forwarding; rm -rf "$folder"' EXIT

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

kube() { kubectl --namespace "$namespace" "$@"; }

# Set memcached_port and admin_port to ports of this machine that lead to a pod.
forward() {
  stop_forwarding
  : > "$folder/ports"
  kube port-forward "$1" :11211 :9150 > "$folder/ports" 2> "$folder/errors" &
  forwarding=$!
  for _ in $(seq 100); do
    memcached_port=$(sed -n 's/^Forwarding from 127\.0\.0\.1:\([0-9]*\) -> 11211$/\1/p' "$folder/ports")
    admin_port=$(sed -n 's/^Forwarding from 127\.0\.0\.1:\([0-9]*\) -> 9150$/\1/p' "$folder/ports")
    if [ -n "$memcached_port" ] && [ -n "$admin_port" ]; then return; fi
    kill -0 "$forwarding" 2> /dev/null || break
    sleep 0.1
  done
  fail "can't forward ports to $1: $(cat "$folder/errors")"
}

# Send lines to the node, and print what it answers until it closes the connection.
ask() {
  exec 3<> "/dev/tcp/127.0.0.1/$memcached_port"
  printf '%s\r\n' "$@" quit >&3
  timeout 10 cat <&3 | tr -d '\r'
  exec 3>&-
}

fetch() { curl --silent --show-error --fail --max-time 10 "http://127.0.0.1:$admin_port$1"; }

expect() {
  [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}

check_pod() {
  forward "$1"
  fetch /livez > /dev/null || fail "$1: /livez"
  fetch /readyz > /dev/null || fail "$1: /readyz"
  fetch /metrics > "$folder/metrics" || fail "$1: /metrics"
  grep -q '^memcached_up 1$' "$folder/metrics" || fail "$1: /metrics does not say that the node is up"
  expect "$1: set" STORED "$(ask 'set smoke-test 0 60 5' hello)"
  expect "$1: get" "VALUE smoke-test 0 5 hello END" "$(ask 'get smoke-test' | xargs)"
  expect "$1: delete" DELETED "$(ask 'delete smoke-test')"
  expect "$1: a deleted key" END "$(ask 'get smoke-test')"
  kube exec "$1" -c memcache-kv -- memcache-kv health > /dev/null || fail "$1: memcache-kv health"
  echo "ok: $1"
}

check_restart() {
  forward "$1"
  expect "$1: set" STORED "$(ask 'set smoke-test-kept 0 600 4' kept)"
  stop_forwarding
  kube delete "$1" --wait=true > /dev/null
  for _ in $(seq 180); do  # the next pod of the name may not be there yet
    if kube wait --for=condition=Ready "$1" --timeout=60s > /dev/null 2>&1; then break; fi
    sleep 1
  done
  forward "$1"
  expect "$1: get after a restart" "VALUE smoke-test-kept 0 4 kept END" "$(ask 'get smoke-test-kept' | xargs)"
  expect "$1: delete" DELETED "$(ask 'delete smoke-test-kept')"
  echo "ok: $1 kept a value when it was replaced"
}

kube rollout status "$workload" --timeout=180s > /dev/null || fail "$workload is not ready"
pods=$(kube get pods --selector "$selector" --output name)
[ -n "$pods" ] || fail "no pod has the labels $selector"
for pod in $pods; do check_pod "$pod"; done
if [ -n "$restart" ]; then check_restart "${pods%%$'\n'*}"; fi
echo "all is well"
