# rollforward: what one types. `make deps` brings what a target needs, by apt, when it is missing.
PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
# Most tests wait for servers half of the time. So many of each test file at once, and as many test
# files at once as there are cores.
TEST_THREADS ?= 3
# The servers the tests run on, those of the target without a name: `mariadb` is the machine's own;
# or one that scripts/servers unpacks, or a directory whose bin holds another one.
TEST_SERVER ?=
TEST_FLAGS ?=
# Of `make torture` and `make random`; without SEED the clock says one, without ROUND all are done.
ROUNDS ?= 200
SEED ?=
ROUND ?=
# Of `make demo`, `make load`, `make random` and `make torture`: mariadb or mysql.
FLAVOR ?= mariadb
BIN = target/release/rollforward
SUITE = TEST_THREADS='$(TEST_THREADS)' CARGO='$(CARGO)' scripts/suite
PAGES = $(wildcard man/*.[1-9])
MAN = $(DESTDIR)$(PREFIX)/share/man
EXAMPLES = $(DESTDIR)$(PREFIX)/share/doc/rollforward/examples
UNITS = $(DESTDIR)$(PREFIX)/lib/systemd/system
SCRIPTS = scripts/bench scripts/bench-tools scripts/deps scripts/demo scripts/emergency scripts/fuzz scripts/servers scripts/suite \
	scripts/promtool scripts/deb dist/debian/postinst dist/debian/prerm dist/debian/postrm \
	dist/examples/nightly.sh dist/examples/after-webhook.sh \
	scripts/s3-server dist/mirror/rollforward-mirror \
	scripts/kubernetes dist/container/collect tests/support/container.sh tests/support/systemd.sh

all:
	$(CARGO) build --release --locked

# A program without shared libraries, for images that have none. Names are looked up by what is
# linked in: /etc/hosts and name servers.
STATIC = target/static/release/rollforward
static:
	$(CARGO) rustc --release --locked --target-dir target/static --bin rollforward -- \
		-C target-feature=+crt-static

# It as PID 1 of the image that dist/container makes of it; lists the files of that.
image-test: static
	scripts/deps --quiet
	ROLLFORWARD_STATIC=$(STATIC) $(CARGO) test --locked --test suite $(TEST_FLAGS) container:: -- --nocapture

deps:
	scripts/deps
	scripts/promtool

check:
	scripts/deps --quiet
	$(CARGO) fmt --check
	cd fuzz && $(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	# Without the C++ of the fuzzer itself: do its targets fit to our files? In the same directory,
	# for the crates that both have.
	cd fuzz && CUSTOM_LIBFUZZER_PATH=/dev/null $(CARGO) check --quiet --locked --bins \
		--target-dir ../target
	scripts/house
	shellcheck $(SCRIPTS) completions/rollforward.bash .ci/run
	mandoc -Tlint -Wwarning $(PAGES)

# tests/TIERS says which test runs in which of the next four.
#
# The unit tests, what needs no server, and the machine's own MariaDB, or TEST_SERVER: less than ten
# minutes on two cores. lintian comes with a hundred small packages; its test is skipped without,
# except in CI.
test:
	scripts/deps --quiet $(if $(CI),--deb)
	$(SUITE) --tier=test $(TEST_SERVER)

# What servers do differently, on MariaDB 11.8 and MySQL 9.7, or TEST_SERVER: some ten minutes.
test-servers:
	scripts/deps --quiet
	$(SUITE) --tier=servers $(TEST_SERVER)

# Everything on every server, or on TEST_SERVER: also torture, leaks, memory, injected faults, load.
test-long:
	scripts/deps --quiet $(if $(CI),--deb)
	$(SUITE) --tier=long $(TEST_SERVER)

# Of what only `make test-long` runs, the part whose turn it is today: all of it within three weeks.
test-share:
	scripts/deps --quiet
	$(SUITE) --tier=share $(TEST_SERVER)

# Rounds of kills on a primary that is written to: `make torture ROUNDS=200 SEED=7`. A round that
# failed is had again by SEED and ROUND. On MySQL with FLAVOR=mysql.
torture load: TEST_SERVER = $(if $(filter mysql,$(FLAVOR)),mysql-9.7)
torture:
	$(if $(filter-out mysql mariadb,$(FLAVOR)),$(error FLAVOR is mariadb or mysql, not $(FLAVOR)))
	scripts/deps --quiet
	$(if $(TEST_SERVER),scripts/servers $(TEST_SERVER))
	ROLLFORWARD_TEST_SERVER='$(TEST_SERVER)' ROUNDS='$(ROUNDS)' SEED='$(SEED)' ROUND='$(ROUND)' \
		$(CARGO) test --locked --test suite $(TEST_FLAGS) torture::after_any_kill -- --nocapture \
		--test-threads=1

# Random schemas and statements, dumped, replayed and compared: `make random ROUNDS=100 SEED=7`. A round
# that failed is had again by SEED and ROUND. On MySQL with FLAVOR=mysql.
random: TEST_SERVER = $(if $(filter mysql,$(FLAVOR)),mysql-9.7)
random:
	$(if $(filter-out mysql mariadb,$(FLAVOR)),$(error FLAVOR is mariadb or mysql, not $(FLAVOR)))
	scripts/deps --quiet
	$(if $(TEST_SERVER),scripts/servers $(TEST_SERVER))
	ROLLFORWARD_TEST_SERVER='$(TEST_SERVER)' ROUNDS='$(ROUNDS)' SEED='$(SEED)' ROUND='$(ROUND)' \
		$(CARGO) test --locked --test suite $(TEST_FLAGS) random:: -- --nocapture --test-threads=1

# First backups and passes under load, by dump and by clone, of half a million rows; `make test-long`
# has fewer.
load:
	$(if $(filter-out mysql mariadb,$(FLAVOR)),$(error FLAVOR is mariadb or mysql, not $(FLAVOR)))
	scripts/deps --quiet
	$(if $(TEST_SERVER),scripts/servers $(TEST_SERVER))
	ROLLFORWARD_TEST_SERVER='$(TEST_SERVER)' ROLLFORWARD_ROWS=500000 \
		$(CARGO) test --locked --test suite $(TEST_FLAGS) under_load_equal -- --nocapture \
		--test-threads=1

demo:
	scripts/deps --quiet --data
	FLAVOR='$(FLAVOR)' CARGO='$(CARGO)' scripts/demo

# Another BIN is installed as it is: `make install BIN=target/debug/rollforward`.
install: $(if $(filter target/release/rollforward,$(BIN)),all)
	install -d $(DESTDIR)$(PREFIX)/bin
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/rollforward
	install -m 755 dist/mirror/rollforward-mirror $(DESTDIR)$(PREFIX)/bin/rollforward-mirror
	for page in $(PAGES); do \
		install -D -m 644 "$$page" "$(MAN)/man$${page##*.}/$${page##*/}" || exit; done
	install -m 644 completions/rollforward.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/rollforward
	install -d $(UNITS) $(DESTDIR)$(PREFIX)/lib/sysusers.d
	install -m 644 dist/systemd/*.service dist/systemd/*.timer $(UNITS)
	sed -i 's|/usr/local/bin/|$(PREFIX)/bin/|' $(UNITS)/rollforward*.service
	install -m 644 dist/systemd/rollforward.sysusers \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d/rollforward.conf
	install -d $(DESTDIR)$(PREFIX)/share/rollforward
	install -m 644 dist/monitoring/rollforward.* $(DESTDIR)$(PREFIX)/share/rollforward
	install -D -m 644 dist/rollforward.cnf $(EXAMPLES)/rollforward.cnf

# Removes what `make install` with the same DESTDIR and PREFIX installed; no backup, no option file.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/rollforward $(DESTDIR)$(PREFIX)/bin/rollforward-mirror
	for page in $(PAGES); do rm -f "$(MAN)/man$${page##*.}/$${page##*/}"; done
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/rollforward
	rm -f $(addprefix $(UNITS)/,$(notdir $(wildcard dist/systemd/*.service dist/systemd/*.timer)))
	rm -f $(DESTDIR)$(PREFIX)/lib/sysusers.d/rollforward.conf
	rm -rf $(DESTDIR)$(PREFIX)/share/rollforward
	rm -f $(EXAMPLES)/rollforward.cnf

# A package for Debian below target/deb, of another BIN as with install; its test runs lintian.
deb:
	scripts/deps --quiet --deb
	BIN='$(BIN)' CARGO='$(CARGO)' scripts/deb

deb-check:
	scripts/deps --quiet --deb
	$(CARGO) test --locked --test suite deb::

# The figures of doc/performance.md: `make bench SIZE=10G STEPS="idle restore"`; see scripts/bench.
bench:
	scripts/deps --quiet --bench
	$(if $(SIZE),SIZE='$(SIZE)') FLAVOR='$(FLAVOR)' CARGO='$(CARGO)' scripts/bench $(STEPS)

# What `make test-long` does with 20 passes, with 200.
leaks:
	ROLLFORWARD_PASSES=200 $(CARGO) test --locked --test suite leaks:: -- --nocapture

# Is the time left that a terminal is shown the true one?
estimates:
	$(CARGO) test --locked --test suite estimates:: -- --ignored --nocapture

# All targets for half a minute each, or `make fuzz TARGET=manifest SECONDS=600`.
fuzz:
	scripts/fuzz '$(TARGET)' '$(SECONDS)'

# The same of a primary that lies, for ten minutes: `make fuzz-primary SECONDS=60 SEED=7`.
fuzz-primary:
	scripts/deps --quiet
	ROLLFORWARD_FUZZ_SECONDS='$(or $(SECONDS),600)' SEED='$(SEED)' \
		$(CARGO) test --locked --test suite hostile::fuzz -- --nocapture

# Stops at random moments: `make stops ROUNDS=200 SEED=7`. On MySQL with FLAVOR=mysql.
stops: TEST_SERVER = $(if $(filter mysql,$(FLAVOR)),mysql-9.7)
stops:
	$(if $(filter-out mysql mariadb,$(FLAVOR)),$(error FLAVOR is mariadb or mysql, not $(FLAVOR)))
	scripts/deps --quiet
	$(if $(TEST_SERVER),scripts/servers $(TEST_SERVER))
	ROLLFORWARD_TEST_SERVER='$(TEST_SERVER)' ROUNDS='$(ROUNDS)' SEED='$(SEED)' \
		$(CARGO) test --locked --test suite stops:: -- --nocapture

clean:
	$(CARGO) clean

.PHONY: all static image-test deps check test test-servers test-long test-share torture random load demo bench install uninstall deb deb-check fuzz fuzz-primary stops leaks estimates clean
