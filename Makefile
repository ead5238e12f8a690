# rollforward: what one types. `make deps` brings what a target needs, by apt, when it is missing.
PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
# Most tests wait for servers most of the time; more at once fight for the disk.
TEST_THREADS ?= 3
TEST_FLAGS ?=
# Of `make torture`; without SEED the clock says one, without ROUND all are done.
ROUNDS ?= 200
SEED ?=
ROUND ?=
BIN = target/release/rollforward
SCRIPTS = scripts/deps scripts/house scripts/demo

all:
	$(CARGO) build --release --locked

deps:
	scripts/deps

check:
	scripts/deps --quiet
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	scripts/house
	shellcheck $(SCRIPTS) completions/rollforward.bash .ci/run
	mandoc -Tlint -Wwarning man/rollforward.8

test:
	scripts/deps --quiet
	$(CARGO) test --locked --no-fail-fast $(TEST_FLAGS) -- --test-threads=$(TEST_THREADS)

# Rounds of kills on a primary that is written to: `make torture ROUNDS=200 SEED=7`. A round that
# failed is had again by SEED and ROUND.
torture:
	scripts/deps --quiet
	ROUNDS='$(ROUNDS)' SEED='$(SEED)' ROUND='$(ROUND)' \
		$(CARGO) test --locked --test torture $(TEST_FLAGS) -- --nocapture --test-threads=1 whatever

demo:
	scripts/deps --quiet --data
	CARGO='$(CARGO)' scripts/demo

# Another BIN is installed as it is: `make install BIN=target/debug/rollforward`.
install: $(if $(filter target/release/rollforward,$(BIN)),all)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man8
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/rollforward
	install -m 644 man/rollforward.8 $(DESTDIR)$(PREFIX)/share/man/man8/rollforward.8
	install -m 644 completions/rollforward.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/rollforward

clean:
	$(CARGO) clean

.PHONY: all deps check test torture demo install clean
