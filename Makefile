# Build, test, install. `make help` lists the targets.

PREFIX  = /usr/local
DESTDIR =
TIME    = 30m
SIZE    = quick
TARGET  = logs
PROFILE = quick
YES     =
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# Each directory of cmd is a program.
PROGRAMS := $(notdir $(wildcard cmd/*))

.DEFAULT_GOAL := build
.PHONY: build check test torture bench-peers lint demo qualify install clean help

# The programs are static, so that they run with any libc, and contain no paths of the
# build host. The version is from git describe, because Go's own stamp fails in a
# checkout of another user.
build: ## static programs in bin/ (the default)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-X "main.version=$(VERSION)"' -o bin/ ./cmd/...

check: ## gofmt, vet, lint, and the tests that need no root and no other tool; about a minute
	scripts/check.sh

test: ## all tests, with -race; as root installs the tools that they drive
	scripts/test.sh

torture: ## break the program everywhere for TIME=30m, and count the trials
	scripts/torture.sh '$(TIME)' $(SEED)

bench-peers: build ## compare with other tools and fio: SIZE=quick|standard|full, ROWS=1,2, SAMPLES=5
	scripts/bench-peers.sh '$(SIZE)' '$(ROWS)' '$(SAMPLES)'

lint: ## gofmt, go vet, staticcheck, errcheck, govulncheck
	scripts/lint.sh

demo: build ## two services share a sample shard, step by step
	scripts/demo.sh bin/shard_to_ssd

qualify: build ## ssdbench with PROFILE=quick on the disk of TARGET=DIR, with its page; YES=--yes allows more than a tenth of the free space
	mkdir -p logs
	bin/ssdbench run --profile '$(PROFILE)' --target '$(TARGET)' $(YES) -o logs/ssdbench.json
	bin/ssdbench report -o logs/ssdbench.html logs/ssdbench.json

install: build ## install the programs and the man page in DESTDIR PREFIX (PREFIX=/usr/local)
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/share/man/man1'
	install -m 0644 docs/shard_to_ssd.1 '$(DESTDIR)$(PREFIX)/share/man/man1'
	install -m 0755 $(patsubst %,bin/%,$(filter-out bench-peers,$(PROGRAMS))) '$(DESTDIR)$(PREFIX)/bin'

clean: ## delete bin and logs
	rm -rf bin logs

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 13
