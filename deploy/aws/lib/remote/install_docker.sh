#!/usr/bin/env bash
# Install docker on an instance unless it is there, and see that this user may use it.
set -euo pipefail

if ! command -v docker > /dev/null; then
  if ! command -v apt-get > /dev/null; then
    echo "apt-get is not here: set AMI_PARAMETER to an image of Debian or Ubuntu, or install docker by hand" >&2
    exit 1
  fi
  echo "installing docker"
  # A new instance may still be busy with its own packages.
  if command -v cloud-init > /dev/null; then cloud-init status --wait > /dev/null || true; fi
  sudo apt-get -qq -o DPkg::Lock::Timeout=300 update
  sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y docker.io > /dev/null
fi

if ! docker info > /dev/null 2>&1; then
  sudo usermod -aG docker "$(id -un)" # the next login has the group
fi
