# shellcheck shell=bash
# teardown: remove everything, and verify that it is gone.

readonly GROUP_PATIENCE_SECONDS=120

run_teardown() {
  local instances group keys volumes
  take_yes "$@"
  need aws
  say_who
  find_everything
  if [[ -z $instances$group$keys$volumes ]]; then
    say "nothing to remove"
    return
  fi
  say_everything
  confirm "remove all of it?"
  remove_instances
  remove_volumes
  remove_group
  remove_keys
  verify_that_all_is_gone
}

# Set instances, group, keys and volumes to what exists.
find_everything() {
  instances=$(find_instances "$ALIVE,shutting-down")
  group=$(find_group)
  keys=$(find_keys)
  volumes=$(find_volumes)
}

say_everything() {
  [[ -z $instances ]] || say_instances "$instances"
  [[ -z $volumes ]] || say "volumes: $(cut -f 1 <<< "$volumes" | xargs)"
  [[ -z $group ]] || say "security group: $(cut -f 1 <<< "$group" | xargs)"
  [[ -z $keys ]] || say "key pair: $(xargs <<< "$keys")"
}

remove_instances() {
  local ids=()
  mapfile -t ids < <(cut -d ' ' -f 1 <<< "$instances")
  [[ -n ${ids[0]} ]] || return 0
  cloud_change ec2 terminate-instances --instance-ids "${ids[@]}" > /dev/null
  say "waiting until the instances are terminated"
  cloud ec2 wait instance-terminated --instance-ids "${ids[@]}"
}

# The volumes go with their instances; one that did not is removed here.
remove_volumes() {
  local id
  for id in $(find_volumes | awk '$2 == "available" { print $1 }'); do
    cloud_change ec2 delete-volume --volume-id "$id" > /dev/null
  done
}

# A group can be in use for some seconds after its instances are gone.
remove_group() {
  local id give_up_at=$((SECONDS + GROUP_PATIENCE_SECONDS))
  while read -r id _; do
    [[ -n $id ]] || continue
    until aws --region "$REGION" ec2 delete-security-group --group-id "$id" > /dev/null 2> "$scratch/aws-errors"; do
      if [[ $(< "$scratch/aws-errors") != *DependencyViolation* ]] || ((SECONDS >= give_up_at)); then
        die "the security group $id can't be deleted: $(sed '/^$/d' "$scratch/aws-errors")" "run teardown again in a minute"
      fi
      sleep 5
    done
  done <<< "$group"
}

remove_keys() {
  local name
  for name in $keys; do
    cloud_change ec2 delete-key-pair --key-name "$name" > /dev/null
  done
}

verify_that_all_is_gone() {
  local give_up_at=$((SECONDS + GROUP_PATIENCE_SECONDS))
  find_everything
  while [[ -n $instances$group$keys$volumes ]]; do
    if ((SECONDS >= give_up_at)); then
      say_everything
      die "this is still there" "run teardown again; the AWS console shows it under the tag $TAG=$NAME"
    fi
    sleep 5
    find_everything
  done
  say "everything is gone; $KEY_FILE and the results on this machine stay"
}
