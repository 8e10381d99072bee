# ondat-telemetry
#
#   make demo      see it work, from nothing to a crash report
#   make check     format, lints, and the tests that need no server: for each change
#   make test      everything
#   make test-vm   crashes in other kernels: Debian 11's and 12's, in qemu (VM="--runs 100" for figures)
#   make test-reproducible  two folders, two users, the same bytes
#   make deb       Debian packages, into target/deb; make test-deb installs, uses and purges them
#   make install-units  for systemd, where make install has put the rest
#   make           the library, the monitor, the commands
#   make static    the command, the monitor and the library linked statically, for images: tools/static
#   make image     the container image, with buildah: IMAGE=ondat-telemetry BASE=a Debian with Rust
#   make test-images  builds and runs images, containers and pods; needs root, Debian and Go; a quarter of an hour the first time
#   make test-field  adds a field to the report in a copy of the tree, and tests that
#   make fleet     the opener: sealed reports into Parquet (a workspace of its own; minutes the first time)
#   make test-fleet  its tests
#   make bench-fleet what opening takes
#   make fuzz      each parser that has a target, for a minute
#   make bench     sizes and times
#   make install   DESTDIR= prefix=/usr/local libdir=$(prefix)/lib STRIP=strip, and the other names of the GNU standards
#
# Where there is no git, ONDAT_TELEMETRY_COMMIT says what `ondat-telemetry version` calls the commit.
#
# Cargo does the building; this file knows what is installed where.

# Where it goes, by the names of the GNU Coding Standards. Those in upper case are older and work too.
PREFIX      = /usr/local
prefix      = $(PREFIX)
exec_prefix = $(prefix)
LIBDIR      = $(exec_prefix)/lib
libdir      = $(LIBDIR)
BINDIR      = $(exec_prefix)/bin
bindir      = $(BINDIR)
LIBEXECDIR  = $(exec_prefix)/libexec
libexecdir  = $(LIBEXECDIR)
INCLUDEDIR  = $(prefix)/include
includedir  = $(INCLUDEDIR)
datarootdir = $(prefix)/share
mandir      = $(datarootdir)/man
MANDIR      = $(mandir)/man1
man1dir     = $(MANDIR)
man8dir     = $(mandir)/man8
BASHDIR     = $(datarootdir)/bash-completion/completions
ZSHDIR      = $(datarootdir)/zsh/site-functions
FISHDIR     = $(datarootdir)/fish/vendor_completions.d
UNITDIR     = $(exec_prefix)/lib/systemd/system
SYSUSERSDIR = $(exec_prefix)/lib/sysusers.d
TMPFILESDIR = $(exec_prefix)/lib/tmpfiles.d
DESTDIR     =

# Empty: symbols and line tables stay.
STRIP = strip

VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
SOVERSION = 0
OUT = target/release
LIB = libondat_telemetry.so
ARCHIVE = libondat_telemetry.a
UNITS = ondat-telemetry-serve.service ondat-telemetry-exec@.service ondat-telemetry-collector.service
CMAKEDIR = $(libdir)/cmake/OndatTelemetry
INSTALL_STRIP = $(if $(STRIP),-s --strip-program="$(STRIP)")
# Whoever installs may have a umask that hides files from others.
PUBLIC = umask 022;
FILL = $(PUBLIC) sed -e 's|@PREFIX@|$(prefix)|; s|@LIBDIR@|$(libdir)|; s|@INCLUDEDIR@|$(includedir)|; s|@VERSION@|$(VERSION)|; s|@SOVERSION@|$(SOVERSION)|'

CFLAGS = -std=c99 -Wall -Wextra -Wpedantic -Werror -O2 -g
# What a static link needs besides the archive. The unwinder is the compiler's to add: libgcc_s, or libgcc_eh for -static.
# tests/programs/bad_input.rs compares it with what rustc says.
STATIC_LIBS = -lutil -lrt -lpthread -lm -ldl -lc

.PHONY: all library commands demo check test test-vm test-images test-reproducible test-field static image fleet test-fleet bench-fleet fuzz bench install install-library install-units deb test-deb uninstall clean setup

all: library commands

# Identical functions folded into one are 25 KB less, where the linker can do it (lld can, GNU ld cannot).
FOLD = -Clink-arg=-Wl,--icf=all

