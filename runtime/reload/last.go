package reload

import (
	"context"
	"maps"
	"strings"

	"moonseal/runtime/bundle"
)

// recall loads the version that [Options.Last] returns for broken scripts that have no
// good one, as after a restart. It asks once for each. The error is ctx's.
func (r *Reloader) recall(ctx context.Context, names []string) error {
	if r.options.Last == nil {
		return nil
	}
	var batch recalled
	for _, name := range names {
		s := r.scripts[name]
		if s == nil || s.asked || len(s.good) > 0 || len(s.problems) == 0 {
			continue
		}
		s.asked = true
		sources := r.options.Last(ctx, name)
		if sources[name] == "" {
			continue
		}
		if !batch.add(name, sources) {
			if err := r.recallAll(ctx, &batch); err != nil {
				return err
			}
			batch = recalled{}
			batch.add(name, sources)
		}
	}
	return r.recallAll(ctx, &batch)
}

// recalled are scripts whose sources can be loaded together: no two of them have
// different texts for one file.
type recalled struct {
	scripts []string
	files   map[string]string
}

func (b *recalled) add(name string, sources map[string]string) bool {
	if len(b.scripts) == batchScripts {
		return false
	}
	for file, text := range sources {
		if old, ok := b.files[file]; ok && old != text {
			return false
		}
	}
	if b.files == nil {
		b.files = map[string]string{}
	}
	maps.Copy(b.files, sources)
	maps.DeleteFunc(b.files, func(file, _ string) bool { return !strings.HasSuffix(file, ".lua") }) // the program's own
	b.scripts = append(b.scripts, name)
	return true
}

// recallAll loads them as the folder's scripts are. What no longer loads is left out:
// the script's own problem is logged already.
func (r *Reloader) recallAll(ctx context.Context, b *recalled) error {
	if len(b.scripts) == 0 {
		return nil
	}
	l := newLoading(&bundle.Tree{Files: b.files}, r.options.Load)
	if err := l.all(ctx, b.scripts, nil); err != nil {
		return err
	}
	for _, name := range b.scripts {
		s := r.scripts[name]
		for _, p := range l.playbooks[name] {
			var sources []Source
			for _, need := range p.Needs {
				if text, ok := b.files[need]; ok {
					sources = append(sources, Source{need, text})
				}
			}
			s.good = append(s.good, &Playbook{*p, sources})
		}
	}
	r.log.Info("broken scripts run as their last good version, recalled from the journal", "scripts", names(b.scripts))
	return nil
}
