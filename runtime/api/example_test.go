package api_test

import (
	"context"
	"errors"
	"fmt"

	"moonseal/runtime/api"
)

func Example() {
	c := api.Dial("/var/lib/moonseal/moonseal.sock")
	status, err := c.Status(context.Background())
	switch {
	case errors.Is(err, api.ErrNoDaemon):
		fmt.Println("moonseal serve is not running")
	case err == nil:
		fmt.Println(len(status.Playbooks), "playbooks,", len(status.Problems), "problems")
	}
}
