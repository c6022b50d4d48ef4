#!/usr/bin/env bash
# Stop a container of this name if there is one, and start it anew: replace_container.sh NAME DOCKER-OPTIONS…
set -euo pipefail

name=$1
shift
if docker inspect "$name" > /dev/null 2>&1; then
  docker stop -t 60 "$name" > /dev/null
  docker rm "$name" > /dev/null
fi
docker run -d --name "$name" "$@" > /dev/null
