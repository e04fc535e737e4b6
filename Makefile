PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
MODELS := models/heart_disease
# -qq: not even the warnings that a machine's own pip configuration causes; errors are still shown.
# As a module, so that it installs into the environment of this Python; the script pip names a fixed path, wrong in a copy.
INSTALL := python -m pip --disable-pip-version-check -qq install --require-hashes
PIP := $(BIN)/$(INSTALL)
# One worker for each core, each file in one worker, in the order that tests/conftest.py sets. A worker takes up to 1.5 GB.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadgroup --no-loadscope-reorder
# Servers that the service is compared with, each in its own environment, because they need different versions of packages.
PEERS := bentoml litserve mlserver ray mlflow triton
# The locks of the images, and the locks that together hold every pinned package: dev contains service, trainer and ray.
SHIPPED := service service-cuda trainer trainer-cuda
AUDITED := dev service-cuda trainer-cuda audit
RUNTIME := onnxruntime uvloop httptools

.PHONY: help install serve train quick test test-gpu check faults fuzz soak \
	bench bench-quick bench-batches bench-explain bench-gpu bench-peers bench-reloads bench-score bench-tensors bench-trainer \
	containers debian driver lock lock-peers audit sbom lock-fuzz
.SECONDARY:
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/dev $(BIN)/heart ## create .venv with the service, the trainer, the development tools and the command heart

