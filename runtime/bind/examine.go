package bind

import "moonseal/runtime/problem"

// Finding is one thing that was looked at for a person: well, with a note, or not,
// with an error whose hint says how to fix it.
type Finding struct {
	What   string         `json:"what"`
	Tenant string         `json:"tenant,omitempty"` // whose playbooks it is for; "" for those at the top
	Note   string         `json:"note,omitempty"`
	Error  *problem.Error `json:"error,omitempty"`
}

// Examined makes what handles of a type stand for something that can be looked at:
// by "moonseal doctor". look changes nothing outside, and tries each password at
// most once. names are the hosts that the playbook's other handles are about. Of
// handles with the same key only one is looked at.
func Examined[T any](t *Type, key func(*T) string, look func(c *Call, v *T, names []string) []Finding) *Type {
	t.Key = func(v any) string {
		p, _ := v.(*T)
		return t.Name + " " + key(p)
	}
	t.Look = func(c *Call, v any, names []string) []Finding {
		p, _ := v.(*T)
		return look(c, p, names)
	}
	return t
}

// Hosted is a handle that is about hosts.
type Hosted interface {
	// HostNames are their whole names.
	HostNames() []string
}
