package bind_test

import (
	"errors"
	"strconv"
	"testing"

	"moonseal/runtime/bind"
	"moonseal/runtime/grant"
)

type client struct{ closed int }

func (c *client) Close() { c.closed++ }

// A run has one client for each description; an error is not kept, and a process that
// serves many runs closes old clients.
func TestClients(t *testing.T) {
	var clients bind.Clients[string, *client]
	made := 0
	get := func(c *bind.Call, of string) *client {
		t.Helper()
		got, err := clients.Get(c, of, func() (*client, error) { made++; return &client{}, nil })
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	one, failed := &bind.Call{Run: "1"}, errors.New("no")
	if _, err := clients.Get(one, "a", func() (*client, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	first := get(one, "a")
	if get(one, "a") != first || made != 1 {
		t.Errorf("%d clients were made", made)
	}
	for i, other := range []*client{get(one, "b"), get(&bind.Call{Run: "2"}, "a"), get(&bind.Call{Run: "1", Network: &grant.Network{}}, "a")} {
		if other == first || made != 4 {
			t.Errorf("%d: shared, of %d", i, made)
		}
	}
	for i := range 1000 {
		get(&bind.Call{Run: "many " + strconv.Itoa(i)}, "a")
	}
	if first.closed != 1 {
		t.Errorf("closed %d times", first.closed)
	}
	if get(one, "a") == first {
		t.Error("a closed client is still used")
	}
}