# The shared and the static library in one run: with the rlib beside them, cargo would leave link-time optimisation out.
library: setup
	mkdir -p $(OUT)
	./tools/cargo-release rustc --release --locked --lib --crate-type cdylib,staticlib -- \
	    $$(echo 'fn main() {}' | rustc - -o $(OUT)/can-fold $(FOLD) 2>/dev/null && echo $(FOLD))
	./tools/cargo-release build --release --locked --bin ondat-telemetry-monitor
	ln -sf $(LIB) $(OUT)/$(LIB).$(SOVERSION)

commands: setup
	./tools/cargo-release build --release --locked -p ondat-telemetry-cli -p ondat-telemetry-collector

$(OUT)/dataplane: examples/dataplane.c include/ondat_telemetry.h | library
	$(CC) $(CFLAGS) -Iinclude $< -o $@ -L$(OUT) -londat_telemetry -Wl,-rpath,'$$ORIGIN'

setup:
	@./tools/setup build

# The commands' quick build is enough to look at.
demo: library $(OUT)/dataplane
	cargo build --locked -p ondat-telemetry-cli -p ondat-telemetry-collector
	@ONDAT_TELEMETRY_COMMANDS="$(CURDIR)/target/debug" ./tools/demo

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

static:
	@./tools/static

IMAGE = ondat-telemetry
image:
	buildah build --layers --tag $(IMAGE) $(if $(BASE),--build-arg BASE=$(BASE)) \
	    --build-arg ONDAT_TELEMETRY_COMMIT=$$(git rev-parse --short HEAD 2>/dev/null) --file deploy/container/Containerfile .

# With ONDAT_TELEMETRY_BUILD it tests the shared library that is there. IMAGES names parts.
test-images: $(if $(ONDAT_TELEMETRY_BUILD),,library)
	@./tools/test-images $(IMAGES)

# Into target/deb. With ONDAT_TELEMETRY_BUILD=FOLDER of what is there.
deb:
	@./tools/deb

# Needs root.
test-deb:
	@./tools/test-deb

# Two release builds.
test-reproducible:
	@./tools/test-reproducible

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

# With ONDAT_TELEMETRY_BUILD=FOLDER, this and the next install what is there and build nothing.
install: OUT = $(or $(ONDAT_TELEMETRY_BUILD),target/release)
install: install-library $(if $(ONDAT_TELEMETRY_BUILD),,commands)
	install -d "$(DESTDIR)$(bindir)"
	install -m 0755 $(INSTALL_STRIP) "$(OUT)/ondat-telemetry" "$(OUT)/ondat-telemetry-collector" "$(DESTDIR)$(bindir)/"
	install -d "$(DESTDIR)$(BASHDIR)" "$(DESTDIR)$(ZSHDIR)" "$(DESTDIR)$(FISHDIR)" "$(DESTDIR)$(man1dir)"
	$(PUBLIC) for command in ondat-telemetry ondat-telemetry-collector; do \
	    "$(OUT)/$$command" completions bash > "$(DESTDIR)$(BASHDIR)/$$command" && \
	    "$(OUT)/$$command" completions zsh > "$(DESTDIR)$(ZSHDIR)/_$$command" && \
	    "$(OUT)/$$command" completions fish > "$(DESTDIR)$(FISHDIR)/$$command.fish" && \
	    "$(OUT)/$$command" man --out "$(DESTDIR)$(man1dir)" || exit 1; \
	done

