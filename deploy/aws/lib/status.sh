# shellcheck shell=bash
# status: what exists, what it costs, and whether it works.

run_status() {
  local instances group keys volumes
  take_nothing "$@"
  need aws ssh awk
  say_who
  instances=$(find_instances "$ALIVE,shutting-down")
  group=$(find_group)
  keys=$(find_keys)
  volumes=$(find_volumes)
  if [[ -z $instances$group$keys$volumes ]]; then
    say "nothing exists"
    exit "$FAILED"
  fi
  say "key pair: ${keys:-none}"
  say "security group: ${group:-none}" | tr '\t' ' '
  [[ -n $instances ]] || say "instances: none"
  say_instances "$instances"
  say_cost "$instances"
  say_server "$instances"
}

# Say what both instances have cost since they were started.
say_cost() {
  local id type state start hours price role
  while read -r id role state type _ _ _ start; do
    [[ $state == running ]] || continue
    hours=$(hours_since "$start")
    price=$(if [[ $role == server ]]; then price_of "$type" "$SERVER_PRICE"; else price_of "$type" "$CLIENT_PRICE"; fi)
    say "$role: up $hours hours${price:+, about \$$(times "$hours" "${price%% *}") so far at \$${price%% *} an hour, ${price#* }}"
  done <<< "$1"
}

# GNU's date has -d, and BSD's has -j -f.
hours_since() {
  local start now
  start=$(date -u -d "$1" +%s 2> /dev/null || date -u -j -f %Y-%m-%dT%H:%M:%S "${1%%[.+Z]*}" +%s)
  now=$(date +%s)
  awk 'BEGIN { printf "%.1f", (ARGV[1] - ARGV[2]) / 3600 }' "$now" "$start"
}

# Say whether the container runs and the server answers; end with status 1 if not.
say_server() {
  local count
  count=$(awk '$3 == "running"' <<< "$1" | wc -l)
  ((count == 2)) || { say "not everything runs: aws.sh create makes what is missing, teardown removes the rest"; exit "$FAILED"; }
  find_hosts
  if ! remote server true < /dev/null 2> "$scratch/ssh-errors"; then
    say "no SSH to the server: $(tail -n 1 "$scratch/ssh-errors"); run aws.sh create if your address has changed"
    exit "$FAILED"
  fi
  say "container: $(container_state)"
  server_health 2> /dev/null || { say "the server does not answer: run aws.sh deploy"; exit "$FAILED"; }
}
