# make demo   set up and run the main job on what ships here: no key, no GPU, no network beyond packages
# make test   set up and run every check
# make lint   only ruff and mypy
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
DEMO := PREFDATA_STORE=demo/prefdata.duckdb $(BIN)/prefdata
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test lint setup clean-demo
setup: $(STAMP)

# torch first and on its own: from a plain index any looser request brings gigabytes of CUDA on Linux.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("prefdata needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade --target .venv/duckdb2 'duckdb==2.0.0'  # the locks are tested on both
	touch $(STAMP)

demo: $(STAMP)
	@mkdir -p demo
	$(DEMO) run pipelines/demo.yaml
	$(DEMO) train dpo demo/dpo --model sample_data/tiny-lm --out demo/policy --lr 1e-4 --epochs 1 --resume
	$(DEMO) train reward demo/rm --model sample_data/tiny-lm --out demo/reward --lr 3e-4 --epochs 2 --resume
	$(DEMO) report --out demo/report.html --training demo/policy --training demo/reward

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

clean-demo:
	rm -rf demo
