package ovsaruntime

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/sdnotify"
	"github.com/ovsactl/ovsactl/licensing/hosting"
	"github.com/ovsactl/ovsactl/licensing/modelfs"
)

// launchVerb is the first argument of the program when it becomes an engine.
const launchVerb = "launch-engine"

const (
	defaultConfig = "/opt/ovsa/kvm/example_runtime/sample.json"
	defaultDir    = "/run/ovsa/models"
	defaultUser   = "ovsa-engine"
	defaultOps    = "127.0.0.1:9453"
)

func serveCommand(p keystore.Ports) guestcli.Command {
	setting := func(name, arg string, kind guestcli.Kind, value, help string) guestcli.Flag {
		return guestcli.Flag{Name: name, Arg: arg, Kind: kind, Setting: true, Default: value, Help: help}
	}
	return guestcli.Command{
		Name: "serve", Summary: "prove this guest, and run a model server that sees the licensed models for as long as it may",
		Operands: "[-- PROGRAM [ARGUMENT...]]", Max: guestcli.Many,
		Flags: slices.Concat(keystore.Trusting(
			configFlag(),
			setting("engine", "NAME", guestcli.Plain, kinds()[0], "what runs the models: "+strings.Join(kinds()[1:], ", ")+`; "auto" is the program behind --, or else OpenVINO, where it is installed, or ONNX Runtime; ovms and llama.cpp are programs of others, whose further arguments, or the program and these, are behind --`),
			setting("library", "FILE", guestcli.File, "", "of the engine: its directory or file, where it is not where the distribution has it"),
			setting("models", "DIR", guestcli.Dir, defaultDir, "where the program sees them, as NAME/VERSION; {models} in its arguments"),
			setting("port", "N", guestcli.Number, "8000", "where the program listens on 127.0.0.1; {port} in its arguments"),
			setting("ready", "PATH", guestcli.Plain, "", "what the program answers with 200 when it is ready; without it that it listens is enough"),
			setting("grpc-port", "N", guestcli.Number, "8001", "where the program listens for gRPC, if it does; {grpc_port} in its arguments"),
			setting("user", "USER", guestcli.Plain, defaultUser, "whom the program runs as, who alone can read the models"),
			opsFlag(`where /healthz, /readyz, /status and /metrics are, without TLS; "off" for nowhere`),
			hostPort(),
		), frontFlags(), memoryFlags()),
		Example: "serve -config sample.json -engine llama.cpp -- -c 8192",
		NoJSON:  "its log is JSON, and so is /status",
		Run: func(ctx context.Context, c *guestcli.Call) error {
			return serve(ctx, session{keystore.Session{Call: c, Ports: p}})
		},
	}
}

func configFlag() guestcli.Flag {
	return guestcli.Flag{Name: "config", Arg: "FILE", Kind: guestcli.File, Setting: true, Default: defaultConfig, Help: "which models: the file of OpenVINO Model Server"}
}

func opsFlag(help string) guestcli.Flag {
	return guestcli.Flag{Name: "ops", Arg: "ADDRESS", Setting: true, Default: defaultOps, Help: help}
}

func serve(ctx context.Context, s session) error {
	log := slog.New(slog.NewJSONHandler(s.Stderr, nil))
	file := &configFile{path: s.Text("config"), kind: s.kind(), log: log}
	models, err := file.models()
	if err != nil {
		return err
	}
	measured := &collector{tally: new(hosting.Tally), reads: new(modelfs.Counters), certs: frontCerts(s.Text("certs"))}
	engine, err := s.server(measured, log)
	if err != nil {
		return err
	}
	measured.host = hosting.New(hosting.Options{
		Models: models, Config: file.models, Log: log,
		Licensor: s.guest(measured.tally, log), Engine: engine, Look: lookEvery,
	})
	return s.run(ctx, measured, len(models), log)
}

