# make            this help
# Everything here works on a machine that has Go and nothing else.
SHELL   := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN      := bin/gmaps-scraper
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X main.version=$(VERSION)
GOLANGCI := v2.15.0
# A count, not a time: go test -fuzz reports now and then that its own time limit ran out as a failure.
FUZZTIME ?= 100000x

.PHONY: help
help: ## print this help
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r t d; do printf '  %-12s %s\n' "$$t" "$$d"; done

.PHONY: build
build: ## build bin/gmaps-scraper
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) .

.PHONY: demo
demo: build ## simulator + Manager + spawned workers: from a query to rows, then nothing is left
	go run ./test/demo -bin $(BIN) -captures ../shared/captures -out out

.PHONY: test
test: vet test-race fuzz test-e2e demo verify ## everything that CI runs

.PHONY: test-short
test-short: ## the fast tests: no race detector, no whole processes
	go test ./...

.PHONY: test-race
test-race:
	go test -race -timeout 20m ./...

.PHONY: test-e2e
test-e2e: build ## the real binary: spawned workers, kills, zombies, the ledger
	GMAPS_BIN=$(CURDIR)/$(BIN) go test -count=1 -timeout 20m -v ./test | grep -vE '^=== '

.PHONY: torture
torture: build ## the same faults for long: make torture RUNS=200
	GMAPS_BIN=$(CURDIR)/$(BIN) GMAPS_TORTURE=$${RUNS:-200} go test -count=1 -timeout 12h -v -run TestFault ./test

.PHONY: fuzz
fuzz: ## fuzz each decoder FUZZTIME (100000x, or a time as 5m)
	@for t in $$(grep -rhoE '^func Fuzz[A-Za-z]+' --include='*_test.go' gmaps/*_test.go | sed 's/func //'); do \
		echo "fuzz $$t $(FUZZTIME)"; go test -run '^$$' -fuzz "^$$t$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x -parallel 2 ./gmaps; done

.PHONY: vet
vet:
	go vet ./...
	@test -z "$$(gofmt -l . | tee /dev/stderr)"

.PHONY: lint
lint: ## golangci-lint, installed into bin/ at its pinned version
	@test -x bin/golangci-lint || GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	bin/golangci-lint run ./...

.PHONY: bench
bench: build ## speed as ratios against named baselines, A/B interleaved
	GMAPS_BIN=$(CURDIR)/$(BIN) go run ./test/bench $(BENCH)

.PHONY: generate
generate: ## write docs/openapi.yaml from the code
	go run . -openapi > docs/openapi.yaml.new
	mv docs/openapi.yaml.new docs/openapi.yaml

.PHONY: verify
verify: ## fail when a generated file or go.mod is stale
	go run . -openapi | diff -u docs/openapi.yaml - || { echo 'docs/openapi.yaml is stale: make generate'; exit 1; }
	go mod tidy -diff

.PHONY: image
image: ## container image gmaps-scraper:latest (needs a Docker engine)
	CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags '$(LDFLAGS)' -o bin/linux/gmaps-scraper .
	docker build -t gmaps-scraper:latest -f Dockerfile bin/linux

.PHONY: clean
clean: ## remove what make made
	rm -rf bin out
