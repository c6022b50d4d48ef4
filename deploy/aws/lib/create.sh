# shellcheck shell=bash
# create: make what is missing.

run_create() {
  local image instances server client group subnet ids=()
  take_yes "$@"
  need aws ssh-keygen curl awk
  say_who
  image=$(cloud ssm get-parameter --name "$AMI_PARAMETER" --query Parameter.Value)
  find_my_address
  instances=$(find_instances "$ALIVE")
  server=$(instance_with_role server <<< "$instances")
  client=$(instance_with_role client <<< "$instances")
  if [[ -z $server || -z $client ]]; then ask_for_the_price; fi
  ensure_key "$instances"
  ensure_group "$server"
  ensure_instance server "$SERVER_TYPE" "$image" "$SUBNET_ID" "$server"
  # The client goes where the server is, since the distance would else be measured too.
  ensure_instance client "$CLIENT_TYPE" "$image" "$subnet" "$client"
  wait_until_running
  say "next: aws.sh deploy"
}

say_who() {
  local identity
  identity=$(cloud sts get-caller-identity --query '[Account,Arn]' | tr '\t' ' ')
  say "account ${identity%% *} as ${identity#* }, region $REGION, deployment $NAME"
}

ask_for_the_price() {
  say "a server and a client cost:"
  say_prices
  confirm "create what is missing of $NAME?"
}