# What programs are built with and run with. Cargo compiles the library twice each time, as library and monitor are of one
# package and the monitor wants it as a Rust library.
install-library: OUT = $(or $(ONDAT_TELEMETRY_BUILD),target/release)
install-library: $(if $(ONDAT_TELEMETRY_BUILD),,library)
	install -d "$(DESTDIR)$(libdir)/pkgconfig" "$(DESTDIR)$(CMAKEDIR)" "$(DESTDIR)$(includedir)" "$(DESTDIR)$(libexecdir)" \
	    "$(DESTDIR)$(man8dir)"
	install -m 0644 include/ondat_telemetry.h "$(DESTDIR)$(includedir)/"
	install -m 0755 $(INSTALL_STRIP) "$(OUT)/$(LIB)" "$(DESTDIR)$(libdir)/$(LIB).$(VERSION)"
	ln -sf $(LIB).$(VERSION) "$(DESTDIR)$(libdir)/$(LIB).$(SOVERSION)"
	ln -sf $(LIB).$(SOVERSION) "$(DESTDIR)$(libdir)/$(LIB)"
	install -m 0644 "$(OUT)/$(ARCHIVE)" "$(DESTDIR)$(libdir)/"
	install -m 0755 $(INSTALL_STRIP) "$(OUT)/ondat-telemetry-monitor" "$(DESTDIR)$(libexecdir)/"
	install -m 0644 docs/ondat-telemetry-monitor.8 "$(DESTDIR)$(man8dir)/"
	$(FILL) -e 's|@LIBS@|-L"$${libdir}" -londat_telemetry|; s|@LIBS_PRIVATE@|$(STATIC_LIBS)|' \
	    ondat_telemetry.pc.in > "$(DESTDIR)$(libdir)/pkgconfig/ondat_telemetry.pc"
	$(FILL) -e 's|@LIBS@|"$${libdir}/$(ARCHIVE)" $(STATIC_LIBS)|; s|@LIBS_PRIVATE@||' \
	    ondat_telemetry.pc.in > "$(DESTDIR)$(libdir)/pkgconfig/ondat_telemetry-static.pc"
	for file in OndatTelemetryConfig.cmake OndatTelemetryConfigVersion.cmake; do \
	    $(FILL) -e 's|@LIBS_PRIVATE@|$(STATIC_LIBS)|' \
	        -e "s|@INCLUDEDIR_FROM_HERE@|$$(realpath -ms --relative-to="$(CMAKEDIR)" "$(includedir)")|" \
	        cmake/$$file.in > "$(DESTDIR)$(CMAKEDIR)/$$file" || exit 1; \
	done

# For systemd: units, users, and the folders of both.
install-units:
	install -d "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(SYSUSERSDIR)" "$(DESTDIR)$(TMPFILESDIR)"
	$(PUBLIC) for unit in $(UNITS); do \
	    sed 's|/usr/bin/ondat-telemetry|$(bindir)/ondat-telemetry|' deploy/systemd/$$unit > "$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; \
	done
	for command in ondat-telemetry ondat-telemetry-collector; do \
	    install -m 0644 deploy/systemd/$$command.sysusers.conf "$(DESTDIR)$(SYSUSERSDIR)/$$command.conf" && \
	    install -m 0644 deploy/systemd/$$command.tmpfiles.conf "$(DESTDIR)$(TMPFILESDIR)/$$command.conf" || exit 1; \
	done

uninstall:
	rm -f "$(DESTDIR)$(libdir)/$(LIB).$(VERSION)" "$(DESTDIR)$(libdir)/$(LIB).$(SOVERSION)" "$(DESTDIR)$(libdir)/$(LIB)" \
	      "$(DESTDIR)$(libdir)/$(ARCHIVE)" "$(DESTDIR)$(includedir)/ondat_telemetry.h" \
	      "$(DESTDIR)$(libexecdir)/ondat-telemetry-monitor" \
	      "$(DESTDIR)$(bindir)/ondat-telemetry" "$(DESTDIR)$(bindir)/ondat-telemetry-collector" \
	      "$(DESTDIR)$(man1dir)"/ondat-telemetry*.1 "$(DESTDIR)$(man8dir)/ondat-telemetry-monitor.8" "$(DESTDIR)$(BASHDIR)/ondat-telemetry" \
	      "$(DESTDIR)$(ZSHDIR)/_ondat-telemetry" "$(DESTDIR)$(FISHDIR)/ondat-telemetry.fish" \
	      "$(DESTDIR)$(BASHDIR)/ondat-telemetry-collector" "$(DESTDIR)$(ZSHDIR)/_ondat-telemetry-collector" \
	      "$(DESTDIR)$(FISHDIR)/ondat-telemetry-collector.fish" \
	      "$(DESTDIR)$(libdir)/pkgconfig/ondat_telemetry.pc" "$(DESTDIR)$(libdir)/pkgconfig/ondat_telemetry-static.pc" \
	      "$(DESTDIR)$(CMAKEDIR)/OndatTelemetryConfig.cmake" "$(DESTDIR)$(CMAKEDIR)/OndatTelemetryConfigVersion.cmake"
	for unit in $(UNITS); do rm -f "$(DESTDIR)$(UNITDIR)/$$unit"; done
	for command in ondat-telemetry ondat-telemetry-collector; do \
	    rm -f "$(DESTDIR)$(SYSUSERSDIR)/$$command.conf" "$(DESTDIR)$(TMPFILESDIR)/$$command.conf"; \
	done
	! [ -d "$(DESTDIR)$(CMAKEDIR)" ] || rmdir "$(DESTDIR)$(CMAKEDIR)"

clean:
	cargo clean
