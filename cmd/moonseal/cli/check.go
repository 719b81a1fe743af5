package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"moonseal/runtime/bundle"
	"moonseal/runtime/config"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

func (a *app) checkCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [PATH…]",
		Short: "Check scripts without running them",
		Long: `Reads, compiles and loads the scripts in the config's scripts directory, or in the
directories and files that are named, and shows what is wrong with each. Loading is
pure: nothing is asked of any appliance, CA or DNS provider. Exit code 1 if a script
is broken.`,
		Args: arguments(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.strictly(ctx, func(op operator) error {
				if len(args) == 0 {
					args = []string{op.Config().Scripts}
				}
				var report checked
				for _, path := range args {
					if err := a.check(ctx, op, path, &report); err != nil {
						return err
					}
				}
				return showChecked(a.stdout, &report, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// checked is what scripts have, and what is wrong with them.
type checked struct {
	Playbooks []*bundle.Playbook
	Problems  []*problem.Error
}

// check loads a directory, or the one that a file is in.
func (a *app) check(ctx context.Context, op operator, path string, report *checked) error {
	info, err := os.Stat(path)
	if err != nil {
		return &problem.Error{Kind: problem.Usage, Target: path, Message: "cannot be read: " + problem.Reason(err), Cause: err}
	}
	cfg := op.Config()
	dir, only, err := scriptsAt(cfg, path, info.IsDir())
	if err != nil {
		return err
	}
	var all *checked // two scripts may have one name
	if dir == cfg.Scripts {
		all, err = op.Scripts(ctx)
	} else if loaded, loadErr := a.wire(cfg).loadScripts(ctx, dir, nil); loadErr != nil {
		err = loadErr
	} else {
		all = &checked{loaded.playbooks(), loaded.Problems}
	}
	if err != nil {
		return err
	}
	for _, p := range all.Playbooks {
		if only.has(p.File) {
			report.Playbooks = append(report.Playbooks, p)
		}
	}
	for _, p := range all.Problems {
		if p.Place == nil || only.has(p.Place.File) {
			report.Problems = append(report.Problems, p)
		}
	}
	return nil
}

// part is a part of a scripts directory: a script, a tenant's directory, or "." for all of it.
type part string

func (p part) has(file string) bool {
	return p == "." || file == string(p) || strings.HasPrefix(file, string(p)+"/")
}

// scriptsAt returns the scripts directory of a script or directory, and which part of it that
// is: of the config's if it is below it, or among its hooks, else of the directory
// itself, or the one that the file is in.
func scriptsAt(cfg *config.Config, path string, folder bool) (dir string, is part, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", "", err
	}
	if rel, ok := below(cfg.Scripts, abs); ok {
		return cfg.Scripts, part(rel), nil
	}
	if rel, ok := below(cfg.Hooks, abs); cfg.Hooks != "" && ok {
		return cfg.Scripts, part(filepath.ToSlash(filepath.Join("hooks", rel))), nil
	}
	if folder {
		return path, ".", nil
	}
	return filepath.Dir(abs), part(filepath.Base(abs)), nil
}

// below returns the path of a file or directory inside of dir, by name, or after the
// links in both paths are resolved. Its own last name may be a link.
func below(dir, path string) (inside string, ok bool) {
	resolved := func(path string) string {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			return target
		}
		return path
	}
	for _, way := range [][2]string{{dir, path}, {resolved(dir), filepath.Join(resolved(filepath.Dir(path)), filepath.Base(path))}, {resolved(dir), resolved(path)}} {
		rel, err := filepath.Rel(way[0], way[1])
		if err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return filepath.ToSlash(rel), true
		}
	}
	return "", false
}

func showChecked(w io.Writer, report *checked, asJSON bool) error {
	broken := len(report.Problems) > 0
	if asJSON {
		if err := writeJSON(w, checkedOut(report)); err != nil {
			return err
		}
		return failedIf(broken)
	}
	for _, p := range report.Playbooks {
		_, _ = plain.Fprintf(w, "ok      %-24s %s\n", p.Name, p.File)
	}
	for _, e := range report.Problems {
		_, _ = plain.Fprintf(w, "broken  %s\n", brokenWhat(e))
		if e.Place != nil && e.Place.Line > 0 {
			printPlace(w, e.Place)
		}
		if e.Hint != "" {
			_, _ = plain.Fprintf(w, "hint: %s\n", e.Hint)
		}
	}
	_, _ = plain.Fprintf(w, "%s ok, %s broken\n", count(len(report.Playbooks), "playbook"), count(len(report.Problems), "script"))
	return failedIf(broken)
}

// brokenWhat names the script once: if the file itself is what is wrong, its
// path is the error's target.
func brokenWhat(e *problem.Error) string {
	if e.Place == nil || strings.HasSuffix(e.Target, e.Place.File) {
		return e.Error()
	}
	return e.Place.File + ": " + e.Error()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
