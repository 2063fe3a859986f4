# Images of gmaps-scraper. The static binary is built outside, by make image and make image-browser: any builder can do this, also one
# without BuildKit and without a registry. The build context is the folder of the binary.
#   docker build --target slim -f Dockerfile bin/linux         the Manager and workers of the http engine: the binary alone
#   docker build --target browser -f Dockerfile bin/linux      the same with Chromium's headless shell

# No shell, no package, no root. Process 1 is the binary: it handles SIGTERM itself and has no children to reap, since -spawner process
# needs the shell that is not here. A spawner that sets Init (docker run --init) does no harm.
FROM scratch AS slim
ARG VERSION=dev
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="gmaps-scraper" \
      org.opencontainers.image.description="Self-hosted Google Maps scraper with auto-spawned workers" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
COPY gmaps-scraper /gmaps-scraper
# /data and /tmp. A new volume takes owner and mode of the folder that it covers: without these, user 65532 could not write to one.
# No VOLUME: every worker would get one of its own, and leave it behind.
COPY --chown=65532:65532 rootfs/ /
ENV GMAPS_ADDR=:8080 GMAPS_DATA_DIR=/data TMPDIR=/tmp HOME=/data
USER 65532:65532
EXPOSE 8080
# No HEALTHCHECK: the same image is a worker, which listens nowhere. compose.yaml and stack.yaml give the Manager one.
ENTRYPOINT ["/gmaps-scraper"]

# Chromium forks, and its orphans end up with process 1: tini is there to reap them. Chromium's sandbox needs more than a container may do by
# default: see docs/deploy.md.
FROM debian:bookworm-slim AS browser
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates chromium-headless-shell fonts-liberation tini \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 65532 -g 65532 /data
ARG VERSION=dev
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="gmaps-scraper with Chromium" \
      org.opencontainers.image.description="Self-hosted Google Maps scraper with auto-spawned workers and a headless browser" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
COPY gmaps-scraper /usr/local/bin/gmaps-scraper
ENV GMAPS_ADDR=:8080 GMAPS_DATA_DIR=/data TMPDIR=/tmp HOME=/data
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["tini", "-s", "--", "gmaps-scraper"]
