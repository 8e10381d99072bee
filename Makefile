# ondat-telemetry
#
#   make demo      see it work, from nothing to a crash report
#   make check     format, lints, and the tests that need no server: for each change
#   make test      everything
#   make test-vm   crashes in other kernels: Debian 11's and 12's, in qemu (VM="--runs 100" for figures)
#   make           the library, the monitor, the commands
#   make test-field  adds a field to the report in a copy of the tree, and tests that
#   make fleet     the opener: sealed reports into Parquet (a workspace of its own; minutes the first time)
#   make test-fleet  its tests
#   make bench-fleet what opening takes
#   make fuzz      each parser that has a target, for a minute
#   make bench     sizes and times
#   make install   DESTDIR= PREFIX=/usr/local LIBDIR=$(PREFIX)/lib
#
# Where there is no git, ONDAT_TELEMETRY_COMMIT says what `ondat-telemetry version` calls the commit.
#
# Cargo does the building; this file knows what is installed where.

PREFIX     = /usr/local
LIBDIR     = $(PREFIX)/lib
BINDIR     = $(PREFIX)/bin
LIBEXECDIR = $(PREFIX)/libexec
INCLUDEDIR = $(PREFIX)/include
MANDIR     = $(PREFIX)/share/man/man1
BASHDIR    = $(PREFIX)/share/bash-completion/completions
ZSHDIR     = $(PREFIX)/share/zsh/site-functions
FISHDIR    = $(PREFIX)/share/fish/vendor_completions.d
DESTDIR    =

VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
SOVERSION = 0
OUT = target/release
LIB = libondat_telemetry.so

CFLAGS = -std=c99 -Wall -Wextra -Wpedantic -Werror -O2 -g
# What a static link needs besides the archive: tests/programs/bad_input.rs compares it with what rustc says.
STATIC_LIBS = -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc

.PHONY: all library commands demo check test test-vm test-field fleet test-fleet bench-fleet fuzz bench install install-library uninstall clean setup

all: library commands

# One signature is verified and one report sealed a day: the vector code for it is not worth its 50 KB.
library commands: export RUSTFLAGS += --cfg curve25519_dalek_backend="serial"

# Identical functions folded into one are 25 KB less, where the linker can do it (lld can, GNU ld cannot).
FOLD = -Clink-arg=-Wl,--icf=all

# The shared and the static library in one run: with the rlib beside them, cargo would leave link-time optimisation out.
library: setup
	mkdir -p $(OUT)
	cargo rustc --release --locked --lib --crate-type cdylib,staticlib -- \
	    $$(echo 'fn main() {}' | rustc - -o $(OUT)/can-fold $(FOLD) 2>/dev/null && echo $(FOLD))
	cargo build --release --locked --bin ondat-telemetry-monitor
	ln -sf $(LIB) $(OUT)/$(LIB).$(SOVERSION)

commands: setup
	cargo build --release --locked -p ondat-telemetry-cli -p ondat-telemetry-collector

$(OUT)/dataplane: examples/dataplane.c include/ondat_telemetry.h | library
	$(CC) $(CFLAGS) -Iinclude $< -o $@ -L$(OUT) -londat_telemetry -Wl,-rpath,'$$ORIGIN'

setup:
	@./tools/setup build

# The commands' quick build is enough to look at.
demo: library $(OUT)/dataplane
	cargo build --locked -p ondat-telemetry-cli -p ondat-telemetry-collector
	@ONDAT_TELEMETRY_COMMANDS=$(CURDIR)/target/debug ./tools/demo

check: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked --lib --bins --test house --test rooms --test facts --test header --test schema --test properties --test corpus
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --log-level error check bans licenses sources; \
	else echo 'check: licences and sources of dependencies were not looked at: cargo install cargo-deny'; fi

test:
	@./tools/test

# With ONDAT_TELEMETRY_BUILD it tests what is there, and builds nothing.
test-vm: $(if $(ONDAT_TELEMETRY_BUILD),,library)
	@./tools/test-vm $(VM)

# Some minutes where nothing is built yet.
test-field:
	@./tools/test-field

fleet: setup
	cargo build --release --locked --manifest-path fleet/Cargo.toml

