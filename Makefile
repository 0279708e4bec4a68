# make demo and make test install what they need (scripts/install-packages).
MODULES := $(shell go list -m -f '{{.Dir}}')
TESTFLAGS ?=
ATTACKS_TIME ?= 30m
ATTACKS_TIMEOUT ?= 6h
ONCE_SECONDS ?= 600
DIFFERENTIAL_TIME ?= 10m
DIFFERENTIAL_SEED ?=
DIFFERENTIAL_COUNT ?=
KILLS_COUNT ?= 1000
CHAOS_KILLS ?= 10000
LTP ?=
XFSTESTS ?=
KERNELS ?= 5.10 6.1 6.12 newest arm64
KERNELS_TESTS ?= sdk/notify internal/lane internal/notify internal/capture core/container sdk/sdktest sdk/target core/daemon core/doctor
KERNELS_LIMIT ?= 900
KERNELS_TIMEOUT ?= 8h
OLDKERNELS ?= 5.15 6.1
OLDKERNEL_TESTS := ./internal/capture ./internal/lane ./internal/linux ./internal/notify ./sdk/notify ./sdk/target ./sdk/sdktest \
	./core/broker ./core/container ./core/doctor ./plugins/...
INSTALLED := --config bin/config.toml --plugin-dir bin

VERSION ?= 0.1.0
DESTDIR ?=
prefix ?= /usr/local

.PHONY: build install deb rpm demo test test-oldkernel test-kernels test-runtimes test-systemd test-packages test-kubernetes test-metrics attacks kills kills-systemd chaos once differential ltp xfstests lint bench fuzz alone examples packages clean

build:
	@mkdir -p bin
	go build -ldflags "-X github.com/intercede/intercede/internal/version.number=$(VERSION)" \
		-o bin/ ./cmd/... ./cmd/intercede-bench/... ./plugins/...

install: build
	VERSION=$(VERSION) scripts/install bin '$(DESTDIR)' $(prefix)

# bin/packages has both.
deb rpm: packages
	scripts/package $(VERSION) bin/packages $@

packages:
	@scripts/install-packages

demo: packages build bin/config.toml
	@bin/intercede-bench demo $(INSTALLED)

test: packages build
	INTERCEDE_TEST_STRICT=1 go test -timeout 30m $(TESTFLAGS) $(addsuffix /...,$(filter-out %/tests,$(MODULES)))
	@# The broker's tests once more, with plugins that take no lanes.
	INTERCEDE_TEST_STRICT=1 INTERCEDE_TEST_TRANSPORT=grpc go test -timeout 30m $(TESTFLAGS) ./core/broker ./core/launcher
	@# The plugins' scripts once more, each call as if the plugin died with its answer. What fsopen(2) and fspick(2) began does not outlive that.
	INTERCEDE_TEST_STRICT=1 INTERCEDE_TEST_AGAIN=1 go test -timeout 30m $(TESTFLAGS) -run TestScripts -skip 'TestScripts/shared/newapi|TestScripts/newapi/pick-(gone|fsmount)$$' ./plugins/...

# As on older kernels: the tests are refused what newer ones have added (tests/oldkernel).
test-oldkernel: packages
	@mkdir -p bin
	go build -o bin/oldkernel ./tests/oldkernel
	INTERCEDE_TEST_STRICT=1 go test -count=1 ./tests/oldkernel
	for version in $(OLDKERNELS); do \
		INTERCEDE_TEST_STRICT=1 go test -count=1 -exec "$(CURDIR)/bin/oldkernel $$version" $(TESTFLAGS) $(OLDKERNEL_TESTS) || exit 1; \
	done

# The installed programs and tests' binaries on Debian's kernels, in virtual machines with an emulated processor:
# docs/kernels.md. KERNELS_DIR keeps their disks, 1 GiB each.
test-kernels: packages
	@scripts/install-packages vm
	go vet ./tests/kernels
	KERNELS="$(KERNELS)" KERNELS_TESTS="$(KERNELS_TESTS)" KERNELS_LIMIT=$(KERNELS_LIMIT) INTERCEDE_TEST_STRICT=1 \
		DIFFERENTIAL_TIME=$(DIFFERENTIAL_TIME) DIFFERENTIAL_SEED=$(DIFFERENTIAL_SEED) DIFFERENTIAL_COUNT=$(DIFFERENTIAL_COUNT) \
		go test -count=1 -v -timeout $(KERNELS_TIMEOUT) ./tests/kernels

# The pages of docs/runtimes with podman, docker and containerd, and those of docs that go on from them; engines in
# containers; and the manifests for Kubernetes.
test-runtimes: packages build
	@scripts/install-packages runtimes
	cd deploy/kubernetes && GOWORK=off go vet ./... && GOWORK=off go test $(TESTFLAGS) ./...
	go vet -tags runtimes ./cmd/...
	INTERCEDE_TEST_STRICT=1 go test -tags runtimes -count=1 -timeout 1h -run 'TestRuntimePages|TestEngine|TestKubernetes' $(TESTFLAGS) ./cmd/intercede

