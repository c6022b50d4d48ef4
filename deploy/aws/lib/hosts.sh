# shellcheck shell=bash
# Reaching the instances by SSH.

readonly SSH_PATIENCE_SECONDS=300

# The instances by their role.
declare -A id_of public_address_of private_address_of

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
  id_of[$role]=$id
  public_address_of[$role]=$public
  private_address_of[$role]=$private
}

# Set ssh_command to what reaches an instance. Its key is kept under its id, as addresses are used again.
set_ssh_command() {
  local role=$1
  ssh_command=(ssh -i "$KEY_FILE" -p "$SSH_PORT" -o IdentitiesOnly=yes -o "HostKeyAlias=${id_of[$role]}"
    -o "UserKnownHostsFile=$KEY_FILE.known_hosts" -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR
    -o ConnectTimeout=10 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -l "$SSH_USER"
    "${public_address_of[$role]}")
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
  local role=$1 announced=no give_up_at=$((SECONDS + SSH_PATIENCE_SECONDS))
  until remote "$role" true < /dev/null 2> "$scratch/ssh-errors"; do
    if [[ $announced == no ]]; then say "waiting for SSH to the $role"; fi
    announced=yes
    ((SECONDS < give_up_at)) || die "no SSH to the $role at ${public_address_of[$role]}, port $SSH_PORT: $(tail -n 1 "$scratch/ssh-errors")" \
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
  "${ssh_command[@]}" "$@" || exit $?
}
