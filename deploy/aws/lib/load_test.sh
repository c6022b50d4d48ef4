# shellcheck shell=bash
# test: send the load from the client. results: copy what it found.

# The packages of the extra `load` in pyproject.toml.
readonly LOAD_PACKAGES=("hdrhistogram>=0.10" "rich>=13")
readonly LOAD=(--connections 100 --requests 1000 --ratio 0.5 --key-size 16 --value-size 64 --ttl 0)
readonly MISSED=1

run_test() {
  local run passed=yes
  need tar
  find_hosts
  wait_for_ssh server
  server_health > /dev/null 2>&1 || die "the server does not answer" "run aws.sh deploy"
  wait_for_ssh client
  say "client ${id_of[client]}: preparing the load tester"
  prepare_client
  run=results/$(date -u +%Y%m%dT%H%M%SZ)
  remote client mkdir -p "memcache-kv/$run" < /dev/null
  describe_run | remote client tee "memcache-kv/$run/about.txt"
  measure line "$LINE_PORT" "$run" "$@" || passed=no
  measure text "$MEMCACHED_PORT" "$run" "$@" || passed=no
  fetch_results "$(results_folder)"
  [[ $passed == yes ]] || die "a target was missed" "the pages in $(results_folder)/${run#*/} show where the time went"
  say "all targets are met"
}

prepare_client() {
  remote_script client prepare_client.sh "${LOAD_PACKAGES[@]}" || die "the client could not be prepared" \
    "see the lines above, then run test again"
  tar -C "$repository" -cz --exclude=__pycache__ clients | remote client tar -xz -C memcache-kv
}

# Say what is measured on what, for the folder of the results.
describe_run() {
  echo "region: $REGION"
  echo "server: $SERVER_TYPE, $(remote server uname -srm < /dev/null)"
  echo "client: $CLIENT_TYPE, $(remote client uname -srm < /dev/null)"
  echo "image: $IMAGE_SOURCE, $(remote server docker exec "$CONTAINER" memcache-kv --version < /dev/null | tail -n 1)"
  echo "server options: ${SERVER_OPTIONS[*]}"
}

# Run the load tester. Fails if a target is missed; ends if the server can't be reached.
measure() {
  local protocol=$1 port=$2 run=$3 status=0
  shift 3
  say "client ${id_of[client]}: $protocol protocol, port $port"
  remote client env -C memcache-kv .venv/bin/python -m clients.load_test \
    --host "${private_address_of[server]}" --port "$port" --protocol "$protocol" "${LOAD[@]}" \
    --output "$run/$protocol.json" --html "$run/$protocol.html" "$@" < /dev/null || status=$?
  ((status <= MISSED)) || die "the load test ended with status $status" \
    "see the lines above; aws.sh status shows whether the server answers"
  return "$status"
}

# The results are beside the configuration.
results_folder() { echo "$(cd "$(dirname "$config_file")" && pwd)/results/$NAME"; }

run_results() {
  (($# <= 1)) || wrong_usage "results takes one folder"
  need tar
  find_hosts
  wait_for_ssh client
  fetch_results "${1:-$(results_folder)}"
}

fetch_results() {
  local folder=$1 found
  found=$(remote client ls -1 memcache-kv/results < /dev/null 2> /dev/null) || true
  [[ -n $found ]] || die "there are no results on the client yet" "run aws.sh test"
  mkdir -p "$folder"
  remote client tar -cz -C memcache-kv/results . < /dev/null | tar -xz -C "$folder"
  say "results of all runs: $folder; the last is $(tail -n 1 <<< "$found")"
}
