package cli

import (
	"bytes"
	"embed"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	shipped "moonseal/examples"
	"moonseal/modules"
	"moonseal/runtime/bind"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

// templates are what init writes.
//
//go:embed templates
var templates embed.FS

// systemDir has the config of a machine's daemon.
const systemDir = "/etc/moonseal"

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a commented config and a first playbook",
		Long: `Writes into DIR, by default the current directory, moonseal.yaml with every setting
explained, scripts/first.lua with mode = "ask" (nothing is changed before you approve),
and for editors the config's schema and the definition files of all modules. Files that
exist are kept.`,
		Args: arguments(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			return initialize(a.stdout, dir)
		},
	}
}

func initialize(w io.Writer, dir string) error {
	text := shipped.Config
	if filepath.Clean(dir) == systemDir { // every user of it must reach the one daemon
		text = bytes.Replace(text, []byte("\n# state: "), []byte("\nstate: "), 1)
	}
	if err := writeNew(w, filepath.Join(dir, "moonseal.yaml"), text); err != nil {
		return err
	}
	if err := writeNew(w, filepath.Join(dir, "moonseal.schema.json"), shipped.Schema); err != nil {
		return err
	}
	for _, f := range []struct{ from, to string }{{"templates/first.lua", "scripts/first.lua"}, {"templates/luarc.json", "scripts/.luarc.json"}} {
		data, err := templates.ReadFile(f.from)
		if err != nil {
			return err
		}
		if err := writeNew(w, filepath.Join(dir, f.to), data); err != nil {
			return err
		}
	}
	reg, err := bind.NewRegistry(modules.All()...)
	if err != nil {
		return err
	}
	if err := writeStubs(w, reg, filepath.Join(dir, "scripts", ".stubs")); err != nil {
		return err
	}
	config := ""
	if clean := filepath.Clean(dir); clean != "." && clean != systemDir { // these are searched anyway
		config = " --config " + filepath.Join(dir, "moonseal.yaml")
	}
	_, _ = plain.Fprintf(w, `next:
  edit      %[2]s: host, domain, zone, address
  check     moonseal check%[1]s
  secrets   moonseal secret test%[1]s
  trust     moonseal trust HOST%[1]s
  doctor    moonseal doctor%[1]s
  serve     moonseal serve%[1]s
`, config, filepath.Join(dir, "scripts", "first.lua"))
	return nil
}

// writeNew writes a file unless it exists.
func writeNew(w io.Writer, path string, data []byte) (err error) {
	defer func() {
		if err != nil {
			err = &problem.Error{Kind: problem.Usage, Target: path, Message: "cannot write it: " + problem.Reason(err), Cause: err}
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // config and scripts hold no secrets
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // as above
	if errors.Is(err, fs.ErrExist) {
		_, _ = plain.Fprintf(w, "kept   %s\n", path)
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	_, _ = plain.Fprintf(w, "wrote  %s\n", path)
	return nil
}
