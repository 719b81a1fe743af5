package run

import _ "embed" // the stub is a file, so that editors check it

// Stub is the LuaLS definition file of what every script has: ctx, playbook,
// secret and duration.
//
//go:embed builtins.lua
var Stub string
