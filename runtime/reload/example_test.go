package reload_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"moonseal/runtime/bundle"
	"moonseal/runtime/reload"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "moonseal-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	write := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name+".lua"), []byte("return {}"), 0o600); err != nil {
			panic(err)
		}
	}
	write("dfw")
	r := reload.New(reload.Options{
		Dir: dir,
		Load: func(_ context.Context, files map[string]string) (*reload.Loaded, error) { // by another process
			l := &reload.Loaded{}
			for file := range files {
				l.Playbooks = append(l.Playbooks, &bundle.Playbook{Name: bundle.ScriptName(file), File: file, Hash: file, Needs: []string{file}})
			}
			return l, nil
		},
		Apply: func(before, now *reload.Snapshot) { fmt.Println("added", now.Since(before).Added) },
	})
	if err := r.Start(ctx); err != nil { // reads the folder, then watches it
		panic(err)
	}
	defer r.Close()
	fmt.Println(r.Current().Find("dfw").File) // at any time, from any goroutine
	write("phx")
	if _, err := r.Reload(ctx); err != nil { // now, and waits for it
		panic(err)
	}
	// Output:
	// added [dfw]
	// dfw.lua
	// added [phx]
}
