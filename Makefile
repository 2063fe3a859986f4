# make            this help
# Everything here works on a machine that has Go and nothing else.
SHELL   := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN      := bin/gmaps-scraper
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X main.version=$(VERSION)
GOLANGCI := v2.15.0
# Where the source lives, for the label of images: make image SOURCE=https://…
SOURCE   ?= $(shell git remote get-url origin 2>/dev/null | sed -nE 's|^(https://)([^/@]*@)?([^/]+/.+)$$|\1\3|p')
# The packages whose tests need servers.
SERVED   := ./store/postgres ./wakeup ./cache
# Everything but the stacks for AWS: what they import takes minutes to compile. They have test-infra.
FAST     := $$(go list ./... | grep -v /infra)
# A count, not a time: go test -fuzz reports now and then that its own time limit ran out as a failure.
FUZZTIME ?= 10000x

.PHONY: help
help: ## print this help
	@grep -hE '^[a-z][a-z0-9-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r t d; do printf '  %-14s %s\n' "$$t" "$$d"; done

.PHONY: build
build: ## build bin/gmaps-scraper
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) .

# The function's processor: amd64 or arm64.
ARCH     ?= amd64

.PHONY: lambda
lambda: ## build bin/lambda/function.zip, the worker as an AWS Lambda function (ARCH=arm64 for Graviton)
	@mkdir -p bin/lambda
	GOOS=linux GOARCH=$(ARCH) CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags lambda.norpc -ldflags '$(LDFLAGS) -buildid=' -o bin/lambda/bootstrap ./functions/worker
	@go run ./functions/zip bin/lambda/function.zip bin/lambda/bootstrap

# The function is for this machine's own processor. Nothing is left after Ctrl-C.
.PHONY: local-stack
local-stack: ARCH = $(shell go env GOARCH)
local-stack: build lambda ## AWS on this machine: Manager, servers, simulator, workers in LocalStack; OFFLINE=1: in our own emulator
	@CGO_ENABLED=0 go build -o bin/ ./test/services ./localstack/stack
	@OFFLINE='$(OFFLINE)' localstack/up.sh

.PHONY: demo
demo: build ## simulator + Manager + spawned workers: from a query to rows, then nothing is left
	go run ./test/demo -bin $(BIN) -captures ../shared/captures -out out

# The wrapper stops what it started, an engine or a swarm, also when a step fails or Ctrl-C ends it.
.PHONY: test
test: ## everything that CI runs: all tests, all faults
	@test/engine.sh with $(MAKE) --no-print-directory test-steps

.PHONY: test-steps
test-steps: vet test-race fuzz test-infra test-served test-e2e demo verify

.PHONY: test-short
test-short: ## the fast tests: no race detector, no whole processes
	go test $(FAST)

# Some packages wait more than they compute: four at a time. SQLite's own code, translated from C and on one thread, is not instrumented.
.PHONY: test-race
test-race:
	go test -race -gcflags=modernc.org/sqlite/lib=-race=false -p 4 -timeout 20m $(FAST)

.PHONY: test-services
test-services: ## what needs PostgreSQL, RabbitMQ and Redis, with real ones in containers
	@test/engine.sh with go run ./test/services -- go test -race -count=1 $(SERVED)

.PHONY: test-docker
test-docker: image ## spawners against a real Docker engine, and its Swarm where it is one or may be made one
	$(call with-engine,go test -race -count=1 ./spawner)

# test-services and test-docker at once, since spawners mostly wait for the engine.
.PHONY: test-served
test-served: image
	$(call with-engine,go run ./test/services -- go test -race -count=1 -parallel 3 ./spawner $(SERVED))

# A command with an engine, its Swarm where it is one or may be made one, and the tests told so.
define with-engine
	@test/engine.sh with bash -c 'if test/engine.sh swarm; then export GMAPS_TEST_SWARM=1; fi; GMAPS_TEST_DOCKER=1 $(1)'
endef

# Tests of the whole program, with real servers. $(1) are flags of go test.
define end-to-end
	$(call with-engine,GMAPS_TEST_IMAGE=gmaps-scraper:latest GMAPS_BIN=$(CURDIR)/$(BIN) GMAPS_TEST_FUNCTION=$(CURDIR)/bin/lambda/function.zip \
		go run ./test/services -- go test -count=1 -v $(1) ./test) | grep --line-buffered -vE '^ *=== '
endef

# Most of the time of a fault is waiting: four at a time.
.PHONY: test-e2e
test-e2e torture-steps bench: ARCH = $(shell go env GOARCH)
test-e2e: build image lambda ## the real binary and image, real servers: from a job to its rows, under every fault on every backend
	$(call end-to-end,-timeout 40m -parallel 4)

.PHONY: torture
torture: build image ## every fault for long: make torture RUNS=200
	GMAPS_TORTURE=$${RUNS:-200} $(MAKE) --no-print-directory torture-steps

.PHONY: torture-steps
torture-steps: lambda
	$(call end-to-end,-timeout 24h -run TestFault)

