package lab_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"moonseal/modules/lab"
	"moonseal/runtime/config"
)

// A world in a folder of its own, with the config that leads moonseal into it.
func Example() {
	if err := start(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// names that lead into the world: true
	// restarts: 0
}

func start(ctx context.Context) error {
	parent, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(parent) }()
	world, err := lab.Start(ctx, lab.Options{Dir: filepath.Join(parent, "lab")})
	if err != nil {
		return err
	}
	defer world.Close()
	conf, err := config.Load(world.ConfigPath(), os.Getenv)
	if err != nil {
		return err
	}
	fmt.Println("names that lead into the world:", conf.Network().Hosts["api.cloudflare.com:443"] != "")
	client, err := lab.Open(filepath.Join(parent, "lab"))
	if err != nil {
		return err
	}
	ledger, err := client.Ledger(ctx) // as another process asks
	if err != nil {
		return err
	}
	fmt.Println("restarts:", len(ledger.Restarts))
	return nil
}