serve: $(VENV)/service $(BIN)/heart ## serve on http://127.0.0.1:8000 (PORT= changes it); trains first if there is no model
	@ls $(MODELS)/*/model.onnx > /dev/null 2>&1 || { echo "No model in $(MODELS): training one first."; $(MAKE) --no-print-directory train FLAGS="--repeats 1"; }
	@$(BIN)/python -m service --port $(PORT)

debian: ## as root on Debian: install browser, proxy, Prometheus, clock and load generator; tests without them are skipped
	@apt-get -qq update && RUNLEVEL=1 apt-get -qq install --no-install-recommends chromium faketime haproxy nginx-light prometheus wrk > /dev/null

train: $(VENV)/trainer $(BIN)/heart ## fit and evaluate the network, and write it as the next version into models/ (FLAGS= of fit)
	@$(BIN)/python -m trainer fit $(FLAGS)

quick: $(VENV)/dev ## run the tests that start no service, browser or TensorFlow (one to two and a half minutes on two cores)
	@$(PYTEST) --quick

test: $(VENV)/dev $(BIN)/heart ## run every test (6 minutes on two cores)
	@$(PYTEST)

test-gpu: driver $(VENV)/dev $(VENV)/service-cuda ## run the tests that need a CUDA device; fails without one
	@$(BIN)/python -m pytest -m gpu tests/gpu

check: $(VENV)/dev $(BIN)/heart ## run ruff, import-linter, mypy, and every test with branch coverage
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@report=$$($(BIN)/lint-imports --no-logo --no-cache) && echo "$$report" | tail -n 1 || { echo "$$report"; exit 1; }
	@$(BIN)/mypy
	@$(PYTEST) --cov --cov-report=term-missing:skip-covered

faults: $(VENV)/dev ## run the fault and attack tests at full length and print the figures of docs/reliability.md (4 minutes)
	@FAULTS_LONG=1 $(BIN)/python -m pytest tests/faults tests/hostile tests/trainer/test_processes.py::test_two_trainers_at_once_make_two_whole_versions

fuzz: $(VENV)/dev .fuzz/made ## send 100,000 damaged bodies, 20,000 of false structure and 10,000 cases of Schemathesis (an hour)
	@$(BIN)/python -m tests.fuzz.run damage 100000
	@$(BIN)/python -m tests.fuzz.run structure 20000
	@$(BIN)/python -m tests.fuzz.openapi .fuzz/bin/schemathesis 2500

soak: $(VENV)/dev ## load the service for ten minutes at 80 % of its limit, then above it, into benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks.soak --write

bench: $(VENV)/dev .peers/orjson/made .peers/granian/made ## measure the service, its ceilings and the peers, into benchmarks/RESULTS.md (about 10 minutes)
	@$(BIN)/python -m benchmarks.serving

bench-quick: $(VENV)/dev .peers/orjson/made .peers/granian/made ## the same with fewer rounds and peers, shown only (under two minutes)
	@$(BIN)/python -m benchmarks.serving --quick

bench-peers: $(PEERS:%=.peers/%/made) ## install the peers into .peers, for bench (3 GB, about 6 minutes)

bench-batches: $(VENV)/dev ## measure tables over HTTP, single records meanwhile, and memory at 10 million rows, into benchmarks/RESULTS.md (about 14 minutes)
	@$(BIN)/python -m benchmarks.batches --waits 10 --memory 10000000 --write

bench-tensors: $(VENV)/dev ## measure the Open Inference Protocol against the model alone, shown only (under two minutes)
	@$(BIN)/python -m benchmarks.tensors

bench-score: $(VENV)/dev ## measure heart score in each format and on Ray with 1 and 2 workers, into benchmarks/RESULTS.md (about 4 minutes)
	@$(BIN)/python -m benchmarks.score --write

bench-reloads: $(VENV)/dev ## measure the service while its model changes a hundred times, into benchmarks/RESULTS.md (about 3 minutes; needs wrk)
	@$(BIN)/python -m benchmarks.reloads --write

bench-explain: $(VENV)/dev ## measure explanations against the shap package, and single records meanwhile, into benchmarks/RESULTS.md (about 3 minutes)
	@$(BIN)/python -m benchmarks.explain --write

bench-trainer: $(VENV)/dev ## measure speed and memory of the trainer against model.fit and pyarrow (about 6 minutes)
	@$(BIN)/python -m benchmarks.training
	@$(BIN)/python -m benchmarks.reading

bench-gpu: driver $(VENV)/service-cuda ## measure CUDA in each mode against the CPU, into benchmarks/RESULTS.md (about a minute)
	@$(BIN)/python -m benchmarks.gpu

containers: ## build the images, start docker-compose.yml, and test its promises (needs a Docker engine; minutes)
	@deploy/verify.sh

audit: .audit/made ## look up the packages in locks/ in PyPI's list of known vulnerabilities
	@.audit/bin/python deploy/audit.py $(AUDITED:%=locks/%.txt)

sbom: .audit/made ## write what each lock installs into sbom/, as CycloneDX
	@mkdir -p sbom
	@for lock in $(SHIPPED); do \
		.audit/bin/python -W ignore -m cyclonedx_py requirements locks/$$lock.txt --pyproject pyproject.toml --output-reproducible --of JSON \
			--output-file sbom/$$lock.cdx.json && echo sbom/$$lock.cdx.json || exit; \
	done

# The extras of dev stay in its lock: pip 23 does not take coverage==7 for coverage[toml].
lock: ## resolve the dependencies of pyproject.toml into locks/ (needs uv)
	@for extra in dev trainer trainer-cuda service service-cuda ray; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
			$$([ $$extra = dev ] && echo --no-strip-extras || echo --constraint locks/dev.txt) --extra $$extra pyproject.toml --output-file locks/$$extra.txt || exit; \
	done
	@printf 'pip-audit\ncyclonedx-bom\n' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --no-annotate - --output-file locks/audit.txt
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--constraint locks/dev.txt --group build --output-file locks/build.txt

lock-fuzz: ## resolve Schemathesis into locks/fuzz.txt (needs uv)
	@echo schemathesis | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate - --output-file locks/fuzz.txt

lock-peers: ## resolve the peers' dependencies into benchmarks/peers/locks/ (needs uv)
	@resolve() { \
		echo "$$2" | tr ' ' '\n' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-header --no-annotate - --output-file benchmarks/peers/locks/$$1.txt; \
	}; \
	resolve orjson orjson && resolve granian "granian uvloop" && resolve ray 'ray[serve] $(RUNTIME)' && resolve mlflow 'mlflow onnx $(RUNTIME)' && \
	resolve triton 'nvidia-pytriton onnxruntime pydantic' && \
	for peer in bentoml litserve mlserver; do resolve $$peer "$$peer $(RUNTIME)" || exit; done

# Checked before gigabytes of CUDA libraries are installed.
driver:
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2> /dev/null || { echo "This needs a CUDA device, and there is no NVIDIA driver (libcuda.so.1) here."; exit 1; }

# One marker file for each lock: its packages are installed once, and again when the lock changes.
$(VENV)/pip:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + ": try make PYTHON=python3.12 ...")'
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/service $(VENV)/service-cuda $(VENV)/trainer $(VENV)/dev: $(VENV)/%: locks/%.txt | $(VENV)/pip
	@echo "Installing the $* packages into $(VENV) (once, $(if $(filter service,$*),about a minute,2 to 5 minutes))"
	@$(PIP) --requirement $<
	@touch $@

# The audit tools bring fifty packages, so they have their own environment.
.audit/made: locks/audit.txt
	@echo "Installing the audit packages into .audit (once, about a minute)"
	@rm -rf .audit
	@$(PYTHON) -m venv .audit
	@.audit/bin/$(INSTALL) --requirement $<
	@touch $@

# Schemathesis brings more than twenty packages, so it has its own environment.
.fuzz/made: locks/fuzz.txt
	@echo "Installing Schemathesis into .fuzz (once, about a minute)"
	@$(PYTHON) -m venv .fuzz
	@.fuzz/bin/$(INSTALL) --requirement $<
	@touch $@

# An editable installation: the command runs the code in this folder.
$(BIN)/heart: locks/build.txt pyproject.toml | $(VENV)/pip
	@$(PIP) --requirement $<
	@echo "Installing the command heart into $(BIN)"
	@$(BIN)/python -m pip --disable-pip-version-check -qq install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

.peers/%/made: benchmarks/peers/locks/%.txt
	@echo "Installing the $* packages into .peers/$*"
	@rm -rf .peers/$*
	@$(PYTHON) -m venv .peers/$*
	@.peers/$*/bin/$(INSTALL) --requirement $<
	@touch $@
