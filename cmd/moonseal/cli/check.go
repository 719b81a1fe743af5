package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
		Long: `Reads, compiles and loads the scripts in the config's folder, or in the folders
and files that are named, and shows what is wrong with each. Loading is pure:
nothing is asked of any appliance, CA or DNS provider. Exit code 1 where a script
is broken.`,
		Args: arguments(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				args = []string{cfg.Scripts}
			}
			report := checked{Playbooks: []*bundle.Playbook{}, Problems: []*problem.Error{}}
			for _, path := range args {
				if err := a.check(cmd.Context(), cfg, path, &report); err != nil {
					return err
				}
			}
			return a.showChecked(&report, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

type checked struct {
	Playbooks []*bundle.Playbook `json:"playbooks"`
	Problems  []*problem.Error   `json:"problems"`
}

// check loads a folder, or the folder that a file stands in.
func (a *app) check(ctx context.Context, cfg *config.Config, path string, report *checked) error {
	info, err := os.Stat(path)
	if err != nil {
		return &problem.Error{Kind: problem.Usage, Target: path, Message: "cannot be read: " + problem.Reason(err), Cause: err}
	}
	dir, only, err := scriptsAt(cfg, path, info.IsDir())
	if err != nil {
		return err
	}
	loaded, err := a.loadScripts(ctx, cfg, dir, nil) // all: two scripts may have one name
	if errors.Is(err, fs.ErrPermission) && dir == cfg.Scripts {
		return a.checkedByDaemon(ctx, cfg, report, err)
	}
	if err != nil {
		return err
	}
	for _, p := range loaded.playbooks() {
		if only.has(p.File) {
			report.Playbooks = append(report.Playbooks, p)
		}
	}
	for _, p := range loaded.Problems {
		if p.Place == nil || only.has(p.Place.File) {
			report.Problems = append(report.Problems, p)
		}
	}
	return nil
}

// checkedByDaemon reports what the daemon found in the scripts that only it may read;
// where there is none that tells, it returns why they cannot be read here.
func (a *app) checkedByDaemon(ctx context.Context, cfg *config.Config, report *checked, unreadable error) error {
	c := a.daemon(cfg)
	if !c.Alive(ctx) {
		return unreadable
	}
	s, err := c.Status(ctx)
	if err != nil {
		return errors.Join(unreadable, err)
	}
	for _, p := range s.Playbooks {
		if p.Bundle != "" && p.Error == nil {
			report.Playbooks = append(report.Playbooks, &bundle.Playbook{Name: p.Name, File: p.Script, Hash: p.Bundle})
		}
	}
	report.Problems = append(report.Problems, s.Scripts...)
	return nil
}

// part is a part of a scripts folder: a script, a tenant's folder, or "." for all of it.
type part string

func (p part) has(file string) bool {
	return p == "." || file == string(p) || strings.HasPrefix(file, string(p)+"/")
}

// scriptsAt returns the scripts folder of a script or folder, and which part of it that
// is: of the config's folder if it is below it, or among its hooks, else of the folder
// itself, or the one that the file stands in.
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

// below returns the path of a file or folder inside of dir, by its name or by where
// the links on the way to both lead. Its own last name may be a link.
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

func (a *app) showChecked(report *checked, asJSON bool) error {
	broken := len(report.Problems) > 0
	if asJSON {
		if err := writeJSON(a.stdout, report); err != nil {
			return err
		}
		return ended(map[bool]int{true: exitFailed}[broken], nil)
	}
	for _, p := range report.Playbooks {
		_, _ = plain.Fprintf(a.stdout, "ok      %-24s %s\n", p.Name, p.File)
	}
	for _, e := range report.Problems {
		_, _ = plain.Fprintf(a.stdout, "broken  %s\n", brokenWhat(e))
		if e.Place != nil && e.Place.Line > 0 {
			printPlace(a.stdout, e.Place)
		}
		if e.Hint != "" {
			_, _ = plain.Fprintf(a.stdout, "hint: %s\n", e.Hint)
		}
	}
	_, _ = plain.Fprintf(a.stdout, "%s in order, %s broken\n", count(len(report.Playbooks), "playbook"), count(len(report.Problems), "script"))
	return ended(map[bool]int{true: exitFailed}[broken], nil)
}

// brokenWhat names the script once: where the file itself is what is wrong, its
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
