# The one front door. `make` alone says what there is.

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-main test-openai2 test-ts test-sdks test-dist image-test check docs picture bench soak attack fuzz lock audit sbom

# Twice quiet: warnings about this machine are not about this project; errors are still shown.
PIP := -m pip -qq --disable-pip-version-check --no-input
VERSION_OF_OPENAI := -c 'import openai; print("openai", openai.__version__)'

# The first interpreter that is new enough. `make PYTHON=… demo` takes another one.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)

# A file stays in one process, and the longest come first (tests/conftest.py). One process more than
# there are cores, because tests often wait for a server.
CORES := $(shell getconf _NPROCESSORS_ONLN)
ON_ALL_CORES := -n $(shell expr $(CORES) + 1) --dist loadfile --no-loadscope-reorder

# Each is a group of pyproject.toml, and tests/sdks/test_….py.
SDKS := langchain litellm instructor
# In an environment of their own: they want a newer openai than LiteLLM takes.
EVALS := inspect agents

TYPESCRIPT := clients/typescript
NODE_MODULES := $(TYPESCRIPT)/node_modules/.package-lock.json
NODE_IS_NEW_ENOUGH := node -e 'process.exit(Number(process.versions.node.split(".")[0] < 20))' \
	2>/dev/null && npm --version >/dev/null 2>&1

help: ## say what there is (this text)
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s  %s\n", $$1, $$2 }' Makefile

demo: .venv/server ## server, database and a simulated OpenAI at once: one call, answered
	@.venv/bin/openaibatching demo

serve: .venv/server ## run the service; it needs OPENAI_API_KEY
	@.venv/bin/openaibatching serve

# Each part runs, whatever became of the others, and the end says which failed.
PARTS := test-main test-openai2 test-ts test-sdks

test: ## every test, those of the Python clients with openai 2 and 3
	@failed=; for part in $(PARTS); do \
		$(MAKE) --no-print-directory $$part || failed="$$failed $$part"; done; \
	if [ -n "$$failed" ]; then echo "Failed:$$failed" >&2; exit 1; fi; \
	echo "All parts passed: $(PARTS)"

test-main: .venv/dev ## all but the parts below
	@echo "Tests with $$(.venv/bin/python $(VERSION_OF_OPENAI))"
	@.venv/bin/pytest -q $(ON_ALL_CORES)

test-openai2: .venv-openai2/dev ## the Python clients with openai 2
	@echo "Tests of the clients with $$(.venv-openai2/bin/python $(VERSION_OF_OPENAI))"
	@.venv-openai2/bin/pytest -q $(ON_ALL_CORES) tests/clients tests/pure/test_pending_objects.py

test-ts: .venv/dev ## the TypeScript client, packed and installed, with openai 6 and 7
	@if $(NODE_IS_NEW_ENOUGH); then \
		$(MAKE) --silent --no-print-directory $(NODE_MODULES) && cd $(TYPESCRIPT) && \
		npm run --silent check && npm run --silent test; \
	else echo "Without the tests of the TypeScript client: they need Node 20 or newer and npm."; fi

# Without the fixtures of the other tests: these are for SDKs alone. Their users, and so the examples of
# the page, leave clients open; those sockets end with the process.
PYTEST_SDKS := bin/pytest -q --confcutdir tests/sdks -W ignore::ResourceWarning

test-sdks: .venv/dev .venv-openai2/dev .venv-sdks/done .venv-evals/done ## other SDKs, with only the base URL changed
	@echo "Tests of the plain SDK with $$(.venv/bin/python $(VERSION_OF_OPENAI)), and of curl"
	@.venv/$(PYTEST_SDKS) tests/sdks/test_openai_python.py tests/sdks/test_curl.py
	@echo "Tests of the plain SDK with $$(.venv-openai2/bin/python $(VERSION_OF_OPENAI))"
	@.venv-openai2/$(PYTEST_SDKS) tests/sdks/test_openai_python.py
	@echo "Tests of $(SDKS)"
	@.venv-sdks/$(PYTEST_SDKS) $(SDKS:%=tests/sdks/test_%.py)
	@echo "Tests of $(EVALS)"
	@.venv-evals/$(PYTEST_SDKS) $(EVALS:%=tests/sdks/test_%.py)

test-dist: .venv/dev ## the wheel and the sdist, in empty environments of each Python found here
	@.venv/bin/pytest -q tests/distribution

# Not a part of `make test`: it needs root and Debian's tools, and minutes.
image-test: .venv/dev ## build the image without an engine, and run it (on Debian, as root)
	@for tool in buildah debootstrap; do command -v $$tool >/dev/null || \
		{ echo "It needs root and: apt-get install buildah debootstrap" >&2; exit 1; }; done
	@.venv/bin/pytest -q tests/image/check_image.py tests/image/check_proxy.py

check: .venv/dev ## lint, formatting and types
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --diff .
	@.venv/bin/mypy
	@.venv/bin/hadolint Dockerfile
	@.venv/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml

# An unknown page, heading or file in a link is an error.
docs: .venv/dev ## the site of README and docs/, in build/docs
	@.venv/bin/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -c docs \
		-d build/doctrees . build/docs
	@echo '<meta http-equiv="refresh" content="0; url=docs/index.html">' >build/docs/index.html
	@echo "build/docs/index.html"

picture: .venv/dev ## the picture of the page in README, taken anew; it needs Chromium
	@cd tests && ../.venv/bin/python -m page.picture

