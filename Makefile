# Everything a developer or CI runs. `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
TARGET := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RELEASE := target/$(TARGET)/release/berth

.PHONY: help test fmt lint unit engine engines test-vm build release run image soak bench fuzz clean-node

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

test: engine fmt lint unit ## everything CI runs: format, lints, unit, property and Docker tests

engine: ## install Docker Engine and what the tests need, where they are missing
	.ci/install-engine

fmt: ## check the format
	cargo fmt --all --check

lint: ## lints as errors
	cargo clippy --workspace --all-targets --locked -- -D warnings

unit: ## unit, property, component and Docker tests
	REQUIRE=docker,root cargo test --workspace --locked --no-fail-fast

engines: engine ## the Docker tests on Docker 20.10 and 26.1, overlay2 and containerd image store
	.ci/engines

test-vm: ## node and Docker tests in a virtual machine: systemd, cgroup v2, all capabilities, Docker 26.1
	.ci/test-vm

build: ## debug build
	cargo build --locked

release: ## the binary that ships: static and stripped
	cargo build --locked --release -p berth
	@ls -l $(RELEASE)

run: ## the node in the foreground with an example pod, on a machine that may have nothing yet
	bin/run-node

image: release ## an image FROM scratch out of this checkout's own binaries, for machines without registry
	bin/make-image

soak: engine ## ten minutes of churn by 20 clients, then again while dockerd is killed 20 times; SOAK_SECONDS, SOAK_CLIENTS
	cargo test --locked -p cri-dockerd --test it -- --ignored --nocapture --test-threads 1 soak::

bench: release ## cost and latency beside the Docker floor; BENCH_QUICK=1 for a short look
	cargo run --locked -q -p bench -- $(RELEASE)

fuzz: ## the parsers of outside bytes against changed copies of fuzz/corpus, a minute each
	FUZZ_SECONDS=60 cargo test --locked -p streaming corpus_and_what_is_made_of_it

clean-node: ## take away every pod, cgroup, mount and link of `make run`
	bin/clean-node
