# shellcheck shell=bash
# The configuration: its names, defaults and checks.

readonly CONFIG_NAMES=" REGION NAME SERVER_TYPE CLIENT_TYPE SERVER_PRICE CLIENT_PRICE AMI_PARAMETER SSH_USER KEY_NAME \
KEY_FILE SUBNET_ID MY_ADDRESS IMAGE_SOURCE IMAGE WHEEL LINE_PORT MEMCACHED_PORT SSH_PORT SERVER_OPTIONS "

load_config() {
  local file=$1
  [[ -r $file ]] || wrong_config "there is no configuration at $file" \
    "copy $here/config.sh.example to $here/config.sh, and set REGION there"
  check_names "$file"
  set_defaults
  # shellcheck source=config.sh.example
  source "$file"
  set_derived_defaults
  check_config
}

# Find names that nobody reads: a typing error would else have no effect.
check_names() {
  local file=$1 name
  bash -n "$file" || wrong_config "$file is not valid bash" "mend the line above"
  while read -r name || [[ -n $name ]]; do  # the last line may lack its end
    [[ $CONFIG_NAMES == *" $name "* ]] || wrong_config "$file sets $name, which is no setting" \
      "the settings are:$CONFIG_NAMES"
  done < <(sed -nE 's/^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z_0-9]*)\+?=.*/\2/p' "$file")
}

set_defaults() {
  REGION=
  NAME=memcache-kv
  SERVER_TYPE=c7i.large
  CLIENT_TYPE=c7i.large
  SERVER_PRICE=
  CLIENT_PRICE=
  AMI_PARAMETER=/aws/service/debian/release/13/latest/amd64
  SSH_USER='admin'
  KEY_NAME=
  KEY_FILE=$HOME/.ssh/memcache-kv-aws
  SUBNET_ID=
  MY_ADDRESS=
  IMAGE_SOURCE=local
  IMAGE=memcache_kv
  WHEEL=
  LINE_PORT=7171
  MEMCACHED_PORT=11211
  SSH_PORT=22
  SERVER_OPTIONS=(-m 1024)
}

set_derived_defaults() {
  [[ -n $KEY_NAME ]] || KEY_NAME=$NAME
  readonly REGION NAME SERVER_TYPE CLIENT_TYPE SERVER_PRICE CLIENT_PRICE AMI_PARAMETER SSH_USER KEY_NAME KEY_FILE \
    SUBNET_ID IMAGE_SOURCE IMAGE WHEEL LINE_PORT MEMCACHED_PORT SSH_PORT SERVER_OPTIONS
}

# Hold one setting to a pattern, and say what is allowed.
check_setting() {
  local name=$1 pattern=$2 allowed=$3
  [[ ${!name} =~ ^($pattern)$ ]] || wrong_config "$name=${!name} is not valid in $config_file" "$name is $allowed"
}

check_config() {
  local price='([0-9]+(\.[0-9]+)?)?' type='[a-z0-9-]+\.[a-z0-9-]+' name
  check_setting REGION '[a-z]{2}(-[a-z]+)+-[0-9]' 'the code of a region, such as eu-central-1'
  check_setting NAME '[a-z][a-z0-9-]{0,39}' 'a small letter, and up to 39 small letters, digits and hyphens'
  check_setting SERVER_TYPE "$type" 'an instance type, such as c7i.large'
  check_setting CLIENT_TYPE "$type" 'an instance type, such as c7i.large'
  check_setting SERVER_PRICE "$price" 'a number of US dollars an hour, or empty'
  check_setting CLIENT_PRICE "$price" 'a number of US dollars an hour, or empty'
  check_setting AMI_PARAMETER '/[A-Za-z0-9_./-]+' 'the name of an SSM parameter, such as /aws/service/debian/release/13/latest/amd64'
  check_setting SSH_USER '[a-z_][a-z0-9_-]*' 'the user of the machine image, such as admin, ubuntu or ec2-user'
  check_setting KEY_NAME '[A-Za-z0-9_-]+' 'letters, digits, hyphens and underscores'
  check_setting KEY_FILE '/[^[:space:]]+' 'an absolute path without blanks'
  check_setting SUBNET_ID '(subnet-[0-9a-f]+)?' 'the id of a subnet, or empty'
  check_setting IMAGE_SOURCE 'local|registry|wheel' 'local, registry or wheel'
  check_setting IMAGE '[a-zA-Z0-9][a-zA-Z0-9._/:@-]*' 'the name of an image'
  for name in LINE_PORT MEMCACHED_PORT SSH_PORT; do check_port "$name"; done
  [[ $LINE_PORT != "$MEMCACHED_PORT" && $SSH_PORT != "$LINE_PORT" && $SSH_PORT != "$MEMCACHED_PORT" ]] ||
    wrong_config "two of LINE_PORT, MEMCACHED_PORT and SSH_PORT are the same in $config_file" "give each its own"
  check_network
}

check_port() {
  check_setting "$1" '[1-9][0-9]{0,4}' 'a port, from 1 to 65535'
  ((${!1} <= 65535)) || wrong_config "$1=${!1} is not valid in $config_file" "$1 is a port, from 1 to 65535"
}

# The security group must never be open to everyone.
check_network() {
  [[ -n $MY_ADDRESS ]] || return 0
  check_setting MY_ADDRESS '([0-9]{1,3}\.){3}[0-9]{1,3}/([89]|[12][0-9]|3[0-2])' \
    'an IPv4 network of at least 8 bits, such as 203.0.113.7/32, or empty'
}
