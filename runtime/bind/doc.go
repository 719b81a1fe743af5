// Package bind turns one spec per function into the checked Lua function, the
// editor's stub and the reference page.
//
// # Usage
//
// A module is a value that its package builds:
//
//	func Module() *bind.Module {
//		return &bind.Module{
//			Name: "dns", Doc: "Writes and watches DNS records.",
//			Functions: []*bind.Func{{
//				Name: "zone", Doc: "Describes a zone. Nothing is asked of anybody yet.",
//				Returns: "the zone", Example: `local zone = dns.zone { provider = "cloudflare", api_token = secret "T" }`,
//				Table: true, Impl: bind.Pure(newZone),
//			}},
//			Types: []*bind.Type{bind.Handle[Zone]("dns.Zone", 1, "A DNS zone.", &bind.Func{
//				Name: "present", …, Impl: bind.Effectful(bind.Effect[Zone, presentArgs, presentLook, []Record]{Look: …, Do: …, Probe: …, Undo: …}),
//			})},
//		}
//	}
//
// Arguments and results are Go structs whose fields carry tags:
//
//	Service string `lua:"service" doc:"the certificate's service, such as tomcat"`
//	Length  int    `lua:"key_length,optional" default:"2048" doc:"in bits"`
//	Type    string `lua:"key_type,optional" default:"rsa" enum:"rsa ec" doc:"the key's algorithm"`
//	_       struct{} `lua:",open"` // the struct takes keys that it does not know
//
// The fields of an argument struct are the function's arguments in their order;
// a field that is itself a plain struct is a table of options. With Table set,
// the function takes one table and the fields are its keys.
//
// Field types: string, bool, int, float64, time.Time (an instant: Unix seconds
// as a Lua number, nil when zero), time.Duration (a string such as "30d" or
// "1h30m", or a number of seconds), secret.Handle, slices, maps with string
// keys, plain structs (tables), pointers to handles (see [Handle]) and any
// (plain data).
//
// # Where a function may be called
//
// [Pure] functions only compute: anywhere. [Read] and [Effect] functions reach
// the outside world: only in a step. [Free] ones (log) anywhere in a run.
//
// # Effects
//
// An [Effect] is one call that changes the outside world. The engine calls
//
//	Look   reads only, and checks all that can be checked; may find the work done
//	       (the journal syncs the effect's mark: arguments, what Look saw, the undo)
//	Do     the change
//	Probe  after a lost answer or a crash: did it happen?
//	Undo   at the end of the run
//
// All of them get plain data only, so a fresh process can continue from the journal.
//
// # Errors
//
// A wrong argument is a *problem.Error of kind usage that names the function,
// the argument, what it got and what it expects. Errors of the implementation
// should be *problem.Error with Kind and Work set; Call is filled in here.
package bind
