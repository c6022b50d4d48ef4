# shellcheck shell=bash
# deploy: bring the image to the server and run it there.

readonly CONTAINER=memcache-kv IMAGE_OF_WHEEL=memcache-kv-of-wheel

run_deploy() {
  local image version
  take_nothing "$@"
  check_image_source
  find_hosts
  wait_for_ssh server
  say "server ${id_of[server]}: looking for docker"
  remote_script server install_docker.sh
  bring_image
  version=$(remote server docker run --rm "$image" --version < /dev/null | tail -n 1) ||
    die "the image $image does not run on the server" \
      "is it made for the instance's processor? The machine is: $(remote server uname -m < /dev/null)"
  say "server ${id_of[server]}: starting $version"
  start_container
  wait_until_healthy
  say "the server answers on ports $LINE_PORT (line protocol) and $MEMCACHED_PORT (memcached), private address ${private_address_of[server]}"
  say "next: aws.sh test"
}

# See that there is an image before an instance waits for it.
check_image_source() {
  case $IMAGE_SOURCE in
    local)
      need docker
      docker image inspect "$IMAGE" > /dev/null 2>&1 ||
        die "docker has no image $IMAGE on this machine" "make it: docker build -t $IMAGE $repository"
      ;;
    wheel)
      [[ -r $WHEEL ]] || die "WHEEL=$WHEEL in $config_file can't be read" "make one: make dist"
      [[ ${WHEEL##*/} =~ ^memcache_kv-.*-(cp3([0-9]+)-cp.*|py3-none-any)\.whl$ ]] ||
        die "$WHEEL is no wheel of memcache_kv" "make one: make dist"
      ;;
  esac
}

# Bring the image to the server. Sets image to its name there.
bring_image() {
  image=$IMAGE
  say "server ${id_of[server]}: bringing the image ($IMAGE_SOURCE)"
  case $IMAGE_SOURCE in
    local) docker save "$IMAGE" | gzip -1 | remote server docker load ;;
    registry) remote server docker pull "$IMAGE" < /dev/null ;;
    wheel)
      image=$IMAGE_OF_WHEEL
      context_of_wheel | remote server docker build --quiet -t "$image" -
      ;;
  esac || die "the image did not arrive on the server" "see the lines above, then run deploy again"
}

# Write what docker build needs, as a tar file: the wheel, and a Dockerfile for the Python that it was compiled for.
context_of_wheel() {
  local python=3.13 name=${WHEEL##*/}
  [[ ! $name =~ -cp3([0-9]+)- ]] || python=3.${BASH_REMATCH[1]}
  cat > "$scratch/Dockerfile" << END
FROM python:$python-slim
COPY $name /
RUN pip install --no-cache-dir "/${name}[auth,http,progress]" && install -d -o 11211 -g 11211 /data
ENV MEMCACHE_KV_LISTEN=0.0.0.0
USER 11211:11211
ENTRYPOINT ["memcache-kv"]
END
  tar -cz -C "$scratch" Dockerfile -C "$(cd "$(dirname "$WHEEL")" && pwd)" "$name"
}

# The network of the host: docker's own would cost each request time. Replacing the container lets it write its journal.
start_container() {
  local options=(--network host --restart unless-stopped --ulimit nofile=65536 --log-opt max-size=10m)
  [[ " ${SERVER_OPTIONS[*]} " != *" --journal "* ]] || options+=(-v "$CONTAINER:/data")
  remote_script server replace_container.sh "$CONTAINER" "${options[@]}" "$image" \
    -p "$MEMCACHED_PORT" --line-listen "0.0.0.0:$LINE_PORT" "${SERVER_OPTIONS[@]}" ||
    die "the container did not start" "see the lines above; check SERVER_OPTIONS in $config_file"
}

wait_until_healthy() {
  local give_up_at=$((SECONDS + SSH_PATIENCE_SECONDS))
  until server_health > /dev/null 2>&1; do
    if ((SECONDS >= give_up_at)) || [[ $(container_state) != running ]]; then
      remote server docker logs --tail 20 "$CONTAINER" < /dev/null >&2 || true
      die "the server does not answer" "its log is above; check SERVER_OPTIONS in $config_file"
    fi
    sleep 1
  done
}

# Ask the server in the container whether it answers.
server_health() {
  remote server docker exec "$CONTAINER" memcache-kv health --address "127.0.0.1:$MEMCACHED_PORT" < /dev/null
}

container_state() {
  remote server docker inspect -f '{{.State.Status}}' "$CONTAINER" < /dev/null 2> /dev/null || echo missing
}
