# What people and CI call. GNU make; Python 3.11 to 3.13 is found or named: make run PYTHON=/path/to/python3.11

VENV := .venv
PY := $(VENV)/bin/python
PORT ?= 8000
DATA ?= var/berth
PYTHON ?=
UV := 0.13.9

.PHONY: run test test-postgres production-test check demo screenshots chaos oracle fuzz bench lab lab-stop lab-test lab-test-full lock password clean help

help: ## what there is
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 14

run: $(VENV)/run.stamp ## the whole product on this machine: make run [PORT=8010] [DATA=FOLDER]
	@exec $(PY) -m vps.quickstart --data-dir "$(DATA)" --port "$(PORT)"

test: $(VENV)/dev.stamp ## all tests, on two cores: make test [WORKERS=4]; or some of them: make test [T="tests/xen -k menu"]
	$(PY) -m pytest $(or $(T),-n $(or $(WORKERS),2) --dist loadfile)

production-test: $(VENV)/dev.stamp ## nginx, PostgreSQL, Redis by TLS, S3, two of each node: make production-test [T="-k upload"]
	BERTH_PRODUCTION=1 $(PY) -m pytest tests/production --durations=0 --durations-min=5 $(T)

test-postgres: $(VENV)/dev.stamp ## the tests that touch a database, on PostgreSQL (Debian: apt-get install postgresql)
	$(PY) -m tests.postgres $(PY) -m pytest $(or $(T),-n $(or $(WORKERS),2) --dist loadfile tests/web)

check: $(VENV)/dev.stamp ## form, types, migrations, seams
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m bandit -q -c pyproject.toml -r vps accounts manage.py
	DJANGO_SETTINGS_MODULE=tests.settings $(PY) manage.py makemigrations --check --dry-run
	$(PY) -m pytest -q tests/test_seams.py

demo: $(VENV)/dev.stamp ## the whole way, a line for each step: make demo [ARGS="--url http://localhost:8000 ..."]
	@$(PY) -m tests.story.demo $(ARGS)

screenshots: $(VENV)/dev.stamp ## the pictures in docs/screenshots, made anew; needs Chromium
	@$(PY) -m tests.story.screenshots

chaos: $(VENV)/dev.stamp ## kill everything at random, ten seeds or one: make chaos [OPERATIONS=500] [SEED=7]
	@$(PY) -m tests.chaos --operations $(or $(OPERATIONS),500) $(addprefix --seed ,$(SEED))

oracle: $(VENV)/dev.stamp ## inspection against libxenguest and GRUB (Debian: gcc, libxen-dev, grub-common): make oracle [ARGS="--full 0"]
	$(PY) -m tests.oracle $(ARGS)

# atheris only runs with its own interpreter's headers and is large: an environment of its own, beside the locks.
fuzz: build/fuzz/stamp ## fuzz inspection with atheris: make fuzz [SECONDS=3600]
	build/fuzz/bin/python -m tests.fuzz.inspect_kernels build/fuzz/corpus -max_total_time=$(or $(SECONDS),3600) \
	  -artifact_prefix=build/fuzz/

build/fuzz/stamp: | $(VENV)/bin/python
	$(PY) -m venv build/fuzz
	build/fuzz/bin/pip install --quiet 'atheris==3.0.0' zstandard lz4 lzallright
	@touch $@

bench: $(VENV)/dev.stamp ## measure: a table of each figure, its aim, met or not; make bench [NAMES="pages console"] [ARGS=--quick]
	@$(PY) bench/all.py $(ARGS) $(NAMES)

lab: $(VENV)/dev.stamp ## real Xen under QEMU, as a second dom0 of the product that runs: make lab [DATA=FOLDER]
	@$(PY) -m lab install-packages
	@$(PY) -m lab start --beside "$(DATA)"
	@$(PY) -m lab join --data "$(DATA)"

lab-stop: $(VENV)/dev.stamp ## end it
	@$(PY) -m lab stop

lab-test: $(VENV)/dev.stamp ## the product on real Xen, as CI runs it: make lab-test [T="-k story"]
	@$(PY) -m lab install-packages
	@$(PY) -m lab build
	BERTH_LAB=1 $(PY) -m pytest tests/lab -m lab_ci --durations=0 --durations-min=5 $(T)

lab-test-full: $(VENV)/dev.stamp ## all of tests/lab, with the whole boot matrix: make lab-test-full [T="-k own"]
	@$(PY) -m lab install-packages
	@$(PY) -m lab build
	BERTH_LAB=1 $(PY) -m pytest tests/lab --durations=0 --durations-min=5 $(T)

password: $(VENV)/run.stamp ## a new password in the quick start: make password NAME=owner@localhost
	@test -n "$(NAME)" || { echo "Whose? make password NAME=owner@localhost" >&2; exit 1; }
	@BERTH_QUICKSTART=1 BERTH_DATA_DIR="$(DATA)" BERTH_SECRET_KEY_FILE="$(DATA)/secrets/django" \
	  $(PY) manage.py changepassword "$(NAME)"

# The environment: only what the locks name, by hash. Made again when a lock changes.
$(VENV)/%.stamp: requirements/%.txt $(VENV)/bin/python
	@echo "Installing $< into $(VENV) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/bin/python:
	@for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3); do \
	  "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue; \
	  "$$python" -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "$$python cannot make an environment: Debian has that in a package of its own (apt-get install python3-venv)." >&2; \
	    exit 1; }; \
	  echo "Making $(VENV) with $$("$$python" --version) ..."; \
	  "$$python" -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }; \
	  exit 0; \
	done; \
	echo "Python 3.11, 3.12 or 3.13 is needed$(if $(PYTHON),; $(PYTHON) does not run or is another version,, and none was found).\
	 Name one: make run PYTHON=/path/to/python3.11 (Debian: apt-get install python3 python3-venv)" >&2; exit 1

# Newest versions that pyproject.toml allows: make lock UPGRADE=--upgrade
LOCK = UV_CUSTOM_COMPILE_COMMAND="make lock" build/lock/bin/uv pip compile --quiet --universal \
  --python-version 3.11 --generate-hashes --no-emit-index-url $(UPGRADE) pyproject.toml

lock: | $(VENV)/bin/python ## write requirements/ anew after a change of pyproject.toml
	@test -x build/lock/bin/uv || { $(PY) -m venv build/lock && build/lock/bin/pip install --quiet 'uv==$(UV)'; }
	$(LOCK) --extra agent -o requirements/agent.txt
	$(LOCK) --extra web --extra s3 -o requirements/web.txt
	$(LOCK) --extra web --extra agent --extra quickstart -o requirements/run.txt
	$(LOCK) --extra web --extra agent --extra quickstart --extra s3 --group dev -o requirements/dev.txt

clean: ## the environment and what tools left; never the data in var/
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
