# make demo and make test install what they need (scripts/install-packages).
MODULES := $(shell go list -m -f '{{.Dir}}')
PLUGINS := $(notdir $(patsubst %/,%,$(dir $(wildcard plugins/*/main.go))))
TESTFLAGS ?=

.PHONY: build demo test lint bench fuzz alone packages clean

build:
	@mkdir -p bin
	go build -o bin/ ./cmd/...
	@set -e; for p in $(PLUGINS); do go build -o bin/intercede-plugin-$$p ./plugins/$$p; done

packages:
	@scripts/install-packages

demo: packages build
	@bin/intercede demo

test: packages build
	INTERCEDE_TEST_STRICT=1 go test $(TESTFLAGS) $(addsuffix /...,$(MODULES))

lint:
	@scripts/lint

alone:
	@scripts/each-module-alone

bench: build
	bin/intercede bench

fuzz:
	@scripts/fuzz

clean:
	rm -rf bin
