// Package bind turns one spec per function into the checked Lua function, the
// editor's stub and the reference page.
//
// # Usage
//
// A module is a value that its package builds; the example of this package is one,
// with a handle, an effect and a plain table.
//
// Arguments and results are Go structs whose fields carry tags:
//
//	lua      its name in Lua, and ",optional" if it may be left out; on a field _
//	         ",open" lets the struct take keys that it does not know
//	doc      what it is, for stub and reference
//	default  its value if it is left out, as text
//	enum     the strings that it may be, separated by spaces
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
