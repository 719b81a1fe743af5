// Package modules lists what scripts can require. A new module is a folder and
// a line here.
package modules

import (
	"moonseal/modules/acme"
	"moonseal/modules/cucm"
	"moonseal/modules/dns"
	"moonseal/modules/log"
	"moonseal/runtime/bind"
)

// All returns fresh modules: their settings and caches belong to the caller.
func All() []*bind.Module {
	return []*bind.Module{acme.Module(), cucm.Module(), dns.Module(), log.Module()}
}