# Set MY_ADDRESS to the address that AWS sees, unless it is configured.
find_my_address() {
  local address
  [[ -z $MY_ADDRESS ]] || return 0
  address=$(curl -fsS --max-time 20 https://checkip.amazonaws.com) ||
    die "this machine's public address can't be found" "set MY_ADDRESS in $config_file, for example 203.0.113.7/32"
  MY_ADDRESS=$address/32
  check_network
}

# The key pair.

ensure_key() {
  local instances=$1 keys stored
  make_key_file
  keys=$(find_keys)
  if grep -qx -- "$KEY_NAME" <<< "$keys"; then
    stored=$(cloud ec2 describe-key-pairs --key-names "$KEY_NAME" --include-public-key --query 'KeyPairs[0].PublicKey')
    if is_our_key "$stored"; then
      say "key pair $KEY_NAME: exists"
      return
    fi
    replace_key "$instances"
  fi
  import_key
  say "key pair $KEY_NAME: made from $KEY_FILE"
}

make_key_file() {
  [[ ! -e $KEY_FILE ]] || return 0
  mkdir -p "$(dirname "$KEY_FILE")"
  ssh-keygen -q -t ed25519 -N '' -C "$KEY_NAME" -f "$KEY_FILE"
  say "key file $KEY_FILE: made"
}

public_key() {
  ssh-keygen -y -P '' -f "$KEY_FILE" ||
    die "$KEY_FILE has no private key without a passphrase" "set KEY_FILE in $config_file to another file"
}

# Compare the kind and the key itself, as the comment differs.
is_our_key() {
  local ours
  ours=$(public_key)
  [[ $(cut -d ' ' -f 1,2 <<< "$1") == "$(cut -d ' ' -f 1,2 <<< "$ours")" ]]
}

# The private key of the pair in AWS is not here. Instances that were made with it can't be reached.
replace_key() {
  [[ -z $1 ]] || die "the instances of $NAME were made with another key than $KEY_FILE" \
    "set KEY_FILE in $config_file to that key, or run teardown, then create"
  cloud_change ec2 delete-key-pair --key-name "$KEY_NAME" > /dev/null
}

import_key() {
  public_key > "$scratch/key.pub"
  cloud_change ec2 import-key-pair --key-name "$KEY_NAME" --public-key-material "fileb://$scratch/key.pub" \
    --tag-specifications "$(tags_of key-pair)" > /dev/null
}

# The security group.

# Make the group unless it exists, and set its rules. Sets group to its id.
ensure_group() {
  local server=$1 found vpc
  found=$(find_group)
  [[ $found != *$'\n'* ]] || die "there are several security groups of $NAME" "run teardown, then create"
  if [[ -n $found ]]; then
    group=${found%%[[:space:]]*}
    say "security group $group: exists"
  else
    [[ -z $server ]] || die "the security group of $NAME is gone" "run teardown, then create"
    vpc=$(find_vpc)
    group=$(make_group "$vpc")
    cloud ec2 wait security-group-exists --group-ids "$group"
    say "security group $group: made"
  fi
  set_rules "$group"
}

find_vpc() {
  local vpc
  if [[ -n $SUBNET_ID ]]; then
    vpc=$(cloud ec2 describe-subnets --subnet-ids "$SUBNET_ID" --query 'Subnets[0].VpcId')
  else
    vpc=$(cloud ec2 describe-vpcs --filters Name=is-default,Values=true --query 'Vpcs[].VpcId')
  fi
  [[ -n $vpc ]] || die "there is no default VPC in $REGION" "set SUBNET_ID in $config_file to a public subnet"
  echo "$vpc"
}

make_group() {
  local vpc=$1
  cloud_change ec2 create-security-group --group-name "$NAME" --vpc-id "$vpc" \
    --description "memcache_kv $NAME: SSH and service ports" --tag-specifications "$(tags_of security-group)" \
    --query GroupId
}

# Print the rules that the group should have: the port and who may use it, an address or the group itself.
wanted_rules() {
  local port
  for port in "$SSH_PORT" "$LINE_PORT" "$MEMCACHED_PORT"; do echo "$port $MY_ADDRESS"; done
  for port in "$LINE_PORT" "$MEMCACHED_PORT"; do echo "$port $1"; done
}

# Make the group's rules those that are wanted, no more and no less.
set_rules() {
  local group=$1 existing wanted id port source missing=() surplus=()
  existing=$(cloud ec2 describe-security-group-rules --filters "Name=group-id,Values=$group" \
    --query 'SecurityGroupRules[?!IsEgress].[SecurityGroupRuleId,FromPort,CidrIpv4||ReferencedGroupInfo.GroupId]' | tr '\t' ' ')
  wanted=$(wanted_rules "$group")
  while read -r port source; do
    grep -q " $port $source\$" <<< "$existing" || missing+=("$(permission "$port" "$source")")
  done <<< "$wanted"
  while read -r id port source; do
    [[ -z $id ]] || grep -qx "$port $source" <<< "$wanted" || surplus+=("$id")
  done <<< "$existing"
  if ((${#missing[@]})); then
    cloud_change ec2 authorize-security-group-ingress --group-id "$group" --ip-permissions "${missing[@]}" > /dev/null
  fi
  if ((${#surplus[@]})); then
    cloud_change ec2 revoke-security-group-ingress --group-id "$group" --security-group-rule-ids "${surplus[@]}" > /dev/null
    say "  rules for other ports or addresses: removed ${#surplus[@]}"
  fi
  say "  open for $MY_ADDRESS: $SSH_PORT $LINE_PORT $MEMCACHED_PORT; for the group: $LINE_PORT $MEMCACHED_PORT"
}

# Print one rule as --ip-permissions takes it.
permission() {
  local port=$1 source=$2
  local from="IpRanges=[{CidrIp=$source}]"
  [[ $source != sg-* ]] || from="UserIdGroupPairs=[{GroupId=$source}]"
  echo "IpProtocol=tcp,FromPort=$port,ToPort=$port,$from"
}

# The instances.

# Make an instance, or start it, unless it runs. Sets subnet to where it is, and adds its id to ids.
ensure_instance() {
  local role=$1 type=$2 image=$3 where=$4 found=$5 id state
  if [[ -z $found ]]; then
    found=$(launch "$role" "$type" "$image" "$where")
    read -r id state subnet <<< "$found"
    say "$role $id: made"
  else
    read -r id _ state _ _ _ subnet _ <<< "$found"
    revive "$role" "$id" "$state"
  fi
  ids+=("$id")
}

revive() {
  local role=$1 id=$2 state=$3
  case $state in
    stopped)
      cloud_change ec2 start-instances --instance-ids "$id" > /dev/null
      say "$role $id: started again"
      ;;
    stopping) die "$role $id is about to stop" "run create again in a minute" ;;
    *) say "$role $id: exists" ;;
  esac
}

# The client token makes AWS answer with the same instance if the same request comes twice, even if the first answer
# was lost. It has the group's id, so that a deployment made anew has tokens of its own.
launch() {
  local role=$1 type=$2 image=$3 where=$4 made
  made=$(cloud_change ec2 run-instances --count 1 --image-id "$image" --instance-type "$type" \
    --client-token "$role-$group" --key-name "$KEY_NAME" --security-group-ids "$group" \
    ${where:+--subnet-id "$where"} --associate-public-ip-address --metadata-options HttpTokens=required \
    --tag-specifications "$(tags_of instance "$role")" "$(tags_of volume "$role")" \
    --query 'Instances[0].[InstanceId,State.Name,SubnetId]' | tr '\t' ' ')
  [[ $made == *" pending "* || $made == *" running "* ]] ||
    die "$role ${made%% *} was terminated by hand" "run teardown, then create"
  printf '%s' "$made"
}

wait_until_running() {
  local instances
  say "waiting until both instances run"
  cloud ec2 wait instance-running --instance-ids "${ids[@]}"
  instances=$(find_instances "$ALIVE")
  say_instances "$instances"
}

say_instances() {
  local id role state type public private
  while read -r id role state type public private _; do
    [[ -z $id ]] || say "$role: $id $type $state, public address $public, private address $private"
  done <<< "$1"
}
