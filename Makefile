# doorward: `make demo` shows it, `make test` tests it. Both install the system packages they miss.

CARGO = cargo
HOST != rustc -vV | sed -n 's/^host: //p'

help:
	@echo "make demo       build, start everything on loopback, log in for real, stop, leave nothing"
	@echo "make test       every check and every test, short counts"
	@echo "make test-long  the same with full counts (races, kill rounds, replays)"
	@echo "make freebsd-check  type-check and link every program for FreeBSD"
	@echo "make fuzz       30 seconds at each parser of what strangers send (FUZZ_SECONDS)"
	@echo "make build      the programs, optimised, in target/release (pam-guard static)"
	@echo "make install    put what \`make build\` built below DESTDIR and PREFIX (packaging/README.md)"
	@echo "make uninstall  take it away again, without configuration and state"
	@echo "make try-install  the same in a Debian made by debootstrap: by hand and by systemd (root)"
	@echo "make dev        start everything on loopback until Ctrl-C"
	@echo "make proto      generate proto/src/generated anew from the .proto files"

build:
	$(CARGO) build --release --locked --workspace --bins
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --release --locked -p doorward-pam-guard \
		--target $(HOST) --target-dir target/static
	install -m 0755 target/static/$(HOST)/release/doorward-pam-guard target/release/doorward-pam-guard

demo:
	scripts/need-packages build demo
	$(CARGO) build --locked --workspace --bins
	demo/demo.sh target/debug

dev:
	scripts/need-packages build
	$(CARGO) build --locked --workspace --bins
	target/debug/doorward dev

test:
	scripts/need-packages build test
	# Checks of the tree look at the crates of every system, without the network.
	$(CARGO) fetch --locked
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	# With the whole workspace, so that only the two are checked again.
	$(CARGO) clippy --locked --workspace --all-targets \
		--features doorward-pam-guard/pam-wrapper,doorward-pam-worker/pam-wrapper -- -D warnings
	# All targets: with programs alone, other features, and every crate compiled twice.
	$(CARGO) build --locked --workspace --all-targets
	# All that fail are named, not only those of the first crate.
	$(CARGO) test --locked --workspace --no-fail-fast
	$(CARGO) test --locked -p doorward-pam-guard -p doorward-pam-worker \
		--features doorward-pam-guard/pam-wrapper,doorward-pam-worker/pam-wrapper \
		--target-dir target/pam-wrapper
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) test --locked -p doorward-pam-guard \
		--target $(HOST) --target-dir target/static

test-long:
	DOORWARD_LONG=1 $(MAKE) test
	$(MAKE) freebsd-check
	@if [ "$$(id -u)" -eq 0 ] && command -v debootstrap >/dev/null; then \
		scripts/try-install target/debug || exit 1; \
		if command -v systemd-nspawn >/dev/null; then exec scripts/try-install --systemd target/debug; fi; \
	fi; \
	if [ -n "$$DOORWARD_NO_SKIP" ]; then \
		echo "skipped although DOORWARD_NO_SKIP is set: try-install takes root, debootstrap, systemd-nspawn" >&2; exit 1; \
	fi; \
	echo "SKIPPED: try-install takes root, debootstrap, and with systemd systemd-nspawn (make try-install installs them)" >&2

# --- installing: packaging/README.md says what goes where -----------------------------------------------

DESTDIR =
PREFIX = /usr/local
SYSCONFDIR = /etc
LOCALSTATEDIR = /var
RUNDIR = /run
BINDIR = $(PREFIX)/bin
SBINDIR = $(PREFIX)/sbin
LIBEXECDIR = $(PREFIX)/libexec
MANDIR = $(PREFIX)/share/man
DOCDIR = $(PREFIX)/share/doc/doorward
UNITDIR = $(PREFIX)/lib/systemd/system
SYSUSERSDIR = $(PREFIX)/lib/sysusers.d
TMPFILESDIR = $(PREFIX)/lib/tmpfiles.d
RCDIR = $(PREFIX)/etc/rc.d
PAMDIR = $(SYSCONFDIR)/pam.d
LOGROTATEDIR = $(SYSCONFDIR)/logrotate.d
BASHCOMPDIR = $(PREFIX)/share/bash-completion/completions
ZSHCOMPDIR = $(PREFIX)/share/zsh/site-functions
FISHCOMPDIR = $(PREFIX)/share/fish/vendor_completions.d
# systemd, freebsd, none, or auto: what this system has.
INIT = auto
# debian, redhat, generic, freebsd, none, or auto.
PAM = auto
BUILT = target/release

INSTALL_VARIABLES = DESTDIR='$(DESTDIR)' SYSCONFDIR='$(SYSCONFDIR)' LOCALSTATEDIR='$(LOCALSTATEDIR)' \
	RUNDIR='$(RUNDIR)' BINDIR='$(BINDIR)' SBINDIR='$(SBINDIR)' LIBEXECDIR='$(LIBEXECDIR)' \
	MANDIR='$(MANDIR)' DOCDIR='$(DOCDIR)' UNITDIR='$(UNITDIR)' SYSUSERSDIR='$(SYSUSERSDIR)' \
	TMPFILESDIR='$(TMPFILESDIR)' RCDIR='$(RCDIR)' PAMDIR='$(PAMDIR)' LOGROTATEDIR='$(LOGROTATEDIR)' \
	BASHCOMPDIR='$(BASHCOMPDIR)' ZSHCOMPDIR='$(ZSHCOMPDIR)' FISHCOMPDIR='$(FISHCOMPDIR)' \
	INIT='$(INIT)' PAM='$(PAM)' BUILT='$(BUILT)'

install:
	@$(INSTALL_VARIABLES) scripts/install install

uninstall:
	@$(INSTALL_VARIABLES) scripts/install uninstall

# Installs into a Debian made by debootstrap, starts the services there by hand, then boots it, so that systemd
# starts them, and logs in each time. As root.
try-install:
	scripts/need-packages build install
	$(MAKE) build
	scripts/try-install target/release
	scripts/try-install --systemd target/release

freebsd-check:
	scripts/freebsd-check

FUZZ_SECONDS = 30
fuzz:
	cargo fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz
	for target in $$(ls fuzz/libfuzzer/fuzz_targets | sed 's/\.rs$$//'); do \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir fuzz/libfuzzer $$target -- -max_total_time=$(FUZZ_SECONDS) \
			-rss_limit_mb=1024 -timeout=5 -max_len=20000 || exit 1; \
	done

proto:
	UPDATE_PROTO=1 $(CARGO) test -p doorward-proto --test generated

.PHONY: help build demo dev test test-long install uninstall try-install freebsd-check fuzz proto
