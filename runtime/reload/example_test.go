package reload_test

import (
	"context"
	"fmt"

	"moonseal/runtime/reload"
)

func Example() {
	ctx := context.Background()
	r := reload.New(reload.Options{
		Dir:   "/etc/moonseal/scripts",
		Load:  func(context.Context, map[string]string) (*reload.Loaded, error) { return &reload.Loaded{}, nil },
		Apply: func(before, now *reload.Snapshot) { fmt.Println(now.Since(before)) },
	})
	if err := r.Start(ctx); err != nil { // reads the folder, then watches it
		panic(err)
	}
	defer r.Close()
	if p := r.Current().Find("dfw"); p != nil { // at any time, from any goroutine
		fmt.Println(p.File, p.Hash)
	}
	if _, err := r.Reload(ctx); err != nil { // now, and waits for it
		panic(err)
	}
}
