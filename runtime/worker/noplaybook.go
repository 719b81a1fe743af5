package worker

import "moonseal/runtime/bundle"

// noPlaybook returns the error of a playbook that the scripts do not define.
func (w *work) noPlaybook() error {
	var names []string
	for _, p := range w.bundle.Playbooks {
		names = append(names, p.Name)
	}
	return bundle.NoPlaybook(w.job.Playbook, names, w.bundle.Problems)
}
