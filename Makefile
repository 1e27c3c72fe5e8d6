# Everything here works on a fresh Debian machine with Go, make and git. What else a target needs, .ci/packages installs
# when it runs as root, and names otherwise.

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
TEMPL = go run github.com/a-h/templ/cmd/templ@$(shell go list -m -f '{{.Version}}' github.com/a-h/templ)

# Each version in a folder of its own, so that another one is another build.
LINTER_VERSION := v2.15.0
LINTER := $(CURDIR)/bin/golangci-lint-$(LINTER_VERSION)/golangci-lint

.PHONY: help
help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Try it: a real Kubernetes on this machine and Portolan in front of it, until Ctrl-C
	@.ci/packages demo
	@$(MAKE) --no-print-directory devcluster portolan
	@exec env --default-signal=INT cmd/devcluster/demo.sh # or Ctrl-C would not reach it where INT is ignored

.PHONY: run
run: portolan ## Run Portolan with the settings of the environment
	@exec bin/portolan serve

.PHONY: test
test: ## Run every test, on a real PostgreSQL, Kubernetes and Chromium
	@.ci/packages test
	@$(MAKE) --no-print-directory devcluster portolan
	@exec .ci/apart .ci/test

.PHONY: fuzz
fuzz: ## Feed the readers of hostile input for 30 s each
	@.ci/packages test
	@exec .ci/fuzz

.PHONY: bench
bench: ## Measure Portolan against what people would use instead
	@.ci/packages test
	@$(MAKE) --no-print-directory devcluster portolan
	@CGO_ENABLED=0 exec .ci/apart go test -run '^$$' -bench . -benchtime 1x -timeout 45m ./internal/e2e

.PHONY: lint
lint: $(LINTER) ## Look for mistakes, and for imports against the rule
	@.ci/packages lint
	@LINTER=$(LINTER) .ci/lint

.PHONY: verify
verify: ## Check that what is generated, copied and pinned is current
	@TEMPL='$(TEMPL)' .ci/verify

.PHONY: fmt
fmt: ## Format Go and templ files
	@gofmt -l -w cmd internal migrations static views .ci
	@$(TEMPL) fmt views

.PHONY: generate
generate: ## Make the Go files of the templ files
	@$(TEMPL) generate -path views

.PHONY: portolan
portolan: # Go's build cache knows best whether there is anything to do.
	@echo "building bin/portolan"
	@CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/portolan ./cmd/portolan

# Linking Kubernetes takes a while even when all is compiled: only when a source has changed.
.PHONY: devcluster
devcluster: bin/devcluster
	@:

bin/devcluster: $(shell find cmd/devcluster -name '*.go' -o -name 'go.*' -o -name build.sh)
	@echo "building bin/devcluster, which has Kubernetes in it: about 5 minutes the first time"
	@cmd/devcluster/build.sh
	@touch $@

$(LINTER):
	@echo "building golangci-lint $(LINTER_VERSION): about a minute"
	@GOBIN=$(dir $@) CGO_ENABLED=0 go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTER_VERSION)
