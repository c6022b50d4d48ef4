# docker build -t memcache_kv .
# docker run -p 11211:11211 memcache_kv -m 512
# docker run -p 11211:11211 -v memcache_kv:/data memcache_kv -m 512 --fsync always (a mount at /data turns the journal on)
# docker run -p 11211:11211 -e MEMCACHE_KV_ADMIN_COMMANDS=always memcache_kv (to let clients use flush_all, watch and dumps)
# docs/howto/docker.md says more.
FROM python:3.13 AS build

# This image has a compiler; the next one gets only the environment with the installed packages.
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY memcache_kv ./memcache_kv
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/memcache_kv \
    && pip --python /opt/memcache_kv install --no-cache-dir ".[auth,http,progress]" \
    && /opt/memcache_kv/bin/python -P -c "from memcache_kv.compiled import journal_decoder, journal_encoder, turn"

FROM python:3.13-slim

COPY --from=build /opt/memcache_kv /opt/memcache_kv
RUN groupadd --gid 11211 memcache_kv \
    && useradd --uid 11211 --gid 11211 --no-create-home --shell /usr/sbin/nologin memcache_kv \
    && install -d -o 11211 -g 11211 /data

# The server writes its ports to that file, also with a read-only root, and the health check reads them there.
ENV PATH=/opt/memcache_kv/bin:$PATH \
    MEMCACHE_KV_LISTEN=0.0.0.0 \
    MEMCACHED_PORT_FILENAME=/dev/shm/memcache_kv.ports

# No VOLUME: a volume that nobody asked for would turn the journal on.
WORKDIR /data
USER 11211:11211
EXPOSE 11211 9150
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["memcache-kv", "health"]
ENTRYPOINT ["python", "-P", "-m", "memcache_kv.container"]
