package sandbox

import lua "github.com/yuin/gopher-lua"

// Protect makes t and the tables in it read-only.
func (s *State) Protect(t *lua.LTable) { s.protect(t, "this table") }
