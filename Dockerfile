# docker build -t memcache_kv .
# docker run -p 11211:11211 -v memcache_kv:/data memcache_kv -m 512 --fsync always
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY memcache_kv ./memcache_kv
RUN pip install --no-cache-dir '.[progress]' \
    && rm -rf /src/* \
    && useradd --system --uid 11211 --no-create-home --shell /usr/sbin/nologin memcache_kv \
    && install -d -o memcache_kv -g memcache_kv /data

WORKDIR /data
USER memcache_kv
VOLUME /data
EXPOSE 11211
STOPSIGNAL SIGTERM

# Set MEMCACHE_KV_PORT when the server is told to listen on another port with -p.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
import os, socket, sys; \
port = int(os.environ.get('MEMCACHE_KV_PORT', '11211')); \
connection = socket.create_connection(('127.0.0.1', port), 3); \
connection.sendall(b'version\\r\\n'); \
sys.exit(not connection.recv(64).startswith(b'VERSION'))"]

ENTRYPOINT ["memcache-kv", "-l", "0.0.0.0", "--journal", "/data"]
