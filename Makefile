# What there is to do; `make` alone lists it. The work is in scripts/.

PREFIX ?= /usr/local
DESTDIR ?=
SYSCONFDIR ?= /etc
# systemd looks below /usr and /usr/local; for any other prefix the units go to /etc.
LIBDIR = $(if $(filter /usr /usr/local,$(PREFIX)),$(PREFIX)/lib,/etc)
UNITDIR ?= $(LIBDIR)/systemd/system
SYSUSERSDIR ?= $(LIBDIR)/sysusers.d
EXPERIMENT ?= timeline
SYSTEMS ?=
RUN ?=
LIBPAXOS_DIR ?=
QUICK ?=
PEERS ?=
BARS ?=
REPEATS ?=
SEEDS ?= 1000
FIRST ?= 1
PAGES ?=
SEED ?=

.PHONY: help build rocksdb demo test sim model torture fuzz check fix bench mininet-experiment report notebooks install uninstall clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed 's/:.*## /|/' | \
	while IFS='|' read -r name text; do printf '  make %-20s %s\n' "$$name" "$$text"; done

build: ## the release binary: target/release/loggos
	@scripts/build.sh

rocksdb: ## target/rocksdb/release/loggos, keys in RocksDB
	@scripts/rocksdb.sh build

demo: build ## three nodes on this machine, and a leader that dies
	@target/release/loggos demo

test: ## all that checks the project; as root with Mininet
	@scripts/test.sh

sim: ## clusters from seeds: SEEDS=1000 FIRST=1 (or fresh)
	@scripts/sim.sh --seeds $(SEEDS) --first $(FIRST)

model: ## every order of events in small clusters: minutes
	@scripts/model.sh

torture: build ## real nodes under random faults: SECONDS=180 SEED=
	@scripts/torture.sh $(or $(SECONDS),180) $(SEED)

fuzz: ## all that reads bytes, by coverage: SECONDS=60
	@scripts/fuzz.sh $(or $(SECONDS),60)

check: ## formatting and lints, edits nothing
	@scripts/check.sh

fix: ## formats, and repairs what lints can
	@scripts/fix.sh

mininet-experiment: ## as root: EXPERIMENT=steady (list, all) SYSTEMS=all
	@SYSTEMS="$(SYSTEMS)" RUN="$(RUN)" LIBPAXOS_DIR="$(LIBPAXOS_DIR)" QUICK=$(QUICK) \
	  REPEATS=$(REPEATS) scripts/experiment.sh $(EXPERIMENT)

bench: ## speed bars: PEERS=etcd,redis BARS=puts,... QUICK=1
	@PEERS="$(PEERS)" BARS="$(BARS)" REPEATS=$(REPEATS) QUICK=$(QUICK) scripts/bench.sh

report: ## results/README.md, report.html, of all published
	@scripts/report.sh

notebooks: ## opens them in JupyterLab; PAGES=1: as pages of HTML
	@PAGES=$(PAGES) scripts/notebooks.sh

install: ## binary, units, configuration: PREFIX= DESTDIR=
	@test -x target/release/loggos || { echo "install: run 'make build' first" >&2; exit 1; }
	install -D -m 755 target/release/loggos $(DESTDIR)$(PREFIX)/bin/loggos
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(SYSCONFDIR)/loggos
	for unit in loggos.service loggos@.service; do \
	  sed 's|^ExecStart=/usr/local/bin/|ExecStart=$(PREFIX)/bin/|' "systemd/$$unit" >"$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; \
	  chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit"; \
	done
	install -m 644 systemd/loggos.sysusers.conf $(DESTDIR)$(SYSUSERSDIR)/loggos.conf
	@# The configuration of an installed node is never overwritten; the newest example lies beside it.
	install -m 644 systemd/loggos.toml $(DESTDIR)$(SYSCONFDIR)/loggos/loggos.toml.example
	test -e $(DESTDIR)$(SYSCONFDIR)/loggos/loggos.toml || \
	  install -m 644 systemd/loggos.toml $(DESTDIR)$(SYSCONFDIR)/loggos/loggos.toml
	@# Into a package's tree (DESTDIR) no user is added; the package does that when it is installed.
	test -n "$(DESTDIR)" || ! command -v systemd-sysusers >/dev/null || systemd-sysusers $(SYSUSERSDIR)/loggos.conf
	test -n "$(DESTDIR)" || ! test -d /run/systemd/system || systemctl daemon-reload

uninstall: ## takes away what install put there, no data
	rm -f $(DESTDIR)$(PREFIX)/bin/loggos $(DESTDIR)$(UNITDIR)/loggos.service $(DESTDIR)$(UNITDIR)/loggos@.service
	rm -f $(DESTDIR)$(SYSUSERSDIR)/loggos.conf $(DESTDIR)$(SYSCONFDIR)/loggos/loggos.toml.example
	test -n "$(DESTDIR)" || ! test -d /run/systemd/system || systemctl daemon-reload
	@echo "left in place: $(DESTDIR)$(SYSCONFDIR)/loggos/loggos.toml, /var/lib/loggos and the user loggos"

clean: ## removes what can be made again; results stay
	rm -rf target .venv python/.pytest_cache
	find python mininet -name __pycache__ -type d -exec rm -rf {} +
