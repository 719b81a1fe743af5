// Package bundle reads a folder of scripts, compiles them once, and finds the
// playbooks in them. [Read] takes the text only, and nothing runs; [Load] compiles it,
// and runs each script once.
//
// # The folder
//
// Each *.lua file returns a playbook, or a list of them. A folder in it is a
// tenant: the playbook bar in foo/baz.lua is called foo/bar. Files under lib/,
// and under a tenant's lib/, are for require only. A file under hooks/ returns a
// table of hooks, by event, that see the runs of all playbooks; another folder can
// replace it ([Reading.Hooks]). Names that begin with a dot,
// tests (*_test.lua), and files that are not *.lua are left alone.
//
// # require
//
// require "lib.util" returns what lib/util.lua returns; in a tenant's script
// tenant/lib/util.lua goes first. Then there are the modules of the [Env], such
// as acme, and its embedded scripts, such as moonseal.renew. Nothing else can be
// required, and the name is to be written out: a playbook's hash covers what it
// requires, wherever in it the require stands.
//
// # Purity
//
// Loading a script only builds tables. What the modules do when a script calls
// them while it is loaded is up to the code that makes them, in [Env.Open].
package bundle
