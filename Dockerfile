# The binary is built outside (make image) and is all there is in here: static, no shell, no root.
FROM scratch
COPY gmaps-scraper /gmaps-scraper
LABEL org.opencontainers.image.title="gmaps-scraper" \
      org.opencontainers.image.description="Self-hosted Google Maps scraper with auto-spawned workers" \
      org.opencontainers.image.licenses="MIT"
ENV GMAPS_ADDR=:8080 GMAPS_DATA_DIR=/data TMPDIR=/tmp
VOLUME ["/data", "/tmp"]
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/gmaps-scraper"]
