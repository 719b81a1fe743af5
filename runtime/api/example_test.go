package api_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"moonseal/runtime/api"
)

// idle is a daemon without playbooks.
type idle struct{ api.Daemon }

func (idle) Status(context.Context) (*api.Status, error) { return &api.Status{Version: "0.4.0"}, nil }

func Example() {
	dir, err := os.MkdirTemp("", "moonseal-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	socket := filepath.Join(dir, "moonseal.sock")
	c := api.Dial(socket)
	_, err = c.Status(context.Background())
	fmt.Println(errors.Is(err, api.ErrNoDaemon))

	l, err := api.Listen(socket, "")
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, idle{}, "build", slog.New(slog.DiscardHandler)) }()
	status, err := c.Status(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(status.Version, len(status.Playbooks), "playbooks")
	stop()
	if err := <-served; err != nil {
		panic(err)
	}
	// Output:
	// true
	// 0.4.0 0 playbooks
}
