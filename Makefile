# The commands a person needs. `make help` lists them.
SHELL   := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased)
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: help build hawser-pkcs11 demo test bench soak deps lint docs trace clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

build: ## bin/hawser and bin/hawser-agent
	@scripts/build "$(LDFLAGS)"

hawser-pkcs11: ## bin/hawser-pkcs11, with keys in a PKCS#11 token (needs a C compiler)
	@CGO_ENABLED=1 go build -trimpath -tags pkcs11 -ldflags '$(LDFLAGS)' -o bin/hawser-pkcs11 ./cmd/hawser

demo: build ## five devices, one of them bad, from declaration to proven erasure
	@bin/hawser demo $(DEMOFLAGS)

test: ## right or wrong, in under 20 minutes (DEPS=1 as root installs what is missing)
	@scripts/test

bench: build ## the tables of docs/benchmarks.md
	@scripts/bench

soak: build ## kill loops and long fuzzing; hours
	@scripts/soak

deps: ## install what the tests need, from Debian and npm (root)
	@scripts/deps

lint: ## format, vet, staticcheck
	@scripts/lint

docs: ## write the generated reference pages anew
	@go test ./internal/declaration ./internal/api ./internal/server ./cmd/hawser -run 'Reference|Docs' -update

trace: ## every row of the mission with the code and tests that cite it
	@go run ./scripts/trace

clean: ## remove what was built
	@rm -rf bin
