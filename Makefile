# ovsactl: build, test and demonstrate. `make help` lists the targets.
#
# `make demo` and `make test` work as root on a Debian 12 (or newer) or Ubuntu
# 22.04 (or newer) that has Go and make and nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -X github.com/ovsactl/ovsactl/internal/buildinfo.version=$(VERSION)
GOLANGCI := v2.15.0
OPENVINO := packaging/wheels/fetch.sh openvino packaging/components/files/openvino.txt bin/openvino

# Tests that need one of these fail where it is absent, instead of skipping.
REQUIRE := root,libvirtd,virtlogd,virsh,dnsmasq,qemu-system-x86_64,qemu-img,/usr/share/OVMF/OVMF_CODE_4M.fd,swtpm,swtpm_setup,swtpm_localca,mmdebstrap,chroot,mke2fs,mformat,mmd,mcopy,sfdisk,xorriso,ssh,sshd,ssh-keygen,openssl,postgres,ip,strace,nginx,cc,runuser,/dev/fuse,/usr/bin/python3,openvino,bin/tools/clients/bin/python,bin/onnxruntime/libonnxruntime.so.1.21.1,bin/llama/llama-server,demo-client

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install what building and testing needs, with apt
	@packaging/install-deps.sh

.PHONY: test-deps
test-deps: ## install what testing needs beside that
	@packaging/install-deps.sh --test
	@$(OPENVINO)
	@packaging/wheels/python.sh bin/openvino-python
	@packaging/wheels/fetch.sh onnxruntime packaging/wheels/onnxruntime.list bin/onnxruntime
	@packaging/install-clients.sh
	@packaging/install-llama.sh
	@$(MAKE) --no-print-directory demo-client

.PHONY: build
build: ## build the programs into bin/
	CGO_ENABLED=1 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/ovsactl
# What goes into guests has no symbols, a third of its size: a guest without KVM
# takes 5 MB a second. A panic's trace needs none.
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS) -s -w' -o bin/ ./cmd/ovsatool ./cmd/ovsaruntime ./cmd/ovsainstall
# It loads libraries that run models when it is started, so it cannot be static.
	CGO_ENABLED=1 go build -trimpath -tags netgo,osusergo -ldflags '$(LDFLAGS) -s -w' -o bin/ ./cmd/ovsa-engine
# SQLite is C: it goes into the program, which then runs in any guest, too.
	CGO_ENABLED=1 go build -trimpath -tags netgo,osusergo,sqlite_omit_load_extension \
		-ldflags '$(LDFLAGS) -s -w -linkmode external -extldflags -static' -o bin/ ./cmd/license_server

.PHONY: openvino
openvino: ## fetch OpenVINO's libraries from PyPI into bin/openvino
	$(OPENVINO)

.PHONY: package
package: build ## build the component tarballs into dist/
# Without PyPI all but one are built.
	@$(OPENVINO) || true
	bin/ovsactl package --out dist

.PHONY: man
man: build ## write the manual pages into dist/man/
	for program in ovsactl ovsatool ovsaruntime ovsa-engine license_server; do bin/$$program man dist/man; done

PREFIX ?= /usr/local

