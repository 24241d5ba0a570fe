package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/kserve"
	"github.com/ovsactl/ovsactl/internal/inference/protocol"
	"github.com/ovsactl/ovsactl/internal/inference/tfserving"
	"github.com/ovsactl/ovsactl/internal/seccomp"
)

func serveCommand() guestcli.Command {
	return guestcli.Command{
		Name: "serve", Summary: "answer for the models of a directory, until it is ended",
		Flags: append([]guestcli.Flag{
			{Name: "models", Arg: "DIR", Kind: guestcli.Dir, Required: true, Help: "where they are, as NAME/VERSION/FILE; versions are numbers"},
			{Name: "http", Arg: "ADDRESS", Default: "127.0.0.1:8000", Help: `where it answers over HTTP/1.1; "off" for nowhere`},
			{Name: "grpc", Arg: "ADDRESS", Default: "127.0.0.1:8001", Help: `where it answers over gRPC; "off" for nowhere`},
			{Name: "max-request", Arg: "BYTES", Kind: guestcli.Number, Default: "67108864", Help: "how long a request may be"},
		}, runtimeFlags()...),
		Example: "serve -models /srv/models",
		NoJSON:  "what it answers is JSON",
		Run:     serve,
	}
}

func serve(ctx context.Context, c *guestcli.Call) error {
	log := slog.New(slog.NewTextHandler(c.Stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	if c.Number("max-request") < 1 {
		return guestcli.Usagef("-max-request: want a number from 1")
	}
	sockets, err := listen(ctx, c)
	if err != nil {
		return err
	}
	defer sockets.close()
	runtime, err := open(c)
	if err != nil {
		return err
	}
	defer runtime.Close()
	// Models come from somebody else. Whatever they make of this process: it connects
	// to nothing, and starts nothing.
	if err := seccomp.Refuse(append(seccomp.Powerful(), unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_EXECVE, unix.SYS_EXECVEAT)); err != nil {
		return err
	}
	models, err := inference.Open(c.Text("models"), runtime, log)
	if err != nil {
		return err
	}
	defer models.Close()
	log.Info("serving", "runtime", runtime.Name(), "models", len(models.Models()))
	return sockets.serve(ctx, models, c.Number("max-request"), log)
}

// withoutTime leaves the time to whoever keeps the log.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}

// sockets are where it answers. Either may be nil.
type sockets struct{ http, grpc net.Listener }

// listen takes the sockets that it was given, "http" and "grpc", or makes those of the
// flags.
func listen(ctx context.Context, c *guestcli.Call) (s sockets, err error) {
	given, err := activation.ListenersWithNames()
	if err != nil {
		return s, fmt.Errorf("take the sockets: %w", err)
	}
	if len(given) > 0 {
		for name, to := range map[string]*net.Listener{"http": &s.http, "grpc": &s.grpc} {
			if all := given[name]; len(all) == 1 {
				*to = all[0]
			}
		}
		if s.http == nil && s.grpc == nil {
			return s, errors.New("take the sockets: none is named http or grpc")
		}
		return s, nil
	}
	for flag, to := range map[string]*net.Listener{"http": &s.http, "grpc": &s.grpc} {
		address := c.Text(flag)
		if address == "off" {
			continue
		}
		var config net.ListenConfig
		if *to, err = config.Listen(ctx, "tcp", address); err != nil {
			s.close()
			return s, hint.Wrap(fmt.Errorf("listen: %w", err), "-%s ADDRESS chooses another place, -%s off none", flag, flag)
		}
	}
	return s, nil
}

func (s sockets) close() {
	for _, l := range []net.Listener{s.http, s.grpc} {
		if l != nil {
			l.Close()
		}
	}
}

// endTime is how long requests may take that are there when it is to end.
const endTime = 3 * time.Second

// window is how much of a request may come before some of it was taken, in bytes: with
// gRPC's own, 64 KiB, an image waits for the front to be told to go on.
const window = 1 << 20

// serve answers until ctx ends.
func (s sockets) serve(ctx context.Context, models *inference.Repository, maxRequest int, log *slog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	if s.http != nil {
		server := &http.Server{Handler: handler(models, maxRequest, log), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
		group.Go(func() error {
			if err := server.Serve(s.http); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("answer over HTTP: %w", err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
			defer cancel()
			return errors.Join(ignore(server.Shutdown(ending), context.DeadlineExceeded), server.Close())
		})
	}
	if s.grpc != nil {
		server := grpc.NewServer(append(protocol.ServerOptions(maxRequest, log), grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window))...)
		kserve.Register(server, models)
		tfserving.Register(server, models, int64(maxRequest))
		group.Go(func() error {
			if err := server.Serve(s.grpc); err != nil {
				return fmt.Errorf("answer over gRPC: %w", err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			late := time.AfterFunc(endTime, server.Stop)
			defer late.Stop()
			server.GracefulStop()
			return nil
		})
	}
	return group.Wait()
}

func ignore(err error, which error) error {
	if errors.Is(err, which) {
		return nil
	}
	return err
}

// handler answers for both protocols, whose addresses are apart, and for Prometheus.
func handler(models *inference.Repository, maxRequest int, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", kserve.Handler(models, int64(maxRequest)))
	mux.Handle("/v1/", tfserving.Handler(models, int64(maxRequest)))
	mux.Handle("GET /metrics", metrics(models, log))
	return mux
}
