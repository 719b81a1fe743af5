# Everything here needs Go and make, and fetches nothing but Go modules.

.DEFAULT_GOAL := help

GO ?= go
LINT_VERSION := v2.15.0
STEP_CA_VERSION := v0.28.4
TOOLS := $(CURDIR)/bin/tools

# The race detector needs a C compiler; without one the tests run all the same.
RACE = $(if $(filter 1,$(shell $(GO) env CGO_ENABLED)),-race)

# golangci-lint of this version: the one on the PATH, or one of our own.
LINT = $(if $(filter $(LINT_VERSION:v%=%),$(shell golangci-lint version --short 2>/dev/null)),golangci-lint,$(TOOLS)/golangci-lint-$(LINT_VERSION))

.PHONY: help
help: ## Explain each target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/moonseal
	@$(GO) build -o bin/moonseal ./cmd/moonseal

.PHONY: demo
demo: build ## Watch a playbook renew a certificate, with CA, DNS and appliance simulated
	@bin/moonseal demo

# The processes that cmd/moonseal/cli starts, kills and starts again are this program too:
# with the race detector they, and the matrix of faults, take five times as long.
UNRACED := ./cmd/... ./modules/lab/matrix
RACED = $(filter-out $(shell $(GO) list $(UNRACED)),$(shell $(GO) list ./...))
# What one goroutine does at length the race detector makes ten times as slow, and finds
# nothing in. A test that asks whether MOONSEAL_TEST is raced is skipped, or does less, with
# it, and runs in a pass of its own without it.
LONG_FILES = $(shell grep -rl --include='*_test.go' '== "raced"' modules runtime)
LONG = $(addprefix ./,$(sort $(dir $(LONG_FILES))))
LONG_TESTS = $(shell awk -F '[^A-Za-z0-9_]+' '/^func /{name = $$2} /== "raced"/{print name}' $(LONG_FILES) | sort -u | paste -sd'|')

# Modules of their own: what only they need is not in moonseal's go.mod. The first compares
# moonseal with others, the second tests the program from outside: Go does not know that its
# results depend on that.
PEERS := modules/lab/peers
SYSTEST := cmd/moonseal/systest
NESTED := $(PEERS) $(SYSTEST)

.PHONY: test
test: ## Run the tests, with the race detector but for those of whole processes, and long ones
	MOONSEAL_TEST=raced $(GO) test $(RACE) -timeout 10m $(RACED)
	$(GO) test -timeout 10m $(UNRACED)
	$(GO) test -timeout 10m -run '^($(LONG_TESTS))$$' $(LONG)
	$(GO) -C $(SYSTEST) test -count=1 -timeout 10m ./...
	$(GO) -C $(PEERS) test -timeout 10m ./...
	@set -e; for module in $(NESTED); do $(GO) -C $$module vet ./...; done

.PHONY: testfull
testfull: ## Run all tests with the race detector, all pairs of kills and all faults (an hour or two)
	MOONSEAL_TEST=full $(GO) test $(RACE) -count=1 -p 1 -timeout 120m ./...
	MOONSEAL_TEST=full $(GO) -C $(SYSTEST) test $(RACE) -count=1 -timeout 60m ./...

# make soak CASES=1000000 simulates more.
CASES ?= 200000

.PHONY: soak
soak: ## Simulate many runs, crashes and lost answers; CASES=200000 take two hours
	$(GO) test -count=1 -run '^TestSimulator$$' -timeout 0 ./runtime/control -rapid.checks $(CASES)

# make mutants MUTANTS='row0*' brings back some of them.
MUTANTS ?= *

.PHONY: mutants
mutants: ## Bring back each bug of runtime/control/testdata/mutants, and see the simulator find it; an hour
	MOONSEAL_MUTANTS='$(MUTANTS)' $(GO) test -v -count=1 -run '^TestMutants$$' -timeout 0 ./runtime/control

VM := bin/vm

.PHONY: vmtest
vmtest: $(VM)/root ## Test the daemon in a virtual machine: systemd, cgroups, a power cut (Debian; some minutes)
	MOONSEAL_VM=$(CURDIR)/$(VM) $(GO) -C $(SYSTEST) test -v -count=1 -run '^TestMachine$$' -timeout 20m .