.PHONY: fuzz
fuzz: ## fuzz each decoder FUZZTIME (10000x, or a time as 5m)
	@for f in $$(grep -rHoE '^func Fuzz[A-Za-z]+' --include='*_test.go' . | sed -E 's|/[^/]+:func |:|'); do \
		echo "fuzz $$f $(FUZZTIME)"; go test -run '^$$' -fuzz "^$${f#*:}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x -parallel 2 $${f%:*}; done

.PHONY: vet
vet:
	go vet $(FAST)
	@test -z "$$(gofmt -l . | tee /dev/stderr)"

.PHONY: lint
lint: ## golangci-lint, installed into bin/ at its pinned version
	@test -x bin/golangci-lint || GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	bin/golangci-lint run ./...

.PHONY: bench
bench: build image lambda ## speed as ratios against named baselines, A/B interleaved: make bench BENCH='-only B3,B4'
	@test/engine.sh with env GMAPS_BIN=$(CURDIR)/$(BIN) GMAPS_TEST_FUNCTION=$(CURDIR)/bin/lambda/function.zip GMAPS_TEST_FSYNC=on go run ./test/services -with postgres -- go run ./test/bench $(BENCH)

.PHONY: generate
generate: ## write docs/openapi.yaml from the code
	go run . -openapi > docs/openapi.yaml.new
	mv docs/openapi.yaml.new docs/openapi.yaml

.PHONY: verify
verify: ## fail when a generated file or go.mod is stale
	go run . -openapi | diff -u docs/openapi.yaml - || { echo 'docs/openapi.yaml is stale: make generate'; exit 1; }
	go mod tidy -diff

# The binary is for the engine's own machine, which may be another one than this. $(1) is the stage, $(2) the image.
define build-image
	@test/engine.sh up
	@began=$$(date +%s); \
	CGO_ENABLED=0 GOOS=linux GOARCH=$$(docker version -f '{{.Server.Arch}}') go build -trimpath -ldflags '$(LDFLAGS)' -o bin/linux/gmaps-scraper .; \
	install -d -m 0700 bin/linux/rootfs/data; install -d -m 1777 bin/linux/rootfs/tmp; \
	docker build -t $(2) --target $(1) -f Dockerfile --build-arg VERSION='$(VERSION)' \
		--build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || true)" --build-arg SOURCE='$(SOURCE)' bin/linux >bin/image.log 2>&1 || { cat bin/image.log >&2; exit 1; }; \
	echo "$(2): $$(docker image inspect -f '{{.Size}}' $(2) | awk '{printf "%.1f MB", $$1 / 1e6}'), built in $$(( $$(date +%s) - began )) s"
endef

.PHONY: engine
engine: ## make sure that a Docker engine answers: yours as it is, or one of our own (test/engine.sh down stops it)
	@test/engine.sh up

.PHONY: env
env: ## write .env with random passwords for compose.yaml; an .env that is there is left alone
	@if [ -e .env ]; then echo '.env is there and was left as it is'; exit 0; fi; \
	secret() { head -c 512 /dev/urandom | LC_ALL=C tr -dc 'a-zA-Z0-9' | head -c 32; }; \
	gid=$$(stat -L -c %g /var/run/docker.sock 2>/dev/null || echo 0); \
	umask 077; \
	{ echo '# Read by docker compose. Made by make env; keep it to yourself.'; \
	echo "POSTGRES_PASSWORD=$$(secret)"; echo "RABBITMQ_PASSWORD=$$(secret)"; echo "GMAPS_API_KEY=gk_$$(secret)"; \
	echo '# The group that may use the Docker socket.'; echo "DOCKER_GID=$$gid"; } >.env; \
	echo 'wrote .env'

.PHONY: image
image: ## container image gmaps-scraper:latest: the binary and nothing else (needs a Docker engine, or starts one)
	$(call build-image,slim,gmaps-scraper:latest)

.PHONY: image-browser
image-browser: ## container image gmaps-scraper:browser: with Chromium
	@docker image inspect debian:bookworm-slim >/dev/null 2>&1 || docker pull -q debian:bookworm-slim || test/images/base.sh
	$(call build-image,browser,gmaps-scraper:browser)

# The stacks for AWS (infra/README.md). They need Node.js.
.PHONY: synth
synth: ## the AWS stacks of both stages, without an account: names, resource counts, time (cdk.out)
	go run ./infra
	go run ./infra -c stage=prod -c domain=maps.example.org -c certificate=arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000 \
		-c image=example.org/gmaps-scraper:v1 -c alarmEmail=ops@example.org

.PHONY: test-infra
test-infra: bin/nag/node_modules ## vet and test the AWS stacks, cdk-nag included
	go vet ./infra/...
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; TMPDIR=$$tmp go test -count=1 ./infra/...

# Beside the source, where node_modules would be, Go's tools would find Go files in it.
bin/nag/node_modules: infra/nag/package-lock.json
	@mkdir -p bin/nag && cp infra/nag/package.json infra/nag/package-lock.json bin/nag/
	npm ci --prefix bin/nag --ignore-scripts --no-audit --no-fund --loglevel=error
	@find bin/nag/node_modules -name '*.go' -delete; touch $@

.PHONY: clean
clean: ## remove what make made
	rm -rf bin out cdk.out
