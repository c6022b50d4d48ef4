# twemproxy has no official image; Debian has a package.
FROM debian:bookworm-slim

# A version of Debian has one version of the package.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends nutcracker \
    && rm -rf /var/lib/apt/lists/*

USER 65534:65534
EXPOSE 11311 11312
STOPSIGNAL SIGTERM
# Debian's log file is not writable here.
ENTRYPOINT ["nutcracker", "--stats-addr=127.0.0.1", "--verbose=4", "--output=/dev/stderr"]
CMD ["--conf-file=/etc/nutcracker/twemproxy.yaml"]
