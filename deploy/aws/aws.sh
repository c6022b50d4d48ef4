#!/usr/bin/env bash
# Run memcache_kv on AWS for a load test: a server and a client instance, made, used and removed by one program.
# docs/howto/aws.md describes it.
set -euo pipefail
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "aws.sh needs bash 4.4 or newer, and this is $BASH_VERSION. On macOS: brew install bash" >&2
  exit 2
fi
shopt -s inherit_errexit

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
readonly here repository

# shellcheck source=lib/common.sh
source "$here/lib/common.sh"
# shellcheck source=lib/help.sh
source "$here/lib/help.sh"
# shellcheck source=lib/config.sh
source "$here/lib/config.sh"
# shellcheck source=lib/cloud.sh
source "$here/lib/cloud.sh"
# shellcheck source=lib/prices.sh
source "$here/lib/prices.sh"
# shellcheck source=lib/create.sh
source "$here/lib/create.sh"
# shellcheck source=lib/hosts.sh
source "$here/lib/hosts.sh"
# shellcheck source=lib/deploy.sh
source "$here/lib/deploy.sh"
# shellcheck source=lib/load_test.sh
source "$here/lib/load_test.sh"
# shellcheck source=lib/status.sh
source "$here/lib/status.sh"
# shellcheck source=lib/teardown.sh
source "$here/lib/teardown.sh"

config_file=$here/config.sh
assume_yes=no
command=

# Read what stands before the command.
while (($#)); do
  case $1 in
    --config)
      (($# >= 2)) || wrong_usage "--config needs a file"
      config_file=$2
      shift 2
      ;;
    -h | --help)
      show_help
      exit 0
      ;;
    -*) wrong_usage "unknown option $1" ;;
    *)
      command=$1
      shift
      break
      ;;
  esac
done

case $command in
  create | deploy | test | status | ssh | results | teardown) ;;
  "") wrong_usage "no command" ;;
  *) wrong_usage "unknown command $command" ;;
esac
case ${1:-} in
  -h | --help)
    "help_$command"
    exit 0
    ;;
esac

start_watching
load_config "$config_file"
"run_$command" "$@"
