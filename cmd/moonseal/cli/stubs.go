package cli

import (
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"moonseal/modules"
	"moonseal/runtime/bind"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

func (a *app) stubsCommand() *cobra.Command {
	var reference bool
	cmd := &cobra.Command{
		Use:   "stubs [DIR]",
		Short: "Write the editor's definition files",
		Long: `Writes definition files of all modules for the Lua language server, so that an editor
completes and checks playbooks. By default into .stubs in the scripts directory,
which moonseal does not load; name that directory in .luarc.json as
{ "workspace.library": [".stubs"] }.`,
		Args: arguments(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			reg, err := bind.NewRegistry(modules.All()...)
			if err != nil {
				return err
			}
			if reference {
				_, err := io.WriteString(a.stdout, reg.Reference(2))
				return err
			}
			if len(args) > 0 {
				return writeStubs(a.stdout, reg, args[0])
			}
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			return writeStubs(a.stdout, reg, filepath.Join(cfg.Scripts, ".stubs"))
		},
	}
	cmd.Flags().BoolVar(&reference, "reference", false, "print the modules' reference in Markdown instead")
	return cmd
}

// stubFiles returns the definition files by name.
func stubFiles(reg *bind.Registry) map[string]string {
	files := map[string]string{"moonseal.lua": run.Stub}
	for _, m := range reg.Modules {
		files[m.Name+".lua"] = reg.Stub(m)
	}
	return files
}

func writeStubs(w io.Writer, reg *bind.Registry, dir string) error {
	failed := func(err error) error {
		return &problem.Error{Kind: problem.Usage, Target: dir, Message: "cannot write the stubs: " + problem.Reason(err), Cause: err}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // others may read what is in every copy of moonseal
		return failed(err)
	}
	files := stubFiles(reg)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { //nolint:gosec // as above
			return failed(err)
		}
	}
	_, _ = plain.Fprintf(w, "wrote %d files to %s\n", len(files), dir)
	return nil
}
