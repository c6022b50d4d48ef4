#!/usr/bin/env bash
# Install docker on an instance unless it is there, and see that this user may use it.
set -euo pipefail

if ! command -v docker > /dev/null; then
  echo "installing docker"
  # A new instance may still be busy with its own packages.
  if command -v cloud-init > /dev/null; then cloud-init status --wait > /dev/null || true; fi
  if command -v apt-get > /dev/null; then
    sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 update
    sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y docker.io > /dev/null
  elif command -v dnf > /dev/null; then
    sudo dnf -q -y install docker
    sudo systemctl enable --now docker
  else
    echo "neither apt-get nor dnf is here: install docker by hand (aws.sh ssh server)" >&2
    exit 1
  fi
fi

if ! docker info > /dev/null 2>&1; then
  # The next login has the group.
  sudo usermod -aG docker "$(id -un)"
fi