.PHONY: install
install: package man ## install ovsactl, its components and pages below PREFIX (default /usr/local)
	install -D -m 0755 -t '$(DESTDIR)$(PREFIX)/bin' bin/ovsactl
	install -D -m 0644 -t '$(DESTDIR)$(PREFIX)/share/ovsactl/packages' dist/*.tar.gz
	install -D -m 0644 -t '$(DESTDIR)$(PREFIX)/share/man/man1' dist/man/*.1
	mkdir -p '$(DESTDIR)$(PREFIX)/share/bash-completion/completions' '$(DESTDIR)$(PREFIX)/share/zsh/site-functions' '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d'
	bin/ovsactl completion bash > '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/ovsactl'
	bin/ovsactl completion zsh > '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_ovsactl'
	bin/ovsactl completion fish > '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/ovsactl.fish'

.PHONY: demo-model
demo-model: ## fetch and convert the demonstration's model and photograph into dist/demo/
	@examples/inference/model/build.sh dist/demo

.PHONY: demo-client
demo-client: demo-model bin/demo-client/.complete ## make what examples/inference runs with: a Python, the model and the photograph

bin/demo-client/.complete: examples/inference/python/requirements.txt
	@rm -rf bin/demo-client
	@python3 -m venv bin/demo-client
	@bin/demo-client/bin/pip --quiet --disable-pip-version-check install --only-binary :all: -r $<
	@touch $@

.PHONY: demo
demo: ## run docs/guide.md in a lab: from a bare host to a picture with a face in a frame
	@mkdir -p dist
	@go run ./test/guide/run -log dist/demo.log docs/guide.md

.PHONY: test
test: test-deps package unit in-lab e2e ## run every test, real guests included

.PHONY: unit
unit: ## run the tests that need no libvirt
	OVSA_REQUIRE='$(REQUIRE)' OVSACTL_TEST_CACHE=/var/OVSA/cache/images go test -p 2 -timeout 15m ./...
# What a model's reader gets while its buffers are used again.
	OVSA_REQUIRE='$(REQUIRE)' go test -race -timeout 10m ./licensing/modelfs ./internal/inference/openvino

.PHONY: in-lab
in-lab: ## run the tests that change a libvirt, in a lab's
	@name=make-$$$$; trap "bin/ovsactl lab down --name $$name" EXIT; \
	bin/ovsactl lab up --name $$name; \
	OVSA_REQUIRE='$(REQUIRE),lab' bin/ovsactl lab run --name $$name -- go test -count 1 -timeout 10m ./vm

.PHONY: e2e
e2e: ## apply, change, break and destroy real guests in a lab
	OVSA_REQUIRE='$(REQUIRE)' go test -tags e2e -count 1 -timeout 40m -v ./test/e2e

.PHONY: fuzz
fuzz: ## fuzz each parser of outside bytes for FUZZTIME (default 20s)
	@go list -f '{{$$p := .ImportPath}}{{range .TestGoFiles}}{{$$p}} {{$$.Dir}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$$p}} {{$$.Dir}}/{{.}}{{"\n"}}{{end}}' ./... | \
	while read -r pkg file; do \
		test -n "$$file" || continue; \
		for f in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $${FUZZTIME:-20s} -fuzzminimizetime 10x "$$pkg"; \
		done; \
	done

# The packages that decide who gets a key.
MUTANTS ?= vtpm/quote vtpm/guest vtpm/attester licensing $(addprefix licensing/,pki model exchange client server ledger enrol modelfs hosting)

.PHONY: mutants
mutants: ## switch each check of MUTANTS off, and see a test fail; hours, or for one package minutes
	go run ./test/mutants $(MUTANTS)

# What booting is compared with: any revision that has `make package`.
BASE ?=

# One package at a time, or they measure each other.
.PHONY: bench
bench: test-deps package ## measure, against the revision BASE too, and write docs/benchmarks.md
	@rm -rf dist/base && git worktree prune
	test -z '$(BASE)' || { git worktree add -f --detach dist/base '$(BASE)' && $(MAKE) -C dist/base package; }
	OVSA_REQUIRE='$(REQUIRE)' go test -p 1 -run '^$$' -bench . -benchtime 20x -timeout 30m $$(go list ./... | grep -v /licens) | tee dist/bench.txt
	OVSA_REQUIRE='$(REQUIRE)' OVSA_BENCH_BASE='$(if $(BASE),$(CURDIR)/dist/base)' \
		go test -tags e2e -count 1 -timeout 90m -run '^$$' -bench . -benchtime 1x ./test/e2e | tee -a dist/bench.txt
	go run -ldflags '$(LDFLAGS)' ./test/bench -o docs/benchmarks.md dist/bench.txt

# With a million licences it takes some 25 minutes, most of them to store those.
LICENCES ?= 1,10000,1000000

.PHONY: bench-license
bench-license: test-deps ## measure licensing, and write docs/benchmarks-licensing.md
	@mkdir -p dist
	OVSA_REQUIRE='$(REQUIRE)' OVSA_BENCH_STORED='$(LICENCES)' go test -p 1 -run '^$$' -bench . -skip '^BenchmarkHosting' -benchtime 4s -timeout 90m \
		./licensing/server ./cmd/internal/licenseserver ./licensing/model | tee dist/bench-license.txt
	go run -ldflags '$(LDFLAGS)' ./test/bench -licensing -o docs/benchmarks-licensing.md dist/bench-license.txt

# MiB of the model that is read, and of those that are served. The largest take three
# times as much memory; without a tmpfs of that size, say less.
READ ?= 4096
SERVED ?= 96,1024,4096

.PHONY: bench-hosting
bench-hosting: test-deps ## measure serving models, and write docs/benchmarks-hosting.md
	@mkdir -p dist
	OVSA_REQUIRE='$(REQUIRE)' OVSA_BENCH_READ='$(READ)' OVSA_BENCH_SERVED='$(SERVED)' go test -p 1 -run '^$$' -bench '^BenchmarkRead$$|^BenchmarkHosting' -benchtime 3x -timeout 30m \
		./licensing/modelfs ./cmd/internal/licenseserver | tee dist/bench-hosting.txt
	go run -ldflags '$(LDFLAGS)' ./test/bench -hosting -o docs/benchmarks-hosting.md dist/bench-hosting.txt

.PHONY: lint
lint: bin/tools/golangci-lint-$(GOLANGCI) ## check formatting, vet, and run the linters
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these files'; exit 1; }
	go vet ./...
	go vet -tags e2e ./test/e2e
	$< run --build-tags e2e ./...

# Built from source: the Go proxy is all it needs.
bin/tools/golangci-lint-$(GOLANGCI):
	GOBIN=$(CURDIR)/bin/tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	@mv bin/tools/golangci-lint $@

.PHONY: generate
generate: ## make the Go code of the .proto files anew
	/usr/bin/python3 -m venv bin/tools/protoc
	bin/tools/protoc/bin/pip install -q grpcio-tools==1.85.1
	GOBIN=$(CURDIR)/bin/tools go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
	GOBIN=$(CURDIR)/bin/tools go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0
	PATH="$(CURDIR)/bin/tools:$$PATH" bin/tools/protoc/bin/python -m grpc_tools.protoc -I. \
		--go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative \
		$$(git ls-files '*.proto')

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
