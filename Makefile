# make demo                      a whole federation on this machine, on synthetic phantoms
# make demo DATA=DIR             the same on DIR/{train,test}/{NORMAL,PNEUMONIA}
# make check test                what CI runs (.ci/run); TESTS_AT_ONCE=0: in one process

CLIENTS = 3
ROUNDS = 5
DATA =
BENCH_TMP = /tmp/hilum-bench
TESTS_AT_ONCE = 3
CHAOS_MINUTES = 30
CHAOS_SEED = 0

READY = .venv/.installed
RUFF = .venv/bin/ruff

.PHONY: setup demo check format test docs bench chaos clean

setup: $(READY)
	@.ci/setup system

$(READY): pyproject.toml constraints.txt
	@.ci/setup python
	@touch $@

demo: setup
	@exec .venv/bin/fl-agg demo --clients $(CLIENTS) --rounds $(ROUNDS) $(if $(DATA),--data "$(DATA)")

check: $(READY)
	$(RUFF) format --check .
	$(RUFF) check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python docs/make_cli.py --check
	.venv/bin/python docs/draw_states.py --check

format: $(READY)
	$(RUFF) check --fix --exit-zero .
	$(RUFF) format .

test: setup
	@.ci/setup tests
	@exec .venv/bin/pytest -n $(TESTS_AT_ONCE) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# docs/ as a site in build/site that needs no network.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
	@echo "build/site/index.html"

bench: setup
	.venv/bin/python benchmarks/run_hilum.py --work W1 --clients 8 --size 0.25 --rounds 20 --guard 120 --tmp $(BENCH_TMP)
	.venv/bin/python benchmarks/run_hilum.py --work W1 --clients 8 --size 45 --rounds 5 --guard 300 --tmp $(BENCH_TMP)
	.venv/bin/python benchmarks/run_hilum.py --work W2 --clients 8 --rounds 10 --guard 300 --tmp $(BENCH_TMP)
	.venv/bin/python benchmarks/run_hilum.py --work W3 --clients 100 --rounds 20 --guard 300 --tmp $(BENCH_TMP)

# Half an hour of faults of every kind on a real federation, then the long hauls.
chaos: setup
	@.ci/setup tests
	.venv/bin/fl-sim chaos --minutes $(CHAOS_MINUTES) --seed $(CHAOS_SEED) --rounds 12 \
		--faults kill-agg,kill-edge,kill-broker,cut,slow,dup,stall,half-open
	HILUM_LONG=1 .venv/bin/pytest tests/e2e/test_long_haul.py tests/e2e/test_random_frames.py tests/faults

# Keeps runs/: those are results.
clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
