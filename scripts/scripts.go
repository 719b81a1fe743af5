// Package scripts holds the playbooks that ship with moonseal and the standard
// pipeline that they are made with.
package scripts

import (
	"embed"
	"io/fs"
	"testing/fstest"
)

//go:embed *.lua lib/moonseal/*.lua
var files embed.FS

// Embedded returns the scripts that every bundle finds beside its own, by the name
// that require knows them by.
func Embedded() map[string]string {
	return map[string]string{"moonseal.renew": read("lib/moonseal/renew.lua")}
}

// Playbooks returns what a new scripts folder is filled with.
func Playbooks() fs.FS {
	return fstest.MapFS{"cucm-tomcat.lua": {Data: []byte(read("cucm-tomcat.lua")), Mode: 0o644}}
}

func read(name string) string {
	data, err := files.ReadFile(name)
	if err != nil {
		panic(err) // the embed pattern above names it
	}
	return string(data)
}