test-fleet: setup
	@./tools/test-fleet

bench-fleet: setup
	@./tools/bench-fleet

fuzz:
	@./tools/setup test
	@./tools/fuzz

bench: library
	@./tools/bench

install: install-library commands
	install -d $(DESTDIR)$(BINDIR)
	install -m 0755 -s $(OUT)/ondat-telemetry $(OUT)/ondat-telemetry-collector $(DESTDIR)$(BINDIR)/
	install -d $(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(FISHDIR) $(DESTDIR)$(MANDIR)
	for command in ondat-telemetry ondat-telemetry-collector; do \
	    $(OUT)/$$command completions bash > $(DESTDIR)$(BASHDIR)/$$command && \
	    $(OUT)/$$command completions zsh > $(DESTDIR)$(ZSHDIR)/_$$command && \
	    $(OUT)/$$command completions fish > $(DESTDIR)$(FISHDIR)/$$command.fish && \
	    $(OUT)/$$command man --out $(DESTDIR)$(MANDIR) || exit 1; \
	done

# What programs are built with and run with. With ONDAT_TELEMETRY_BUILD it installs what is there: cargo compiles the library
# twice each time, as library and monitor are of one package and the monitor wants it as a Rust library.
install-library: OUT = $(or $(ONDAT_TELEMETRY_BUILD),target/release)
install-library: $(if $(ONDAT_TELEMETRY_BUILD),,library)
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(LIBEXECDIR)
	install -m 0644 include/ondat_telemetry.h $(DESTDIR)$(INCLUDEDIR)/
	install -m 0755 -s $(OUT)/$(LIB) $(DESTDIR)$(LIBDIR)/$(LIB).$(VERSION)
	ln -sf $(LIB).$(VERSION) $(DESTDIR)$(LIBDIR)/$(LIB).$(SOVERSION)
	ln -sf $(LIB).$(SOVERSION) $(DESTDIR)$(LIBDIR)/$(LIB)
	install -m 0644 $(OUT)/libondat_telemetry.a $(DESTDIR)$(LIBDIR)/
	install -m 0755 -s $(OUT)/ondat-telemetry-monitor $(DESTDIR)$(LIBEXECDIR)/
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|; s|@VERSION@|$(VERSION)|' \
	    -e 's|@LIBS@|-L$${libdir} -londat_telemetry|; s|@LIBS_PRIVATE@|$(STATIC_LIBS)|' \
	    ondat_telemetry.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/ondat_telemetry.pc
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|; s|@VERSION@|$(VERSION)|' \
	    -e 's|@LIBS@|$${libdir}/libondat_telemetry.a $(STATIC_LIBS)|; s|@LIBS_PRIVATE@||' \
	    ondat_telemetry.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/ondat_telemetry-static.pc

uninstall:
	rm -f $(DESTDIR)$(LIBDIR)/$(LIB).$(VERSION) $(DESTDIR)$(LIBDIR)/$(LIB).$(SOVERSION) $(DESTDIR)$(LIBDIR)/$(LIB) \
	      $(DESTDIR)$(LIBDIR)/libondat_telemetry.a $(DESTDIR)$(INCLUDEDIR)/ondat_telemetry.h \
	      $(DESTDIR)$(LIBEXECDIR)/ondat-telemetry-monitor \
	      $(DESTDIR)$(BINDIR)/ondat-telemetry $(DESTDIR)$(BINDIR)/ondat-telemetry-collector \
	      $(DESTDIR)$(MANDIR)/ondat-telemetry*.1 $(DESTDIR)$(BASHDIR)/ondat-telemetry \
	      $(DESTDIR)$(ZSHDIR)/_ondat-telemetry $(DESTDIR)$(FISHDIR)/ondat-telemetry.fish \
	      $(DESTDIR)$(BASHDIR)/ondat-telemetry-collector $(DESTDIR)$(ZSHDIR)/_ondat-telemetry-collector \
	      $(DESTDIR)$(FISHDIR)/ondat-telemetry-collector.fish \
	      $(DESTDIR)$(LIBDIR)/pkgconfig/ondat_telemetry.pc $(DESTDIR)$(LIBDIR)/pkgconfig/ondat_telemetry-static.pc

clean:
	cargo clean
