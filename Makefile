PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
MODELS := models/heart_disease
INSTALL := pip --disable-pip-version-check --quiet install --require-hashes
PIP := $(BIN)/$(INSTALL)
# The servers beside which ours is measured, each in an environment of its own: they want different versions.
PEERS := bentoml litserve mlserver ray mlflow triton
# What images are made of, and what makes up all locks: dev holds service, trainer and ray.
SHIPPED := service service-cuda trainer trainer-cuda
AUDITED := dev service-cuda trainer-cuda audit
RUNTIME := onnxruntime uvloop httptools

.PHONY: help install serve train test test-gpu check faults fuzz soak \
	bench bench-quick bench-batches bench-explain bench-gpu bench-peers bench-reloads bench-score bench-tensors bench-trainer \
	containers debian driver lock lock-peers audit sbom lock-fuzz
.SECONDARY:
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/dev $(BIN)/heart ## create .venv with everything: service, trainer, development tools, and the command heart

serve: $(VENV)/service $(BIN)/heart ## serve on http://127.0.0.1:8000 (PORT= changes it); trains first if there is no model
	@ls $(MODELS)/*/model.onnx > /dev/null 2>&1 || { echo "No model in $(MODELS): training one first."; $(MAKE) --no-print-directory train FLAGS="--repeats 1"; }
	@$(BIN)/python -m service --port $(PORT)

debian: ## as root on Debian: browser, proxy, Prometheus, clock and load generator, without which some tests are skipped
	@apt-get -qq update && apt-get -qq install --no-install-recommends chromium faketime haproxy prometheus wrk > /dev/null

train: $(VENV)/trainer $(BIN)/heart ## fit and judge the network, and make it the next version in models/ (FLAGS= of fit)
	@$(BIN)/python -m trainer fit $(FLAGS)

test: $(VENV)/dev $(BIN)/heart ## run every test
	@$(BIN)/python -m pytest

test-gpu: driver $(VENV)/dev $(VENV)/service-cuda ## what only a CUDA device can show; fails where there is none
	@$(BIN)/python -m pytest -m gpu tests/gpu

check: $(VENV)/dev $(BIN)/heart ## ruff, mypy and the tests with branch coverage; hadolint, docker compose, promtool where they are
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/coverage run -m pytest
	@$(BIN)/coverage report

faults: $(VENV)/dev ## break things for real, and say what came of each: the figures of docs/reliability.md (2 minutes)
	@FAULTS_LONG=1 $(BIN)/python -m pytest tests/faults tests/trainer/test_processes.py::test_two_trainers_at_once_make_two_whole_versions

fuzz: $(VENV)/dev .fuzz/made ## 100,000 damaged bodies, and 5,000 cases of Schemathesis, at a service of their own (half an hour)
	@$(BIN)/python -m tests.fuzz.run 100000
	@$(BIN)/python -m tests.fuzz.openapi .fuzz/bin/schemathesis 2500

soak: $(VENV)/dev ## ten minutes at 80 % of the limit, and minutes above it, into benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks.soak --write

bench: $(VENV)/dev .peers/orjson/made ## measure the service, its ceiling and the peers, into benchmarks/RESULTS.md (about 10 minutes)
	@$(BIN)/python -m benchmarks.serving

bench-quick: $(VENV)/dev .peers/orjson/made ## the same in under two minutes, coarser, fewer peers, and only shown
	@$(BIN)/python -m benchmarks.serving --quick

bench-peers: $(PEERS:%=.peers/%/made) ## install the peers into .peers (3 GB, about 6 minutes), so that bench measures them too

bench-batches: $(VENV)/dev ## tables over HTTP beside the floor of their format, single records beside them, and memory at 10 million rows, into benchmarks/RESULTS.md (about 14 minutes)
	@$(BIN)/python -m benchmarks.batches --waits 10 --memory 10000000 --write

bench-tensors: $(VENV)/dev ## tensors through the Open Inference Protocol beside the model alone, only shown (under two minutes)
	@$(BIN)/python -m benchmarks.tensors

bench-score: $(VENV)/dev ## the command for files in each format and on Ray with 1 and 2 workers, into benchmarks/RESULTS.md (about 4 minutes)
	@$(BIN)/python -m benchmarks.score --write

bench-reloads: $(VENV)/dev ## the service while its model changes a hundred times, into benchmarks/RESULTS.md (about 3 minutes; needs wrk)
	@$(BIN)/python -m benchmarks.reloads --write
bench-explain: $(VENV)/dev ## explanations beside the shap package's, and single records beside explanations, into benchmarks/RESULTS.md (about 3 minutes)
	@$(BIN)/python -m benchmarks.explain --write

bench-trainer: $(VENV)/dev ## speed and memory of the trainer, beside model.fit and pyarrow (about 6 minutes)
	@$(BIN)/python -m benchmarks.training
	@$(BIN)/python -m benchmarks.reading

bench-gpu: driver $(VENV)/service-cuda ## CUDA in each mode beside the CPU, into benchmarks/RESULTS.md (about a minute)
	@$(BIN)/python -m benchmarks.gpu

containers: ## build the images, bring docker-compose.yml up, and test what it promises (needs a Docker engine; minutes)
	@deploy/verify.sh

audit: .audit/made ## known vulnerabilities in what locks/ pins, as PyPI knows them
	@.audit/bin/python deploy/audit.py $(AUDITED:%=locks/%.txt)

sbom: .audit/made ## what each lock installs, as CycloneDX, into sbom/
	@mkdir -p sbom
	@for lock in $(SHIPPED); do \
		.audit/bin/python -W ignore -m cyclonedx_py requirements locks/$$lock.txt --pyproject pyproject.toml --output-reproducible --of JSON \
			--output-file sbom/$$lock.cdx.json && echo sbom/$$lock.cdx.json || exit; \
	done

lock: ## resolve the dependencies of pyproject.toml into locks/ (needs uv)
	@for extra in dev trainer trainer-cuda service service-cuda ray; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
			$$([ $$extra = dev ] || echo --constraint locks/dev.txt) --extra $$extra pyproject.toml --output-file locks/$$extra.txt || exit; \
	done
	@printf 'pip-audit\ncyclonedx-bom\n' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --no-annotate - --output-file locks/audit.txt

lock-fuzz: ## resolve Schemathesis into locks/fuzz.txt (needs uv)
	@echo schemathesis | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate - --output-file locks/fuzz.txt
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--constraint locks/dev.txt --group build --output-file locks/build.txt

lock-peers: ## resolve the peers' dependencies into benchmarks/peers/locks/ (needs uv)
	@resolve() { \
		echo "$$2" | tr ' ' '\n' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-header --no-annotate - --output-file benchmarks/peers/locks/$$1.txt; \
	}; \
	resolve orjson orjson && resolve ray 'ray[serve] $(RUNTIME)' && resolve mlflow 'mlflow onnx $(RUNTIME)' && \
	resolve triton 'nvidia-pytriton onnxruntime pydantic' && \
	for peer in bentoml litserve mlserver; do resolve $$peer "$$peer $(RUNTIME)" || exit; done

# Asked before gigabytes of CUDA libraries are installed.
driver:
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2> /dev/null || { echo "This needs a CUDA device, and there is no NVIDIA driver (libcuda.so.1) here."; exit 1; }

# A file of its own for each set of dependencies: what is installed is not installed again, and a changed lock is.
$(VENV)/pip:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + ": try make PYTHON=python3.12 ...")'
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/service $(VENV)/service-cuda $(VENV)/trainer $(VENV)/dev: $(VENV)/%: locks/%.txt | $(VENV)/pip
	@echo "Installing the $* packages into $(VENV) (once)"
	@$(PIP) --requirement $<
	@touch $@

# What looks at the others' dependencies brings fifty of its own: they stay apart.
.audit/made: locks/audit.txt
	@echo "Installing the audit packages into .audit"
	@rm -rf .audit
	@$(PYTHON) -m venv .audit
	@.audit/bin/$(INSTALL) --requirement $<
# In an environment of its own: Schemathesis brings more than twenty packages.
.fuzz/made: locks/fuzz.txt
	@echo "Installing Schemathesis into .fuzz (once)"
	@$(PYTHON) -m venv .fuzz
	@.fuzz/bin/$(INSTALL) --requirement $<
# The command, as a pointer to the code that lies here: what is edited is what runs.
$(BIN)/heart: locks/build.txt pyproject.toml | $(VENV)/pip
	@$(PIP) --requirement $<
	@$(BIN)/pip --disable-pip-version-check --quiet install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

.peers/%/made: benchmarks/peers/locks/%.txt
	@echo "Installing the $* packages into .peers/$*"
	@rm -rf .peers/$*
	@$(PYTHON) -m venv .peers/$*
	@.peers/$*/bin/$(INSTALL) --requirement $<
	@touch $@
