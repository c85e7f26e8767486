# Every target makes its own virtual environment first: `make demo` works on a machine with Python only, `make test` with Chromium besides.
# Python 3.11 to 3.14; DGL has wheels for 3.11 and 3.12. Choose one with `make PYTHON=python3.12 test`.

PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/demo
DATA ?= data/tiktok
SEEDS ?= 1 2 3
PIP_OPTIONS ?=
PROCESSES ?= 2

# Where this is set, every process that a command or test starts compiles the package anew.
export PYTHONDONTWRITEBYTECODE :=

BIN := $(VENV)/bin
MMSSL := $(BIN)/mmssl-dist
STAMP := $(VENV)/.installed

.PHONY: help setup demo quick quick-tests quick-without-dgl test lint types test-calls pytest tiktok accuracy adversarial tuned fuzz rate files chaos soak bench against gpu hundred serving site pictures newcomer clean

help:
	@echo "make demo     synthesize a small data set, run the whole pipeline with 2 workers, print the metrics"
	@echo "make quick    ruff, mypy --strict and the tests that start no process, server or cluster (two minutes)"
	@echo "make quick-without-dgl  the same tests in a copy of the environment that has no DGL"
	@echo "make test     ruff, mypy --strict and every test"
	@echo "make lint     ruff alone: formatting and rules"
	@echo "make types    mypy --strict alone"
	@echo "make test-calls  that tests and benchmarks call what there is, with the arguments that it takes"
	@echo "make pytest   the tests alone, by PROCESSES=2 at a time; ARGS=... goes to pytest"
	@echo "make tiktok   train on TikTok, DATA=folder, three seeds, and the mean of their metrics; writes runs/tiktok/"
	@echo "make accuracy every experiment of docs/accuracy.md (hours), and their table; DATA=folder; writes runs/accuracy/"
	@echo "make adversarial  the adversarial perturbation on up to four data sets (hours); DATA='--data TikTok=run ...', runs that are partitioned; writes runs/adversarial/"
	@echo "make tuned    search settings for every baseline and MMSSL by the same number of trials each (hours); DATA=folder; writes runs/tuned/"
	@echo "make fuzz     feed 2,000 random examples each to the readers of jobs, tables, features and ids (an hour or less)"
	@echo "make rate     read 1 GB of Parquet from an S3 server on this machine: pyarrow's rate and prepare's"
	@echo "make files    prepare 300 small files and one file of the same rows, and show the ratio of the times"
	@echo "make chaos    faults at every stage, and what came of them; as root, for its full disk (an hour);"
	@echo "              resumes where it was cut short; runs/chaos.json records what is done"
	@echo "make soak     an hour of training with a kill every five minutes"
	@echo "make bench    speed and memory beside the plain way to do the same (minutes), DATA=folder for TikTok's figure;"
	@echo "              writes docs/benchmarks.md"
	@echo "make against  a step, sampling, their kernels and two workers beside another version in BASE=folder, in turns"
	@echo "              (minutes); writes docs/results/speed.json and two_workers.json"
	@echo "make gpu      on a machine with one: training on the GPU beside training on the CPU, and the time of a step,"
	@echo "              drawn on the GPU and by DGL"
	@echo "make hundred  synthesize, prepare and partition 100 million interactions of 5 million users (half an hour,"
	@echo "              12 GB of memory, 40 GB of disk); writes runs/hundred/"
	@echo "make serving  load the HTTP service with wrk for five minutes, over 1,000,000 items made up; ARGS=... goes to it"
	@echo "make site     the documents as a web site, in site/"
	@echo "make pictures  run the demo and a small shop, and draw docs/images/*.png; needs Chromium"
	@echo "make newcomer  the way of somebody new, in a fresh clone: install, demo, and docs/own-data.md line by line"
	@echo "make clean    remove runs, demo data and caches; keeps the virtual environment"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 15) else \
	    "$(PYTHON) is Python %d.%d; mmssl-dist needs 3.11 to 3.14. Use: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt -e '.[test]'
	$(BIN)/python -m mmssl_dist.kernels.compile_all
	@touch $@

demo: $(STAMP)
	$(MMSSL) synthesize $(RUN)/raw --seed 7
	$(MMSSL) run jobs/demo.yaml --set data.path=$(RUN)/raw --set output=$(RUN)/output

quick: $(STAMP)
	@$(MAKE) --no-print-directory -j2 lint types quick-tests

quick-tests: $(STAMP)
	$(BIN)/python -m pytest tests/unit tests/oracle --quick -q -n $(PROCESSES) --dist loadfile $(ARGS)

# Hard links, so that the copy takes no time and no disk; what is removed there stays here.
quick-without-dgl: $(STAMP)
	rm -rf $(VENV)-without-dgl
	mkdir $(VENV)-without-dgl
	cp -al $(VENV)/. $(VENV)-without-dgl/
	rm -rf $(VENV)-without-dgl/lib/python*/site-packages/dgl $(VENV)-without-dgl/lib/python*/site-packages/dgl-*
	$(VENV)-without-dgl/bin/python -m pytest tests/unit tests/oracle --quick --without-dgl -q -n $(PROCESSES) --dist loadfile $(ARGS)
	rm -rf $(VENV)-without-dgl

