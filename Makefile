# `make demo` and `make test` set up all that they need, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := jax==0.6.2 jaxlib==0.6.2 optax==0.2.5 flax==0.11.0
PEERS := torch==2.13.0
PEERS_ALONE := timm==1.0.31 stable-baselines3==2.9.2 bitsandbytes==0.50.2
STEPS := 30
BUDGET ?= 300
GPU_PYTHON ?= python3
GPU_RESULTS ?= benchmarks/steps-gpu
LARGE_TREES := "32 x 1024^2" "one leaf of 2^25" "one leaf of 33554393"
OTHER_TREES := "2000 x 64" "1000 x 64^2" ResNet-50 "GPT-2 124M" \
  "training step, ResNet-50 at 1 x 64^2" "training step, GPT-2 124M at 64 tokens"
SHORT := optax.rmsprop "optax.rmsprop again" rmsprop "rmsprop, uint8" \
  "rmsprop, bfloat16 p, uint8" "rmsprop, bfloat16" optax.sgd

COMPILED := .venv-compiled/bin/python
ON_SEVERAL := optax.rmsprop rmsprop "rmsprop, uint8" "master_weights 24, uint8"

.PHONY: demo test test-long test-oldest test-peers test-compiled test-all lint types \
  doctest pages docs examples wheel bench bench-gpu accelerators clean

demo: $(VENV)/demo
	$(BIN)/python -m rmsprop_jax demo --out demo.png

# What a contributor waits for: every law and every promise at least once.
test: $(VENV)/test
	$(BIN)/python -m pytest -n auto

# Everything: this, all rows and long runs, the oldest JAX, and the other frameworks.
test-all: test test-long test-oldest test-peers

# All rows and all tests, compiled as users compile, and fuzzing for BUDGET seconds.
test-long: $(VENV)/test
	COMPILE=as-users FUZZ_SECONDS=$(BUDGET) $(BIN)/python -m pytest -n auto -m "not peers"

# Here the annotations are enforced too, except where tests pass objects of other kinds to
# see what our own errors say.
ENFORCED := $(filter-out interop diagnostics _rmsprop py __%,$(basename $(notdir $(wildcard rmsprop_jax/*))))
comma := ,
test-oldest: .venv-oldest/test
	.venv-oldest/bin/python -m pytest -n auto \
	  --jaxtyping-packages=$(subst $() $(),$(comma),$(ENFORCED:%=rmsprop_jax.%)),beartype.beartype

test-peers: .venv-peers/test
	.venv-peers/bin/python -m pytest -m peers -p no:xdist

# What the compilers for an H100 and for TPUs make of a step. They need no such device.
test-compiled: .venv-compiled/compiled
	$(COMPILED) -m pytest -m compiled -p no:xdist tests/test_compiled_accelerators.py

lint: $(VENV)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/lint $(VENV)/test
	$(BIN)/pyright

doctest: $(VENV)/test
	$(BIN)/python -m pytest -p no:xdist --doctest-modules rmsprop_jax *.md docs/*.md

# The pages that are written from the data of the package.
pages: $(VENV)/test
	$(BIN)/python docs/write_pages.py
	$(BIN)/python docs/architecture.py

docs: $(VENV)/docs
	$(BIN)/python -m sphinx -W --keep-going -E -b html docs docs/_build/html

examples: $(VENV)/demo
	mkdir -p docs/_build/examples
	set -e; for example in examples/*.py; do \
	  echo "$$example"; $(BIN)/python $$example --steps $(STEPS) \
	    --out docs/_build/examples/$$(basename $$example .py).png; done
	$(BIN)/python -m rmsprop_jax demo --steps $(STEPS) --out docs/_build/demo-short.png

# The wheel alone, installed in an environment of its own and tested elsewhere.
wheel: $(VENV)/lint
	rm -rf dist build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install -q dist/*.whl
	cp -r tests build/wheel/tests
	cd build/wheel && venv/bin/python tests/smoke.py
	build/wheel/venv/bin/python -m pip install -q pytest chex beartype hypothesis
	cd build/wheel && venv/bin/python -m pytest -q -c /dev/null --rootdir=tests --confcutdir=tests \
	  tests/test_defects.py tests/test_errors.py tests/test_trees.py

bench: $(VENV)/demo
	$(BIN)/python -m rmsprop_jax bench

# On a machine with a GPU, in ten minutes: GPU_PYTHON has JAX for it, and the peers
# that are wanted. What there is no time for is named in the results.
GPU_BENCH = XLA_PYTHON_CLIENT_PREALLOCATE=false KERAS_BACKEND=jax \
  $(GPU_PYTHON) -m rmsprop_jax bench --suite full --rounds 20
bench-gpu:
	$(GPU_BENCH) --minutes 4 --trees $(LARGE_TREES) --json $(GPU_RESULTS)-large.json \
	  --contenders $(SHORT) --markdown $(GPU_RESULTS)-large.md \
	  --plot $(GPU_RESULTS)-large.png
	$(GPU_BENCH) --minutes 3 --trees $(OTHER_TREES) --json $(GPU_RESULTS)-other.json \
	  --contenders $(SHORT) --peers "torch, foreach" "bitsandbytes 8-bit" \
	  --markdown $(GPU_RESULTS)-other.md --plot $(GPU_RESULTS)-other.png
	$(GPU_BENCH) --minutes 2 --trees "32 x 1024^2" --json $(GPU_RESULTS)-all.json \
	  --peers --markdown $(GPU_RESULTS)-all.md --plot $(GPU_RESULTS)-all.png

# The tables and the figure of docs/accelerators.md.
accelerators: .venv-compiled/compiled
	$(COMPILED) -m rmsprop_jax bench --compiled h100 tpu-v5e \
	  --json benchmarks/accelerators.json --markdown benchmarks/accelerators.md \
	  --plot benchmarks/accelerators.png
	$(COMPILED) -m rmsprop_jax bench --compiled h100x8 tpu-v5e-4 \
	  --contenders $(ON_SEVERAL) --json benchmarks/accelerators-sharded.json \
	  --markdown benchmarks/accelerators-sharded.md
	set -e; for study in tables host steps; do \
	  $(COMPILED) benchmarks/accelerators.py $$study \
	    --json benchmarks/accelerators-$$study.json \
	    --markdown benchmarks/accelerators-$$study.md; done

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip

$(VENV)/demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[examples]' && touch $@

$(VENV)/test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[examples]' --group test && touch $@

$(VENV)/lint: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e . --group lint && touch $@

$(VENV)/docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[docs]' && touch $@

.venv-oldest/test: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install -q --upgrade pip
	.venv-oldest/bin/python -m pip install -q $(OLDEST) -e '.[examples]' --group test
	touch $@

.venv-peers/test: pyproject.toml
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install -q --upgrade pip
	.venv-peers/bin/python -m pip install -q $(PEERS)
	.venv-peers/bin/python -m pip install -q --no-deps $(PEERS_ALONE)
	.venv-peers/bin/python -m pip install -q keras==3.15.1
	.venv-peers/bin/python -m pip install -q -e '.[examples]' --group test
	touch $@

.venv-compiled/compiled: pyproject.toml
	$(PYTHON) -m venv .venv-compiled
	$(COMPILED) -m pip install -q --upgrade pip
	$(COMPILED) -m pip install -q -e . --group compiled && touch $@

clean:
	rm -rf $(VENV) .venv-oldest .venv-peers .venv-compiled build dist docs/_build docs/gallery *.png
