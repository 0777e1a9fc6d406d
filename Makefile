# Build, test, install. `make help` lists the targets.

PREFIX  = /usr/local
DESTDIR =
TIME    = 30m
SIZE    = quick
TARGET  = logs
PROFILE = quick
YES     =
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# Programs are the directories of cmd.
PROGRAMS := $(notdir $(wildcard cmd/*))

.DEFAULT_GOAL := build
.PHONY: build check test torture bench-peers lint demo qualify install clean help

# Static, so that a program runs on any host, whatever its libc; no paths of the
# build host inside. The version comes from git describe, not from Go's own stamp,
# which fails in a checkout that another user owns.
build: ## static programs in bin/ (what `make` does)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-X "main.version=$(VERSION)"' -o bin/ ./cmd/...

check: ## gofmt, vet, lint, and the tests that need no root and no other tool; under a minute
	scripts/check.sh

test: ## all tests, with -race; as root installs the tools that they drive
	scripts/test.sh

torture: ## breaks the program everywhere for TIME=30m, and counts how often
	scripts/torture.sh '$(TIME)' $(SEED)

bench-peers: build ## against other tools and fio: SIZE=quick|standard|full, ROWS=1,2, SAMPLES=5
	scripts/bench-peers.sh '$(SIZE)' '$(ROWS)' '$(SAMPLES)'

lint: ## gofmt, go vet, staticcheck, errcheck, govulncheck
	scripts/lint.sh

demo: build ## two services share a sample shard, step by step
	scripts/demo.sh bin/shard_to_ssd

qualify: build ## ssdbench of PROFILE=quick on the disk of TARGET=DIR, and its page; YES=--yes allows more than a tenth of what is free
	mkdir -p logs
	bin/ssdbench run --profile '$(PROFILE)' --target '$(TARGET)' $(YES) -o logs/ssdbench.json
	bin/ssdbench report -o logs/ssdbench.html logs/ssdbench.json

install: build ## programs in DESTDIR PREFIX/bin (PREFIX=/usr/local)
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 0755 $(patsubst %,bin/%,$(filter-out bench-peers,$(PROGRAMS))) '$(DESTDIR)$(PREFIX)/bin'

clean: ## delete what the other targets made
	rm -rf bin logs

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 13
