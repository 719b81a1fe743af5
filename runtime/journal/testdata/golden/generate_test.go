package main

// This file wrote the state directories beside it. It belongs to no package here: to
// add a version, copy it into cmd/moonseal of that version's checkout, whose test
// helpers it uses, and let it write
//
//	MOONSEAL_GOLDEN=/path/to/golden/VERSION go test -count=1 -run '^TestGolden$' ./cmd/moonseal
//
// Each state is moonseal.db with what SQLite left beside it, the files of older versions,
// and the locks of runs. The accounts are left out: they hold keys, and no run needs them
// against a world that is played.

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moonseal/modules/lab"
	"moonseal/modules/lab/faults"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
)

func TestGolden(t *testing.T) {
	to := os.Getenv("MOONSEAL_GOLDEN")
	if to == "" {
		t.Skip("MOONSEAL_GOLDEN names no folder")
	}
	for _, k := range kills() {
		name := strings.NewReplacer(" ", "-", ":", ".", "_", "-").Replace(k.name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWorld(t)
			if !w.killed(k) {
				t.Fatal("the run ended")
			}
			w.golden(to, name)
		})
	}
	for name, make := range map[string]func(*world){
		"done":     func(w *world) { w.mustRun(exitDone) },
		"approval": func(w *world) { w.asks(); w.mustRun(exitWaiting) },
		"retry": func(w *world) {
			w.fault(faults.Fault{Call: "acme.new-order", Kind: faults.Status, Code: 503, Times: -1})
			w.mustRun(exitWaiting)
		},
		"parked": func(w *world) {
			if code := w.start("after-mark cucm.Node:upload 1 child", w.runArgs()...).wait(); code != exitParked {
				w.t.Fatalf("exit code %d", code)
			}
		},
		"kept-undo": func(w *world) {
			w.fault(faults.Fault{Call: "dns.cloudflare.delete", Kind: faults.Status, Code: 403, Times: -1})
			w.run()
		},
		"polling": func(w *world) {
			_, err := w.lab.ChangeDNS(w.t.Context(), lab.DNSChange{PropagationDelay: map[int]time.Duration{1: time.Hour, 2: time.Hour}})
			w.check(err)
			p := w.start("", w.runArgs()...)
			w.until("it polls", func() bool {
				cfg, err := config.Load(w.config(), os.Getenv)
				w.check(err)
				if _, err := os.Stat(filepath.Join(cfg.State, "moonseal.db")); err != nil {
					return false
				}
				j, err := journal.OpenReadOnly(w.t.Context(), cfg.State)
				if err != nil {
					return false
				}
				defer func() { _ = j.Close() }()
				runs, err := j.Runs(w.t.Context(), journal.Filter{})
				if err != nil || len(runs) == 0 {
					return false
				}
				h, err := j.History(w.t.Context(), runs[0].ID)
				return err == nil && len(h.Steps) > 0 && h.Steps[len(h.Steps)-1].Name == "waiting_dns_propagation"
			})
			p.kill()
			p.wait()
		},
		"daemon": func(w *world) {
			d := w.serve()
			id := w.fault(faults.Fault{Call: "cucm.upload-identity", Kind: faults.HoldAfter})
			run := d.begin(demoPlaybook)
			w.held(d.process, id)
			w.moonseal(exitDone, "pause")
			w.moonseal(exitDone, "pause", demoPlaybook)
			undo := w.fault(faults.Fault{Call: "dns.cloudflare.delete", Kind: faults.HoldBefore})
			w.check(d.api.Cancel(w.t.Context(), run))
			w.held(d.process, undo)
			d.kill()
			d.process.wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWorld(t)
			make(w)
			w.golden(to, name)
		})
	}
}

// asks makes the playbook wait for approval.
func (w *world) asks() {
	path := filepath.Join(w.dir, "scripts", demoPlaybook+".lua")
	text, err := os.ReadFile(path)
	w.check(err)
	w.script(demoPlaybook, strings.Replace(string(text), "schedule =", "mode = \"ask\",\n  schedule =", 1))
}

// golden packs the state directory.
func (w *world) golden(to, name string) {
	w.t.Helper()
	cfg, err := config.Load(w.config(), os.Getenv)
	w.check(err)
	w.check(os.MkdirAll(to, 0o755))
	f, err := os.Create(filepath.Join(to, name+".tar.gz"))
	w.check(err)
	zip, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	w.check(err)
	out := tar.NewWriter(zip)
	w.check(filepath.WalkDir(cfg.State, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(cfg.State, path)
		if err != nil {
			return err
		}
		if e.IsDir() && rel == "accounts" {
			return filepath.SkipDir
		}
		if !e.Type().IsRegular() || strings.HasSuffix(rel, "-shm") {
			return nil
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		head := &tar.Header{Name: rel, Mode: 0o600, Size: int64(len(body)), Typeflag: tar.TypeReg}
		if err := out.WriteHeader(head); err != nil {
			return err
		}
		_, err = io.Copy(out, strings.NewReader(string(body)))
		return err
	}))
	w.check(out.Close())
	w.check(zip.Close())
	w.check(f.Close())
}