.PHONY: imagetest
imagetest: $(VM)/root ## Build the container image, and test it in the virtual machine
	$(SYSTEST)/testdata/vm/container $(VM)
	MOONSEAL_VM=$(CURDIR)/$(VM) MOONSEAL_IMAGE=$(CURDIR)/$(VM)/moonseal.tar $(GO) -C $(SYSTEST) test -v -count=1 -run '^TestImage$$' -timeout 20m .

$(VM)/root: $(addprefix $(SYSTEST)/testdata/vm/,image agent agent.service ether.network)
	$(SYSTEST)/testdata/vm/image $(VM)

.PHONY: lint
lint: tools ## Check the code with golangci-lint (.golangci.yml)
	$(LINT) run --allow-parallel-runners ./...
	@set -e; for module in $(NESTED); do echo "in $$module"; (cd $$module && $(LINT) run --allow-parallel-runners ./...); done

.PHONY: verify
verify: tools ## Check what is generated (stubs, reference, go.mod), formatting, and the words of messages and docs
	$(GO) mod tidy -diff
	$(GO) mod verify
	$(GO) -C $(SYSTEST) mod verify
	@set -e; for module in $(NESTED); do $(GO) -C $$module mod tidy -diff; done
	$(LINT) fmt --diff
	$(GO) test -count=1 -run '^(TestGenerated|TestWords)$$' ./cmd/moonseal/cli

.PHONY: generate
generate: tools ## Write again what verify checks
	$(GO) mod tidy
	@set -e; for module in $(NESTED); do $(GO) -C $$module mod tidy; done
	$(LINT) fmt
	$(GO) test -count=1 -run '^TestGenerated$$' ./cmd/moonseal/cli -update

.PHONY: report
report: ## Print the longest functions, widest structs, most methods, and what depends on what
	@MOONSEAL_REPORT=1 $(GO) test -v -count=1 -run '^TestReport$$' ./cmd/moonseal/cli

# make bench BENCH=Step BENCHTIME=100x runs some of them, that often.
BENCH ?= .
BENCHTIME ?= 1s

.PHONY: bench
bench: ## Run the benchmarks, and judge each by its goal in cmd/moonseal/cli/testdata/bench.goals; half an hour
	@mkdir -p bin
	@packages=$$(grep -rl --include='*_test.go' --exclude-dir='$(notdir $(PEERS))' '^func Benchmark' cmd modules runtime | xargs -n1 dirname | sort -u | sed 's|^|./|'); \
	bench() { $(GO) "$$@" -run '^$$' -bench '$(BENCH)' -benchtime '$(BENCHTIME)' -timeout 60m || echo failed >bin/bench.failed; }; \
	rm -f bin/bench.failed; { bench test -p 1 $$packages; bench -C $(PEERS) test; } | tee bin/bench.txt; \
	MOONSEAL_BENCH=$(CURDIR)/bin/bench.txt $(GO) -C cmd/moonseal/cli test -count=1 -run '^TestFigures$$' && test ! -e bin/bench.failed

.PHONY: tools
tools: $(filter $(TOOLS)/%,$(LINT))

$(TOOLS)/golangci-lint-$(LINT_VERSION):
	@echo "installing golangci-lint $(LINT_VERSION) into bin/tools; this takes a few minutes, once"
	@mkdir -p $(TOOLS)
	GOFLAGS= GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@mv $(TOOLS)/golangci-lint $@

.PHONY: step-ca
step-ca: $(TOOLS)/step-ca-$(STEP_CA_VERSION) ## Build the CA that some tests renew with; without it they are skipped

$(TOOLS)/step-ca-$(STEP_CA_VERSION):
	@echo "installing step-ca $(STEP_CA_VERSION) into bin/tools; this takes a few minutes, once"
	@mkdir -p $(TOOLS)
	@rm -f $(TOOLS)/step-ca # the link to another version
	CGO_ENABLED=0 GOFLAGS= GOBIN=$(TOOLS) $(GO) install github.com/smallstep/certificates/cmd/step-ca@$(STEP_CA_VERSION)
	@mv $(TOOLS)/step-ca $@
	@ln -s $(notdir $@) $(TOOLS)/step-ca

.PHONY: clean
clean: ## Remove what was built
	@rm -rf bin
