# shellcheck shell=bash
# Messages, the end of the program, and what happens when it is interrupted.

readonly FAILED=1 WRONG_USAGE=2 INTERRUPTED=130

say() { printf '%s\n' "$*"; }

# Print an error and what to do next, a line each, and end.
die() {
  complain "$@"
  exit "$FAILED"
}

complain() {
  printf 'aws.sh: %s\n' "$1" >&2
  shift
  (($# == 0)) || printf '  %s\n' "$@" >&2
}

wrong_usage() {
  complain "$1" "aws.sh --help lists the commands, aws.sh COMMAND --help describes one"
  exit "$WRONG_USAGE"
}

wrong_config() {
  complain "$@"
  exit "$WRONG_USAGE"
}

# End with an error if a program is missing.
need() {
  local program
  for program; do
    command -v "$program" > /dev/null || die "$program is not installed" "$(where_to_get "$program")"
  done
}

where_to_get() {
  case $1 in
    aws) echo "pip install awscli, or follow the installation guide of the AWS CLI" ;;
    docker) echo "install it, or set IMAGE_SOURCE=registry or wheel in $config_file" ;;
    *) echo "install it with your system's package manager" ;;
  esac
}

# Ask a question, unless --yes was given. End if the answer is not yes.
confirm() {
  local answer=
  [[ $assume_yes == no ]] || return 0
  [[ -t 0 ]] || die "$1 needs an answer, and there is no terminal to ask on" "add --yes to answer yes beforehand"
  read -r -p "$1 [y/N] " answer || true
  [[ $answer == [yY] || $answer == [yY][eE][sS] ]] || die "nothing was changed"
}

# Read the options of a command that has none but --yes.
take_yes() {
  local option
  for option; do
    case $option in
      -y | --yes) assume_yes=yes ;;
      *) wrong_usage "$command does not know $option" ;;
    esac
  done
}

take_nothing() {
  (($# == 0)) || wrong_usage "$command does not know $1"
}

# Make the folder for files of this run, and see to it that an early end says what to do.
start_watching() {
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  trap 'was_interrupted' INT TERM HUP
}

was_interrupted() {
  trap '' INT TERM HUP
  complain "interrupted in the middle of $command" "$(what_next)"
  exit "$INTERRUPTED"
}

# What to do after an early end of the command that runs.
what_next() {
  case $command in
    create | teardown) echo "nothing is lost: run $command again to finish it, status to look, teardown to remove everything" ;;
    *) echo "run $command again; the instances still cost money until teardown" ;;
  esac
}