# FIGURES=door,bulk measures some, ROWS=100000 stores fewer, SHORT=1 checks results and not times,
# RESUME=1 keeps what was measured before, PROFILE=1 says where the server's processor time goes.
BENCH = PYTHONPATH=tests .venv/bin/python -m benchmarks $(if $(FIGURES),--figures $(FIGURES)) \
	$(if $(ROWS),--rows $(ROWS)) $(if $(SHORT),--short) $(if $(RESUME),--resume) \
	$(if $(PROFILE),--profile)

bench: .venv/dev $(if $(SHORT),,.venv-bench/done) ## the table of speeds, each beside another's
	@$(BENCH)

SEEDS ?= 3
KILLS ?= 200
PAUSES ?= 1
FIRST ?= 0

KINDS ?= days processes memory

soak: .venv/dev ## SEEDS=n worlds of faults, KILLS=n and PAUSES=n at exact points, and the books
	@cd tests && ../.venv/bin/python -m soak --seeds $(SEEDS) --first $(FIRST) --kinds $(KINDS)
	@cd tests && ../.venv/bin/python -m soak.kills --kills $(KILLS) --pauses $(PAUSES) --first $(FIRST)

SECONDS ?= 60

attack: .venv/dev ## every attack at once for SECONDS=n, and what an honest caller noticed
	@cd tests && ../.venv/bin/python -m attack --seconds $(SECONDS) $(if $(ATTACKS),--attacks $(ATTACKS))

CASES ?= 100
SEED ?= 0

fuzz: .venv/dev ## CASES=n for each operation of our OpenAPI document, as many odd bodies, and as many framings
	@cd tests && ../.venv/bin/python -m security.schemathesis_run --cases $(CASES) --seed $(SEED)
	@CASES=$(CASES) .venv/bin/pytest -q tests/security/test_fuzz.py tests/security/test_framing_fuzz.py

# What the image installs, with the hash of each file. Written anew when dependencies change.
LOCK := uv pip compile --quiet --no-header --no-emit-index-url --generate-hashes --universal \
	--python-version 3.13

lock: .venv/audit ## write deploy/*.lock anew: what the image is made of; UPGRADE=1 takes newer versions
	@cd deploy && PATH="$(CURDIR)/.venv/bin:$$PATH" && \
		$(LOCK) $(if $(UPGRADE),--upgrade) ../pyproject.toml --extra server --extra otel \
			--output-file requirements.lock && \
		$(LOCK) $(if $(UPGRADE),--upgrade) build.in --output-file build.lock

audit: .venv/audit $(NODE_MODULES) ## ask the registries for known faults of what is locked
	@.venv/bin/python scripts/audit.py

sbom: .venv/audit ## what the image holds, as CycloneDX, in build/sbom.json
	@mkdir -p build
	@.venv/bin/cyclonedx-py requirements deploy/requirements.lock --pyproject pyproject.toml \
		--output-reproducible --output-format JSON --output-file build/sbom.json
	@echo build/sbom.json

# ----- virtual environments, made once and again when pyproject.toml changes -----

.venv/server: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found." \
		"Install one, or name it: make PYTHON=/path/to/python3 …" >&2; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version), once …"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python $(PIP) install -e '.[server]'
	@touch $@

# `--group` needs a newer pip than the one that Python 3.11 brings.
.venv/dev: .venv/server
	@echo "Adding the tools to .venv, once …"
	@.venv/bin/python $(PIP) install --upgrade pip
	@.venv/bin/python $(PIP) install --group dev
	@touch $@

.venv/audit: .venv/dev
	@.venv/bin/python $(PIP) install --group audit
	@touch $@

.venv-openai2/dev: .venv/server
	@echo "Setting up .venv-openai2, once …"
	@$(PYTHON) -m venv .venv-openai2
	@.venv-openai2/bin/python $(PIP) install --upgrade pip
	@.venv-openai2/bin/python $(PIP) install -e '.[server]' --group dev 'openai<3'
	@touch $@

# They are large, and are not compiled: only a part of them is used. One that cannot be installed is
# said to be missing, and the tests of the others run.
.venv-sdks/done: GROUPS_HERE := $(SDKS)
.venv-evals/done: GROUPS_HERE := $(EVALS)
.venv-sdks/done .venv-evals/done: .venv-%/done: pyproject.toml
	@echo "Setting up .venv-$*, once …"
	@$(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python $(PIP) install --upgrade pip
	@.venv-$*/bin/python $(PIP) install --no-compile --group pytest
	@.venv-$*/bin/python $(PIP) install --no-compile $(GROUPS_HERE:%=--group %) || \
		for sdk in $(GROUPS_HERE); do .venv-$*/bin/python $(PIP) install --no-compile --group $$sdk || \
		echo "Without the tests of $$sdk: it cannot be installed here, as pip says above."; done
	@touch $@

# What is measured beside us, and the profiler: by no means dependencies.
.venv-bench/done: .venv/server
	@echo "Setting up .venv-bench, once …"
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python $(PIP) install 'autobatcher[serve]' py-spy
	@touch $@

# ----- the same for the TypeScript client -----

$(NODE_MODULES): $(TYPESCRIPT)/package.json $(TYPESCRIPT)/package-lock.json
	@echo "Setting up $(TYPESCRIPT)/node_modules, once …"
	@cd $(TYPESCRIPT) && npm ci --silent
	@touch $@
