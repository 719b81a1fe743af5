package lab

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/cucm/cucmtest"
)

// Calls names all calls that a fault can hit, sorted.
func (w *World) Calls() []string {
	calls := append(acmetest.Calls(), cucmtest.Calls()...)
	for _, provider := range []string{"cloudflare", "digitalocean", "route53"} {
		for _, op := range []string{"zones", "list", "create", "delete"} {
			calls = append(calls, "dns."+provider+"."+op)
		}
	}
	calls = append(calls, "dns.doh.query", "dns.rfc2136.update", "dns.rfc2136.transfer", "dns.query", "dns.query.resolver")
	for i := range w.opt.PropagationDelay {
		calls = append(calls, fmt.Sprintf("dns.query.ns%d", i+1))
	}
	slices.Sort(calls)
	return calls
}

// checkCall refuses a name or pattern that would never hit.
func (w *World) checkCall(pattern string) error {
	for _, call := range w.Calls() {
		if ok, err := path.Match(pattern, call); err != nil || ok {
			return err
		}
	}
	return fmt.Errorf("no call is named %q; there are %s", pattern, strings.Join(w.Calls(), " "))
}
