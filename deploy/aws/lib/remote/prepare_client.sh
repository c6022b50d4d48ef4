#!/usr/bin/env bash
# Make ~/memcache-kv on the client, with a Python that has these packages.
set -euo pipefail

mkdir -p memcache-kv/results
cd memcache-kv
if ! python3 -c 'import ensurepip' 2> /dev/null; then
  if ! command -v apt-get > /dev/null; then
    echo "apt-get is not here: set AMI_PARAMETER to an image of Debian or Ubuntu" >&2
    exit 1
  fi
  echo "installing python3-venv"
  if command -v cloud-init > /dev/null; then cloud-init status --wait > /dev/null || true; fi
  sudo apt-get -qq -o DPkg::Lock::Timeout=300 update
  # The compiler is for processors that hdrhistogram has no wheel for.
  sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y python3-venv python3-dev gcc > /dev/null
fi
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "the client has $(python3 --version), and the load tester needs 3.11: set AMI_PARAMETER to a newer system" >&2
  exit 1
fi
[[ -e .venv/bin/pip ]] || python3 -m venv --clear .venv
.venv/bin/python -m pip install -q --disable-pip-version-check "$@"
