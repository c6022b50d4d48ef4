# shellcheck shell=bash
# Calls of the AWS command line, and finding what belongs to this deployment.

readonly TAG=memcache-kv-deployment ROLE_TAG=memcache-kv-role

# Call the AWS command line in the region of the configuration. Explain an error, and end.
cloud() {
  local status=0
  aws --region "$REGION" --output text "$@" 2> "$scratch/aws-errors" || status=$?
  ((status)) || return 0
  ((status != INTERRUPTED)) || exit "$INTERRUPTED"
  complain "aws $1 $2 failed: $(sed '/^$/d' "$scratch/aws-errors" | tail -n 3)" "$(cause_of "$scratch/aws-errors")"
  exit "$FAILED"
}

# The same for a call that changes something. Ctrl-C waits until it is done, so that its outcome is known.
cloud_change() {
  (
    trap '' INT
    cloud "$@"
  )
}

# Say what to do about an error of the AWS command line.
cause_of() {
  case $(< "$1") in
    *"Unable to locate credentials"* | *"could not be found"*profile* | *"config profile"*)
      echo "there are no credentials: run aws configure, or set AWS_PROFILE" ;;
    *ExpiredToken* | *"Token has expired"* | *RequestExpired*)
      echo "the credentials have expired: log in again (aws sso login), or check this machine's clock" ;;
    *InvalidClientTokenId* | *AuthFailure* | *SignatureDoesNotMatch* | *UnrecognizedClient*)
      echo "AWS does not accept the credentials: check aws sts get-caller-identity and AWS_PROFILE" ;;
    *UnauthorizedOperation* | *AccessDenied*)
      echo "the user lacks a permission: docs/howto/aws.md lists those that are needed" ;;
    *"Could not connect to the endpoint"* | *EndpointConnectionError* | *"Could not resolve"*)
      echo "check REGION in $config_file, and the network" ;;
    *ParameterNotFound*)
      echo "AMI_PARAMETER in $config_file does not exist in $REGION: config.sh.example has names that do" ;;
    *VcpuLimitExceeded*)
      echo "the account may run no more instances of this kind: raise the quota, or choose a smaller type" ;;
    *InsufficientInstanceCapacity* | *Unsupported*)
      echo "this type can't be had there now: choose another type or another SUBNET_ID in $config_file" ;;
    *OptInRequired* | *PendingVerification*)
      echo "the account is not ready for EC2 in $REGION: look into the AWS console" ;;
    *InvalidSubnetID*)
      echo "SUBNET_ID in $config_file does not exist in $REGION" ;;
    *InvalidGroup.Duplicate*)
      echo "a security group $NAME is there that is not part of this deployment: set another NAME in $config_file" ;;
    *InvalidKeyPair.Duplicate*)
      echo "a key pair $KEY_NAME is there that is not part of this deployment: set another KEY_NAME in $config_file" ;;
    *IdempotentParameterMismatch*)
      echo "an earlier try with other settings is remembered: run teardown, then create" ;;
    *) what_next ;;
  esac
}

# Print the tags of a new thing, for --tag-specifications.
tags_of() {
  local kind=$1 role=${2:-}
  local name=$NAME${role:+-$role}
  echo "ResourceType=$kind,Tags=[{Key=$TAG,Value=$NAME},{Key=Name,Value=$name}${role:+,{Key=$ROLE_TAG,Value=$role\}}]"
}

# Find our things. Each prints a line for one thing, or nothing.

readonly ALIVE=pending,running,stopping,stopped

find_group() {
  cloud ec2 describe-security-groups --filters "Name=tag:$TAG,Values=$NAME" --query 'SecurityGroups[].[GroupId,VpcId]'
}

find_keys() {
  cloud ec2 describe-key-pairs --filters "Name=tag:$TAG,Values=$NAME" --query 'KeyPairs[].[KeyName]'
}

find_volumes() {
  cloud ec2 describe-volumes --filters "Name=tag:$TAG,Values=$NAME" --query 'Volumes[].[VolumeId,State]'
}

# Print the instances in some states: id, role, state, type, public and private address, subnet, start, separated by blanks.
find_instances() {
  local states=$1
  cloud ec2 describe-instances --filters "Name=tag:$TAG,Values=$NAME" "Name=instance-state-name,Values=$states" \
    --query "Reservations[].Instances[].[InstanceId, Tags[?Key=='$ROLE_TAG'].Value | [0], State.Name, InstanceType, \
PublicIpAddress, PrivateIpAddress, SubnetId, LaunchTime]" | tr '\t' ' '
}

# Print the one instance with a role among the lines of find_instances; end if there are several.
instance_with_role() {
  local role=$1 found
  found=$(awk -v role="$role" '$2 == role')
  [[ $found != *$'\n'* ]] || die "there are several instances with the role $role" "teardown removes all of them"
  printf '%s' "$found"
}
