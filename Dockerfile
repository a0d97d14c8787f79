# Both bases can come from a mirror: --build-arg BUILD=<image> --build-arg BASE=<image>
ARG BUILD=rust:1.95.0-bookworm
ARG BASE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p sessionbackend

FROM ${BASE}
COPY --from=build /src/target/release/sessionbackend /sessionbackend
USER 65532:65532
ENTRYPOINT ["/sessionbackend"]
