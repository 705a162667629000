# The node as one small image (README: docker compose up --build).
# Builds with the classic builder and with BuildKit alike.
ARG RUST_VERSION=1.95.0
ARG RUNTIME_IMAGE=alpine:3.22

# ---- our own programs: one static multi-call binary ----
FROM rust:${RUST_VERSION}-bookworm AS build
ARG KUBE_VERSION=v1.34
ARG CRI_DOCKERD_VERSION=v0.3.21
ARG CONCURRENTLY_VERSION=9.2.1
# Accepted so that old build commands keep working; nothing here is Go.
ARG GO_VERSION_KUBE
ARG TARGETARCH
WORKDIR /src
# Without rust-toolchain.toml (.dockerignore): the image's own toolchain builds, whatever RUST_VERSION says.
COPY . .
RUN set -eu; \
    case "${TARGETARCH:-$(uname -m)}" in \
      amd64|x86_64) target=x86_64-unknown-linux-gnu ;; \
      arm64|aarch64) target=aarch64-unknown-linux-gnu ;; \
      *) echo "no build for architecture ${TARGETARCH:-$(uname -m)}" >&2; exit 1 ;; \
    esac; \
    cargo build --locked --release -p berth --target "$target"; \
    install -D "target/$target/release/berth" /out/berth

# ---- the official kubectl of the same Kubernetes version ----
FROM rust:${RUST_VERSION}-bookworm AS kubectl
ARG KUBE_VERSION=v1.34
ARG TARGETARCH
COPY bin/fetch-kubectl /fetch-kubectl
RUN /fetch-kubectl "${KUBE_VERSION}" "${TARGETARCH:-}" /out/kubectl

# ---- every program once, so that a broken one fails the build ----
FROM ${RUNTIME_IMAGE} AS combined
COPY --from=build /out/berth /berth
COPY --from=kubectl /out/kubectl /kubectl
RUN ln -s /berth /kubelet && ln -s /berth /cri-dockerd && ln -s /berth /concurrently \
 && /kubelet --version && /cri-dockerd --version && /concurrently --version \
 && /kubectl version --client

# ---- the image ----
FROM ${RUNTIME_IMAGE}
COPY --from=combined /berth /kubectl /
RUN ln -s /berth /kubelet && ln -s /berth /cri-dockerd && ln -s /berth /concurrently \
 && mkdir -p /usr/local/bin && ln -s /kubectl /usr/local/bin/kubectl && ln -s /berth /usr/local/bin/berth
COPY config/dockerd.yml /kubelet.yaml
COPY bin/kubelet bin/cri-dockerd /bin/
# Daemons that fail are started again, for ever, with a growing delay (decisions DEC-31).
ENV CONCURRENTLY_NAMES=cri-dockerd,kubelet \
    CONCURRENTLY_RESTART_TRIES=-1 \
    CONCURRENTLY_RESTART_AFTER=exponential \
    CONCURRENTLY_KILL_TIMEOUT=5000
STOPSIGNAL SIGTERM
# {@} hands each word after -- to the kubelet as a word of its own (decisions DEC-30).
ENTRYPOINT ["/concurrently", "-P", "cri-dockerd", "kubelet {@}", "--"]
