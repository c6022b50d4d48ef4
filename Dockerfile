# docker build -t memcache_kv .
# docker run -p 11211:11211 memcache_kv -m 512
# docker run -p 11211:11211 -v memcache_kv:/data memcache_kv -m 512 --journal /data --fsync always
# docker run -p 11211:11211 -e MEMCACHE_KV_ADMIN_COMMANDS=always memcache_kv (to let clients use flush_all, watch and dumps)
FROM python:3.13 AS build

# This image has a compiler; the next one gets only the wheel.
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY memcache_kv ./memcache_kv
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && ls /wheels/memcache_kv-*-linux_*.whl

FROM python:3.13-slim

COPY --from=build /wheels /wheels
RUN set -- /wheels/*.whl && pip install --no-cache-dir "$1[auth,http,progress]" \
    && rm -rf /wheels \
    && memcache-kv --version | grep -F '(compiled)' \
    && groupadd --system --gid 11211 memcache_kv \
    && useradd --system --uid 11211 --gid 11211 --no-create-home --shell /usr/sbin/nologin memcache_kv \
    && install -d -o 11211 -g 11211 /data

# The server writes its ports to that file, also with a read-only root, and the health check reads them there.
ENV MEMCACHE_KV_LISTEN=0.0.0.0 \
    MEMCACHED_PORT_FILENAME=/dev/shm/memcache_kv.ports

WORKDIR /data
USER 11211:11211
EXPOSE 11211
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["memcache-kv", "health"]
ENTRYPOINT ["memcache-kv"]
