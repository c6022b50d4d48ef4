# shellcheck shell=bash
# Reaching the instances by SSH.

readonly SSH_PATIENCE_SECONDS=${AWS_SH_SSH_PATIENCE:-300}

# Find both instances. Sets server_id, server_public, server_private, client_id, client_public and client_private.
find_hosts() {
  local instances
  need aws ssh
  instances=$(find_instances "$ALIVE")
  set_host server "$instances"
  set_host client "$instances"
}

set_host() {
  local role=$1 found id state public private
  found=$(instance_with_role "$role" <<< "$2")
  [[ -n $found ]] || die "there is no $role of $NAME in $REGION" "run aws.sh create"
  read -r id _ state _ public private _ <<< "$found"
  [[ $state == running && $public != None ]] || die "the $role $id is $state, with the public address $public" \
    "run aws.sh create, which starts it"
  printf -v "${role}_id" '%s' "$id"
  printf -v "${role}_public" '%s' "$public"
  printf -v "${role}_private" '%s' "$private"
}

# Set ssh_command to what reaches an instance. Its key is kept under its id, as addresses are used again.
set_ssh_command() {
  local id=${1}_id public=${1}_public
  ssh_command=(ssh -i "$KEY_FILE" -p "$SSH_PORT" -o IdentitiesOnly=yes -o "HostKeyAlias=${!id}"
    -o "UserKnownHostsFile=$KEY_FILE.known_hosts" -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR
    -o ConnectTimeout=10 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -l "$SSH_USER" "${!public}")
}

# Run a command on an instance, with these very words. Standard input goes along.
remote() {
  local role=$1
  shift
  set_ssh_command "$role"
  "${ssh_command[@]}" -o BatchMode=yes "$(printf '%q ' "$@")"
}

# Run a script of lib/remote/ on an instance, with arguments.
remote_script() {
  local role=$1 script=$2
  shift 2
  remote "$role" bash -s -- "$@" < "$here/lib/remote/$script"
}

# Wait until SSH works: an instance runs some seconds before that.
wait_for_ssh() {
  local role=$1 public=${1}_public give_up_at=$((SECONDS + SSH_PATIENCE_SECONDS))
  until remote "$role" true < /dev/null 2> "$scratch/ssh-errors"; do
    ((SECONDS < give_up_at)) || die "no SSH to the $role at ${!public}, port $SSH_PORT: $(tail -n 1 "$scratch/ssh-errors")" \
      "run aws.sh create if your address has changed; check SSH_USER, SSH_PORT and KEY_FILE in $config_file"
    sleep 2
  done
}

run_ssh() {
  local role=${1:-}
  [[ $role == server || $role == client ]] || wrong_usage "ssh needs server or client"
  shift
  find_hosts
  set_ssh_command "$role"
  exec "${ssh_command[@]}" ${1:+"$(printf '%q ' "$@")"}
}