test: lint types test-calls pytest

lint: $(STAMP)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy --strict mmssl_dist

# Of the tests' types these alone, so that a change of a function or class finds everything that calls it.
test-calls: $(STAMP)
	$(BIN)/mypy --config-file tests/mypy.ini tests benchmarks

pytest: $(STAMP)
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder --max-worker-restart 2 --durations=25 $(ARGS)

tiktok: $(STAMP)
	@test -d "$(DATA)" || { echo "no folder $(DATA); call: make tiktok DATA=folder (MMSSL's release of TikTok)" >&2; exit 2; }
	for seed in $(SEEDS); do \
	    $(MMSSL) run jobs/tiktok.yaml --set data.path=$(DATA) --set seed=$$seed --set output=runs/tiktok/seed-$$seed || exit $$?; \
	done
	$(MMSSL) summarize $(SEEDS:%=runs/tiktok/seed-%)

accuracy: $(STAMP)
	@test -d "$(DATA)" || { echo "no folder $(DATA); call: make accuracy DATA=folder (MMSSL's release of TikTok)" >&2; exit 2; }
	$(BIN)/python benchmarks/accuracy.py benchmarks/accuracy.yaml runs/accuracy --set data.path=$(DATA)

adversarial: $(STAMP)
	@test -n "$(findstring =,$(DATA))" || { echo "no data set; call: make adversarial DATA='--data TikTok=run ...', see benchmarks/single_process.py" >&2; exit 2; }
	$(BIN)/python benchmarks/single_process.py benchmarks/adversarial.yaml runs/adversarial $(DATA)

tuned: $(STAMP)
	@test -d "$(DATA)" || { echo "no folder $(DATA); call: make tuned DATA=folder (MMSSL's release of TikTok)" >&2; exit 2; }
	$(BIN)/python benchmarks/tuned_baselines.py benchmarks/tuned_baselines.yaml runs/tuned --set data.path=$(DATA)

fuzz: $(STAMP)
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile=fuzz --durations=0 --timeout=3600 $(ARGS)

rate: $(STAMP)
	$(BIN)/python -m tests.benchmarks.read_rate

files: $(STAMP)
	$(BIN)/python -m tests.benchmarks.many_files $(ARGS)

chaos: $(STAMP)
	$(BIN)/python -m tests.reliability.campaign --out runs/chaos.json

soak: $(STAMP)
	$(BIN)/python -m tests.reliability.soak --out runs/soak.json

bench: $(STAMP)
	$(BIN)/python benchmarks/speed.py $(if $(wildcard $(DATA)),--tiktok $(DATA))

against: $(STAMP)
	@test -d "$(BASE)" || { echo "no folder $(BASE); call: make against BASE=folder (a checkout of this project)" >&2; exit 2; }
	$(BIN)/python benchmarks/against.py $(BASE) $(ARGS)
	$(BIN)/python benchmarks/two_workers.py $(BASE)

gpu: $(STAMP)
	$(BIN)/python -m pytest tests/gpu/devices.py $(ARGS)
	$(BIN)/python benchmarks/gpu.py cuda 100k,1M training.sampler=device
	$(BIN)/python benchmarks/gpu.py cuda 100k,1M training.sampler=dgl

HUNDRED := jobs/million.yaml --set data.path=runs/hundred/raw --set output=runs/hundred/output --set data.buckets=16 \
    --set partition.workers=3

hundred: $(STAMP)
	mkdir -p runs/hundred
	$(BIN)/python benchmarks/stage_memory.py run runs/hundred/synthesize.json $(MMSSL) synthesize runs/hundred/raw \
	    --users 5000000 --items 1000000 --interactions 100000000 --modality image=128 --modality text=64
	for stage in prepare partition; do \
	    $(BIN)/python benchmarks/stage_memory.py run runs/hundred/$$stage.json $(MMSSL) $$stage $(HUNDRED) || exit $$?; \
	done
	$(BIN)/python benchmarks/stage_memory.py table runs/hundred/stages.json \
	    $(foreach stage,synthesize prepare partition,$(stage)=runs/hundred/$(stage).json)

serving: $(STAMP)
	$(BIN)/python -m tests.benchmarks.serving --replicas 2 $(ARGS)

site: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: $(STAMP)
	$(BIN)/python docs/pictures.py

newcomer:
	folder=$$(mktemp -d) && git clone -q . $$folder/mmssl-dist && cd $$folder/mmssl-dist && $(MAKE) demo && \
	    .venv/bin/python -m pytest tests/end_to_end/test_own_data.py && rm -rf $$folder

clean:
	rm -rf runs demo build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