// server is the engine that the flags ask for, and the front before it.
func (s session) server(measured *collector, log *slog.Logger) (hosting.Engine, error) {
	uid, gid, err := engineUser(s.Text("user"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.Text("models"), 0o755); err != nil {
		return nil, hint.Wrap(fmt.Errorf("make the models' directory: %w", err), "run it as root: it mounts the models, and runs their server as another user")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	command, err := s.engine(self)
	if err != nil {
		return nil, err
	}
	command.UID, command.GID, command.Log, command.Counters = uid, gid, log, measured.reads
	measured.engine = metricsOf(command)
	engine, err := s.enclosed(command, &measured.kills, log)
	if err != nil {
		return nil, err
	}
	engine, measured.front, err = s.behindFront(engine, command, lookEvery)
	return engine, err
}

// run serves until ctx ends, and tells what becomes of it.
func (s session) run(ctx context.Context, measured *collector, models int, log *slog.Logger) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	group, ctx := errgroup.WithContext(ctx)
	if address := s.Text("ops"); address != off {
		at, err := tellStatus(ctx, group, address, measured)
		if err != nil {
			return err
		}
		log = log.With("ops", at)
	}
	log.Info("serving", "models", models)
	h, front, certs := measured.host, measured.front, measured.certs
	group.Go(func() error { return h.Run(ctx) })
	a := announcer{host: h, service: sdnotify.New(s.Getenv), log: log}
	group.Go(func() error { a.run(ctx); return nil })
	group.Go(func() error {
		a.reloads(ctx, hangups, func() {
			if front != nil {
				front.Look()
				certs.warn(log, s.Now())
			}
		})
		return nil
	})
	if front != nil {
		group.Go(func() error { certs.watch(ctx, log, s.Now); return nil })
	}
	return group.Wait()
}

// tellStatus answers at an address for whoever looks after the runtime, until ctx ends,
// and returns where that is.
func tellStatus(ctx context.Context, group *errgroup.Group, address string, measured *collector) (at string, err error) {
	var listen net.ListenConfig
	ops, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return "", hint.Wrap(fmt.Errorf("listen for status: %w", err), "-ops ADDRESS chooses another place, -ops off none")
	}
	server := &http.Server{Handler: status(measured), ReadTimeout: opsTime, WriteTimeout: opsTime, MaxHeaderBytes: 16 << 10}
	group.Go(func() error {
		if err := server.Serve(ops); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("tell the status: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return ops.Addr().String(), nil
}

// lookEvery is how often it is looked whether the configuration, models or the front's
// certificates are others.
const lookEvery = 10 * time.Second

// guest is the guest that this runs in. Its proofs are counted where tally is not nil,
// and how long they take is logged where log is not.
func (s session) guest(tally *hosting.Tally, log *slog.Logger) *hosting.Guest {
	return &hosting.Guest{Tally: tally, Log: log, TPM: s.Text("tpm"), Host: hostOf(s.Call), KeyStore: s.OpenFile, Believe: s.believe}
}

// believe says whether a chain is believed, whose revocation is looked up.
func (s session) believe(ctx context.Context, chain []*x509.Certificate) error {
	v, err := s.Verifier()
	if err != nil {
		return err
	}
	_, err = v.Verify(ctx, chain)
	return err
}

// configFile is the file of the models, which may change while they are served.
type configFile struct {
	path    string
	kind    string // of the engine
	log     *slog.Logger
	ignored []string // that were told
}

// models reads it.
func (f *configFile) models() ([]hosting.ModelConfig, error) {
	config, err := readConfig(f.path, membersOf(f.kind)...)
	if err != nil {
		return nil, err
	}
	if err := checkModels(f.kind, config.Models); err != nil {
		return nil, fmt.Errorf("%q: %w", f.path, err)
	}
	if !slices.Equal(config.Ignored, f.ignored) {
		for _, member := range config.Ignored {
			f.log.Warn("it means nothing here", "member", member)
		}
	}
	f.ignored = config.Ignored
	return config.Models, nil
}

func readConfig(path string, takes ...hosting.Member) (hosting.Config, error) {
	data, err := guestcli.ReadFile(path, hosting.MaxConfig)
	if err != nil {
		return hosting.Config{}, fmt.Errorf("read configuration: %w", err)
	}
	config, err := hosting.ParseConfig(data, takes...)
	if err != nil {
		return config, fmt.Errorf("%q: %w", path, err)
	}
	return config, nil
}
