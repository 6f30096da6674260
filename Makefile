# Two commands on a fresh machine: `make grok` and `make test`. Each sets itself up.
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_DOCS := $(VENV)/.installed-docs

.PHONY: grok test slow coverage check bench notebooks figures docs clean

grok: $(INSTALLED)
	$(BIN)/python experiments/grok_modadd.py

test: $(INSTALLED_DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope

slow: $(INSTALLED_DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope --slow

coverage: $(INSTALLED_DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope --cov

check: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(MAKE) test

bench: $(INSTALLED)
	$(BIN)/python benchmarks/bench.py

notebooks: $(INSTALLED_DEV)
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 notebooks

# needs a browser, as all pictures do
figures: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt kaleido
	$(BIN)/python experiments/figures.py

# site/ is whole: index.html opens from disk or any host, with the pictures and records it shows;
# what it would load from another host, or from outside of it, is an error
docs: $(INSTALLED_DOCS)
	$(BIN)/zensical build --strict --clean
	mkdir site/figures site/experiments
	cp figures/*.png figures/*.source.json site/figures
	cp experiments/*.expected.json site/experiments
	sed -i -E 's#"\.\./(figures|experiments)/#"\1/#g' site/*.html
	! grep -oE '"\.\./[^"]*"' site/*.html
	! grep -rE '<(script|link|img|iframe|source)[^>]*=.?https?:' --include='*.html' site

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) results site .cache .pytest_cache .ruff_cache
