# `make run` serves; `make test` passes the tests. Both install what is missing. See CONTRIBUTING.md for the rest.

# Outside the clone, so that a fresh clone and CI reuse what is already built.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/habit/target
# Models for the tests, fetched once.
export HABIT_TEST_MODELS ?= $(HOME)/.cache/habit/models
export HABIT_TEST_MODEL ?= $(HABIT_TEST_MODELS)/models/smollm2-135m-instruct
export HABIT_TEST_EMBEDDER ?= $(HABIT_TEST_MODELS)/models/all-minilm-l6-v2
# The Python environment of the SDK tests.
export HABIT_TEST_VENV ?= $(HOME)/.cache/habit/venv
HABIT := $(CARGO_TARGET_DIR)/release/habit
pull = $(HABIT) models --models-dir $(HABIT_TEST_MODELS) pull smollm2-135m-instruct && \
	$(HABIT) models --models-dir $(HABIT_TEST_MODELS) pull all-minilm-l6-v2

.PHONY: run test sdk build deps testdeps models venv lint fmt openapi bench cuda help

help: ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

run: build ## build, fetch the default models, serve on loopback
	@exec $(HABIT) serve $(ARGS)

# What the tests build is what fetches their models: the crates are not compiled once more without the feature `testing`.
test: deps testdeps venv ## everything, with the real model, embedder, databases and client
	cargo test --release --workspace --no-run
	@$(pull)
	scripts/test-servers cargo test --release --workspace

sdk: build models ## real clients in Python and JavaScript, and a fuzzer, against the real model
	@scripts/sdk-tests $(ARGS)

build: deps
	cargo build --release --package habit-gateway

deps:
	@scripts/install-deps

testdeps:
	@scripts/install-deps tests

models: build
	@$(pull)

venv: deps
	@scripts/test-venv

lint: deps ## formatting, clippy with denied warnings, the API document
	scripts/lint

fmt: ## format
	cargo fmt --all

openapi: build ## write openapi.yaml from the code
	$(HABIT) openapi > openapi.yaml

cuda: deps ## build for NVIDIA's GPUs, in a target directory of its own (docs/cuda.md)
	@scripts/cuda $(ARGS)

bench: build models ## the figures of docs/performance.md
	cargo bench --workspace --bench memory --bench overhead
	$(HABIT) --models-dir $(HABIT_TEST_MODELS) bench recall