# The units of deploy/systemd under a real systemd, in a machine made of namespaces. docs/systemd.md has what it printed last.
test-systemd: packages build
	go vet -tags runtimes ./cmd/...
	INTERCEDE_TEST_STRICT=1 go test -tags runtimes -count=1 -timeout 20m -v -run TestSystemd $(TESTFLAGS) ./cmd/intercede

# The pods of deploy/kubernetes, and further ones, with containerd 2, crictl and runc, which are built once; there is
# no kubelet. deploy/kubernetes/README.md has what it printed last.
test-kubernetes: packages
	@scripts/install-packages runtimes
	cd deploy/kubernetes && GOWORK=off go vet ./... && GOWORK=off go test $(TESTFLAGS) ./...
	go vet -tags runtimes ./cmd/...
	programs=$$(scripts/kubernetes-programs) && INTERCEDE_KUBERNETES=$$programs INTERCEDE_TEST_STRICT=1 \
		go test -tags runtimes -count=1 -timeout 30m -v -run TestPods $(TESTFLAGS) ./cmd/intercede

# The packages, and the pages of docs that begin with one, on machines with a real systemd.
test-packages: packages
	@scripts/install-packages runtimes
	go vet -tags runtimes ./cmd/...
	INTERCEDE_TEST_STRICT=1 go test -tags runtimes -count=1 -timeout 30m -v -run 'TestPackages|TestInstall' $(TESTFLAGS) ./cmd/intercede

# The dashboard and the alerts with a real Prometheus, which scrapes a daemon whose container makes calls.
test-metrics:
	@scripts/install-packages metrics
	INTERCEDE_TEST_STRICT=1 go test -count=1 -timeout 20m $(TESTFLAGS) ./tests/metrics

# docs/attacks.md: each race has 100,000 attempts, or about twice this time; each load has 30 seconds, or this time.
attacks: packages
	go vet -tags intercede_delays ./internal/pause && go test -tags intercede_delays ./internal/pause
	INTERCEDE_TEST_STRICT=1 ATTACKS_TIME=$(ATTACKS_TIME) go test -count=1 -v -timeout $(ATTACKS_TIMEOUT) ./tests/attacks

# The daemon is ended KILLS_COUNT times by SIGKILL, and KILLS_UPGRADES times (as often) by an upgrade, while
# containers check their calls.
kills: packages
	INTERCEDE_TEST_STRICT=1 KILLS_COUNT=$(KILLS_COUNT) go test -count=1 -v -timeout 1h -run 'TestKill|TestUpgrade' ./tests/kills

# The same with the units of deploy/systemd under a real systemd, in a machine made of namespaces.
kills-systemd: packages
	INTERCEDE_TEST_STRICT=1 KILLS_COUNT=$(KILLS_COUNT) go test -count=1 -v -timeout 4h -run TestSystemd ./tests/kills

# The plugins' processes are killed or stopped CHAOS_KILLS times, while containers check their calls: about 20 minutes.
chaos: packages
	INTERCEDE_TEST_STRICT=1 CHAOS_KILLS=$(CHAOS_KILLS) go test -count=1 -v -timeout 2h ./tests/chaos

# Calls with signals in the midst of them: each program has 20,000, or this time.
once: packages
	INTERCEDE_TEST_STRICT=1 ONCE_CALLS=20000 ONCE_SECONDS=$(ONCE_SECONDS) go test -count=1 -v -timeout 3h ./tests/once

# Tests of the Linux Test Project in containers and as real root: docs/conformance.md. LTP is the folder where it is
# installed.
ltp: packages
	@scripts/install-packages ltp
	go vet ./tests/ltp
	LTP=$(abspath $(LTP)) INTERCEDE_TEST_STRICT=1 go test -count=1 -v -timeout 2h $(TESTFLAGS) ./tests/ltp

# Tests of xfstests in containers and as real root: docs/conformance.md. XFSTESTS is the folder of a built copy.
xfstests: packages
	@scripts/install-packages xfstests
	go vet ./tests/xfstests
	XFSTESTS=$(abspath $(XFSTESTS)) INTERCEDE_TEST_STRICT=1 go test -count=1 -v -timeout 4h $(TESTFLAGS) ./tests/xfstests

# Random sequences of calls in a container and as real root, for this time in all: docs/differential.md.
differential: packages
	INTERCEDE_TEST_STRICT=1 DIFFERENTIAL_TIME=$(DIFFERENTIAL_TIME) DIFFERENTIAL_SEED=$(DIFFERENTIAL_SEED) DIFFERENTIAL_COUNT=$(DIFFERENTIAL_COUNT) \
		go test -count=1 -v -timeout 30h ./tests/differential

lint: packages
	@scripts/lint
	@scripts/vulncheck

alone: packages
	@scripts/each-module-alone

examples: packages
	@INTERCEDE_TEST_STRICT=1 scripts/examples

# What benchstat compares: make bench > old; ...; make bench > new; benchstat old new
bench: build bin/config.toml
	@bin/intercede-bench --benchmarks --calls 10000 $(INSTALLED)

# In a checkout made with umask 002 the group may write config.toml, and intercede refuses it.
bin/config.toml: config.toml
	@install -D -m 0644 $< $@

fuzz: packages
	@scripts/fuzz

clean:
	rm -rf bin
